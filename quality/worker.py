"""The quality worker: a process that has imported Great Expectations once, and validates what it is sent.

    python -m quality.worker SOCKET [--idle-s SECONDS]

One at a time serves a socket, whoever starts how many. It ends by itself when nobody has asked it for a while, or
when the folder of its socket is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import filelock

from quality.data_docs import Page, write_pages
from quality.requests import Batch
from quality.validation import validate, warm_up
from quality.wire import address, answer_of, error_of, receive, request_of, send

DOCS = "docs"
"""Folder of the pages, beside the socket."""
ADDRESS = "docs.url"
"""File beside it: where the pages are served, while they are."""
LOCK, PID = ".lock", ".pid"
"""Files beside the socket: the first is locked by the process that serves, or is about to; the second says which."""
IDLE_S = 900.0
_LOOK_S = 2.0
_STALLED_S = 60.0
"""A peer that sends nothing for so long in the middle of a message is given up; others wait meanwhile."""


def serve(path: Path, *, idle_s: float = IDLE_S) -> None:
    """Serve a socket until idle, or until its folder is gone; returns at once where another process serves it."""
    lock = filelock.FileLock(path.with_suffix(LOCK))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return
    with lock, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path.with_suffix(PID).write_text(str(os.getpid()), encoding="ascii")
        warm_up()  # before there is anything to connect to: whoever can connect finds it warm
        path.unlink(missing_ok=True)
        with address(path) as where:
            listener.bind(where)
        path.chmod(0o600)
        listener.listen(16)
        listener.settimeout(_LOOK_S)
        try:
            _serve(listener, path, idle_s)
        finally:
            path.unlink(missing_ok=True)


def _serve(listener: socket.socket, path: Path, idle_s: float) -> None:
    asked = time.monotonic()
    while time.monotonic() - asked < idle_s and path.exists():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        pages: list[Page] = []
        # Whatever a peer does, the next one is served.
        with connection, contextlib.suppress(OSError, EOFError):
            connection.settimeout(_STALLED_S)
            pages = _answer(connection)
        if pages:
            _render(path.parent / DOCS, pages)
        asked = time.monotonic()


def _answer(connection: socket.socket) -> list[Page]:
    """Answer a request; the pages that are to be rendered when the peer has gone."""
    parts = receive(connection)
    pages: list[Page] = []
    try:
        asked = request_of(parts)
        pages = [one for one in asked if isinstance(one, Page)]
        answer = answer_of(validate([one for one in asked if isinstance(one, Batch)]))
    except Exception as error:
        answer = error_of(error)
    send(connection, [answer])
    return pages


def _render(folder: Path, pages: Sequence[Page]) -> None:
    try:
        write_pages(folder, pages)
    except Exception as error:  # of no page does a verdict depend
        print(f"Data Docs: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m quality.worker")
    parser.add_argument("socket", type=Path)
    parser.add_argument("--idle-s", type=float, default=IDLE_S)
    given = parser.parse_args(arguments)
    # Runs come first: a check that takes a little longer delays nobody.
    with contextlib.suppress(OSError):
        os.nice(5)
    serve(given.socket, idle_s=given.idle_s)
    return 0


if __name__ == "__main__":
    code = main()
    # Whoever sees its lock free takes it for gone, and an interpreter takes its time to tidy up so many imports.
    sys.stderr.flush()
    os._exit(code)
