"""Delta tables that stay open: once a table is open, only the commits made since are read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltalake import DeltaTable

_MOST_OPEN = 32
"""Tables that stay open in one thread; more are opened anew when they are asked for."""

_Stamp = tuple[int, int, int] | None
"""Number, time of writing and size of a file: what tells it from another under its name; None: there is none."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What an open table rests on: its latest known commit, and the checkpoint it was opened from.

    A log is only ever cleaned up behind a new checkpoint; a table taken away and made anew has other commits.
    """

    version: int
    commit: _Stamp
    checkpoint: _Stamp

    def holds(self, path: Path, checkpoint: _Stamp) -> bool:
        return self.commit is not None and (_stamp(_file(path, self.version)), checkpoint) == (
            self.commit,
            self.checkpoint,
        )


class _Open(threading.local):
    """The open tables of one thread; a table that follows its log must not do so under another thread's hands."""

    def __init__(self) -> None:
        self.tables: OrderedDict[Path, tuple[DeltaTable, _Known]] = OrderedDict()


_open = _Open()


def latest(path: Path) -> DeltaTable:
    """The table in a local folder, as of its last commit.

    Opening a table reads every commit since its last checkpoint, up to a hundred files. One that is open already
    looks for the file of the next commit, and reads only what is new.

    Raises:
        deltalake.exceptions.TableNotFoundError: there is none.
    """
    from deltalake import DeltaTable

    checkpoint = _stamp(path / "_delta_log" / "_last_checkpoint")
    table, known = _open.tables.pop(path, (None, None))
    if table is None or known is None or not known.holds(path, checkpoint):
        table = DeltaTable(str(path))
    elif table.version() != known.version or _file(path, known.version + 1).exists():
        # Who writes through a table takes it to the commit that made; others may have been quicker.
        table.update_incremental()
    else:
        _keep(path, table, known)
        return table
    version = table.version()
    _keep(path, table, _Known(version, _stamp(_file(path, version)), checkpoint))
    return table


def forget(path: Path) -> None:
    """Have this thread open the table anew: its log does not go on from where it was."""
    _open.tables.pop(path, None)


def _keep(path: Path, table: DeltaTable, known: _Known) -> None:
    _open.tables[path] = table, known
    if len(_open.tables) > _MOST_OPEN:
        _open.tables.popitem(last=False)


def _stamp(file: Path) -> _Stamp:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _file(path: Path, version: int) -> Path:
    return path / "_delta_log" / f"{version:020}.json"
