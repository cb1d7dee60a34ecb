"""Which versions of which data a piece of work read and wrote: noted where data are opened, asked for where it ends.

A note is an entry in a dictionary; where nobody takes notes, none is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

Version = int | str
"""Of a table: the number of its commit; of a release: its number; of a document: its name."""


class Size(NamedTuple):
    """Of files on disk, compressed as they are."""

    bytes: int
    files: int

    def plus(self, other: Size) -> Size:
        return Size(self.bytes + other.bytes, self.files + other.files)

    @classmethod
    def of(cls, files: Iterable[Path]) -> Size:
        sizes = [file.stat().st_size for file in files]
        return cls(sum(sizes), len(sizes))


NOTHING = Size(0, 0)
Sizes = Mapping[date | None, Size]
"""By the day of the window, None where it is of none."""


@dataclass(slots=True)
class Opened:
    """What was opened: path → version, and how many rows were read.

    Attributes:
        reads: of what was read several times, the newest number, or the last name.
        sizes_read: of the files that were opened for reading, whole, as often as they were.
        sizes_written: of the files that were added, by the day of the window they are of.
    """

    reads: dict[str, Version] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    writes: dict[str, Version] = field(default_factory=dict)
    sizes_read: dict[str, Size] = field(default_factory=dict)
    sizes_written: dict[str, dict[date | None, Size]] = field(default_factory=dict)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note here what is opened meanwhile, by this thread."""
        token = _notes.set(self)
        try:
            yield
        finally:
            _notes.reset(token)


@contextmanager
def unnoted() -> Iterator[None]:
    """What is opened meanwhile, by this thread, is no data set: whoever takes notes is not told."""
    token = _notes.set(None)
    try:
        yield
    finally:
        _notes.reset(token)


_notes: ContextVar[Opened | None] = ContextVar("opened", default=None)


def noted() -> bool:
    """Whether anybody takes notes: what only a note needs is not worth finding out otherwise."""
    return _notes.get() is not None


def note_read(path: Path, version: Version, rows: int | None = None, size: Size | None = None) -> None:
    """Something was read."""
    notes = _notes.get()
    if notes is None:
        return
    key = str(path)
    known = notes.reads.get(key)
    notes.reads[key] = max(known, version) if isinstance(known, int) and isinstance(version, int) else version
    if rows is not None:
        notes.rows[key] = notes.rows.get(key, 0) + rows
    if size is not None:
        notes.sizes_read[key] = notes.sizes_read.get(key, NOTHING).plus(size)


def note_written(path: Path, version: Version, sizes: Sizes | None = None) -> None:
    """Something was written."""
    notes = _notes.get()
    if notes is None:
        return
    notes.writes[str(path)] = version
    if sizes is not None:
        known = notes.sizes_written.setdefault(str(path), {})
        for day, size in sizes.items():
            known[day] = known.get(day, NOTHING).plus(size)
