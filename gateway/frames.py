"""How records stand in a file of the spool, and how they are found again where bytes were damaged.

A file's name says its number, the position of its first record, and its spool's id: what can be read does not hang on
the header, which says the same with a checksum. Then come frames, one a record, integers little-endian:

    mark u16 | check u16 | crc u32 | length u32 | nth u32 | position u64 | payload

`crc` is CRC-32 over length, nth, position and payload, `check` the low half of that over the first three alone. Both
start from the spool's id, which no sender knows: nothing inside a payload can pass for a frame, nor can what an older
spool left on the disk. `nth` counts the records of one append: a frame whose append began after a position proves
that the disk had confirmed that position.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from backbone.errors import ConfigurationError

LONGEST = 16 << 20
"""Bytes of a record at most."""

_MAGIC, _VERSION = b"hyspool\n", 1
_FILE_HEAD = struct.Struct("<8sIQQ8sI")
FILE_HEAD = _FILE_HEAD.size
_LEAD = struct.Struct("<HHI")
_BODY = struct.Struct("<IIQ")
_BOTH = struct.Struct("<HHIIIQ")
FRAME_HEAD = _BOTH.size
_MARK = 0x5AF3
_MARK_BYTES = _MARK.to_bytes(2, "little")
_NAME = re.compile(r"(\d{10})-(\d{20})-([0-9a-f]{16})\.spool")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class SegmentName:
    """Of a file of the spool.

    Attributes:
        number: of the files of a spool, in the order they were begun.
        first: position of its first record.
    """

    number: int
    first: int
    spool: str

    def __str__(self) -> str:
        return f"{self.number:010d}-{self.first:020d}-{self.spool}.spool"

    @classmethod
    def parse(cls, name: str) -> SegmentName | None:
        """None: no file of a spool is named so."""
        found = _NAME.fullmatch(name)
        return cls(int(found[1]), int(found[2]), found[3]) if found else None

    @property
    def seed(self) -> int:
        return seed_of(self.spool)

    def head(self) -> bytes:
        """The file's header."""
        said = _FILE_HEAD.pack(_MAGIC, _VERSION, self.number, self.first, bytes.fromhex(self.spool), 0)[:-4]
        return said + crc32(said).to_bytes(4, "little")

    def verify(self, head: bytes) -> bool:
        """Whether the header says what the name says.

        Raises:
            ConfigurationError: another version of the format.
        """
        if len(head) == FILE_HEAD and crc32(head[:-4]) == int.from_bytes(head[-4:], "little"):
            magic, version, *_ = _FILE_HEAD.unpack(head)
            if magic == _MAGIC and version != _VERSION:
                raise ConfigurationError(
                    f"{self} is of format {version} of the spool; this gateway reads format {_VERSION}.",
                    next_step="Drain it with the version that wrote it, or give the gateway another folder.",
                )
        return head == self.head()


def seed_of(spool: str) -> int:
    return crc32(spool.encode())


def framed(records: Iterable[tuple[int, int, bytes]], seed: int) -> bytes:
    """Frames of records, each with its position and its place in its append."""
    parts: list[bytes] = []
    add, body_of, lead_of, checksum = parts.append, _BODY.pack, _LEAD.pack, crc32
    for position, nth, payload in records:
        body = body_of(len(payload), nth, position)
        check = checksum(body, seed)
        add(lead_of(_MARK, check & 0xFFFF, checksum(payload, check)))
        add(body)
        add(payload)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Gap:
    """Positions that are not there to be read.

    Attributes:
        begin, end: from, and up to but without; equal where bytes are damaged that were of no record.
        segment: the file; empty where there is none.
        at, size: the damaged bytes in it; none where the file is whole without these positions.
        certain: the disk had confirmed the first of them; otherwise a power cut may have come before.
    """

    begin: int
    end: int
    segment: str
    at: int
    size: int
    certain: bool


class Frame(NamedTuple):
    """A record; `nth` of its append, `at` in its file."""

    position: int
    nth: int
    payload: bytes
    at: int

    @property
    def after(self) -> int:
        """Where the next frame begins."""
        return self.at + FRAME_HEAD + len(self.payload)


def frames(
    read: Callable[[int, int], bytes],
    name: SegmentName,
    *,
    at: int = FILE_HEAD,
    position: int | None = None,
    end: int | None = None,
) -> Iterator[Frame | Gap]:
    """What stands in a file, in order: frames that verify, and the gaps between them.

    Args:
        read: bytes of the file, from, how many.
        at, position: where the first frame is expected, and which.
        end: the position after the file's last, of a file that nothing is added to any more. A gap tells what is
            missing before it. None: the bytes after the last frame that verifies come as a gap without positions.
    """
    window, seed, text = _Window(read), name.seed, str(name)
    expected = name.first if position is None else position
    while end is None or expected < end:
        found = _frame(window, at, seed, expected, end)
        start = at
        if found is None:
            found = _next_frame(window, at, seed, expected, end)
        if found is None:
            size = window.size_from(at)
            if size or end is not None:
                yield Gap(expected, expected if end is None else end, text, at, size, end is not None)
            return
        if found.position > expected or found.at > start:
            size = found.at - start
            certain = found.position - found.nth > expected or (end is not None and size > 0)
            yield Gap(expected, found.position, text, start, size, certain)
        yield found
        at, expected = found.after, found.position + 1


class _Window:
    """A part of a file in memory; moves on as it is asked for bytes further on."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self.base, self.data = 0, b""

    def load(self, at: int, size: int) -> int:
        """Where in `data` the byte at `at` is. Fewer than `size` bytes follow it only where the file ends."""
        start = at - self.base
        if start < 0 or start + size > len(self.data):
            self.base, self.data = at, self._read(at, max(size, _CHUNK))
            start = 0
        return start

    def size_from(self, at: int) -> int:
        total = 0
        while got := len(self._read(at + total, _CHUNK)):
            total += got
        return total


def _frame(window: _Window, at: int, seed: int, expected: int, end: int | None) -> Frame | None:
    """The frame at `at`, if one is there that may follow."""
    start = window.load(at, FRAME_HEAD)
    data = window.data
    if len(data) - start < FRAME_HEAD:
        return None
    mark, check, crc, length, nth, position = _BOTH.unpack_from(data, start)
    if mark != _MARK or length > LONGEST or position < expected or (end is not None and position >= end):
        return None
    seeded = crc32(data[start + _LEAD.size : start + FRAME_HEAD], seed)
    if seeded & 0xFFFF != check:
        return None
    start = window.load(at, FRAME_HEAD + length) + FRAME_HEAD
    payload = window.data[start : start + length]
    if len(payload) < length or crc32(payload, seeded) != crc:
        return None
    return Frame(position, nth, payload, at)


def _next_frame(window: _Window, at: int, seed: int, expected: int, end: int | None) -> Frame | None:
    """The first frame after a damaged one at `at`: a frame of any later position."""
    at += 1
    while True:
        start = window.load(at, FRAME_HEAD)
        data = window.data
        if len(data) - start < FRAME_HEAD:
            return None
        here = data.find(_MARK_BYTES, start)
        if here < 0:
            at = window.base + len(data) - 1  # a mark may begin with the last byte
            continue
        at = window.base + here
        if (found := _frame(window, at, seed, expected, end)) is not None:
            return found
        at += 1
