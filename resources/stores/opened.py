"""Which versions of which data a piece of work read and wrote: noted where data are opened, asked for where it ends.

A note is an entry in a dictionary; where nobody takes notes, none is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

Version = int | str
"""Of a table: the number of its commit; of a release: its number; of a document: its name."""


@dataclass(slots=True)
class Opened:
    """What was opened: path → version, and how many rows were read.

    Attributes:
        reads: of what was read several times, the newest number, or the last name.
    """

    reads: dict[str, Version] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    writes: dict[str, Version] = field(default_factory=dict)

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


def note_read(path: Path, version: Version, rows: int | None = None) -> None:
    """Something was read."""
    notes = _notes.get()
    if notes is None:
        return
    key = str(path)
    known = notes.reads.get(key)
    notes.reads[key] = max(known, version) if isinstance(known, int) and isinstance(version, int) else version
    if rows is not None:
        notes.rows[key] = notes.rows.get(key, 0) + rows


def note_written(path: Path, version: Version) -> None:
    """Something was written."""
    notes = _notes.get()
    if notes is not None:
        notes.writes[str(path)] = version
