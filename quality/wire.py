"""How the quality worker and those who ask it talk: messages with a length before them, over a Unix socket.

A request is a JSON header and the batches' rows as Arrow IPC streams; an answer is JSON. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from quality.data_docs import Page
from quality.requests import Batch, Expectation, Outcome

_LENGTH = struct.Struct(">Q")
_MOST_BYTES = 4 << 30
_LONGEST_ADDRESS = 100
"""The kernel takes 108 bytes."""


def to_validate(batches: Sequence[Batch]) -> list[bytes]:
    """The parts of a request to validate."""
    header = [{"name": b.name, "expectations": [e.to_json() for e in b.expectations]} for b in batches]
    return [json.dumps({"batches": header}).encode(), *(_stream(b.rows) for b in batches)]


def to_render(pages: Sequence[Page]) -> list[bytes]:
    """The parts of a request to render pages; it is answered before they are there."""
    return [json.dumps({"pages": [page.to_json() for page in pages]}).encode()]


def request_of(parts: Sequence[bytes]) -> list[Batch] | list[Page]:
    """What is asked for: batches to validate, or pages to render.

    Raises:
        ValueError, KeyError: it is no request.
    """
    header, *streams = parts
    asked = json.loads(header)
    if "pages" in asked:
        return [Page.from_json(page) for page in asked["pages"]]
    return [
        Batch(
            str(one["name"]),
            pyarrow.ipc.open_stream(stream).read_all(),
            [Expectation.from_json(e) for e in one["expectations"]],
        )
        for one, stream in zip(asked["batches"], streams, strict=True)
    ]


def answer_of(outcomes: Sequence[Outcome]) -> bytes:
    return json.dumps({"outcomes": [o.to_json() for o in outcomes]}).encode()


def error_of(error: Exception) -> bytes:
    return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()


def outcomes_of(answer: bytes) -> list[Outcome]:
    """The outcomes in an answer.

    Raises:
        ValueError: the worker says that it could not understand what it was asked.
    """
    told: dict[str, Any] = json.loads(answer)
    if "error" in told:
        raise ValueError(str(told["error"]))
    return [Outcome.from_json(o) for o in told["outcomes"]]


def send(connection: socket.socket, parts: Sequence[bytes]) -> None:
    """One message, in so many parts."""
    connection.sendall(_LENGTH.pack(len(parts)))
    for part in parts:
        connection.sendall(_LENGTH.pack(len(part)))
        connection.sendall(part)


def receive(connection: socket.socket) -> list[bytes]:
    """One message's parts.

    Raises:
        EOFError: the other side has closed the connection in the middle, or before.
        ValueError: it is no message of ours.
    """
    count = _LENGTH.unpack(_exactly(connection, _LENGTH.size))[0]
    if count > 1 << 16:
        raise ValueError(f"A message of {count} parts is none of ours.")
    return [_part(connection) for _ in range(count)]


def _part(connection: socket.socket) -> bytes:
    size = _LENGTH.unpack(_exactly(connection, _LENGTH.size))[0]
    if size > _MOST_BYTES:
        raise ValueError(f"A part of {size} bytes is none of ours.")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view, have = memoryview(buffer), 0
    while have < size:
        came = connection.recv_into(view[have:], size - have)
        if not came:
            raise EOFError("The connection was closed.")
        have += came
    return bytes(buffer)


@contextmanager
def address(path: Path) -> Iterator[str]:
    """What to bind or connect to for a socket at `path`, however long that is.

    Raises:
        OSError: its folder is not there, or the path is too long on a system without /proc.
    """
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _stream(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())
