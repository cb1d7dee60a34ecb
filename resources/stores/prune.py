"""What a Delta table keeps for those who ask for it as it was, and what of that nobody needs any more.

Delta keeps what was replaced for ever, and a window that is served each minute leaves a file each time. A version is
kept that was the newest at some time since a moment. Files that no kept version has, and entries of the log that lead
to none, go; so do files that nobody committed, as of a run that died, when they are as old.

Not by deltalake's `vacuum`: it makes two commits of its own, for who looks for what is new to find, and of what was
removed it knows what the last checkpoint tells, which is that of a week.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

from resources.stores.delta_log import LOG, added, checkpoints, commits, entries, is_readable
from resources.stores.opened import NOTHING, Size
from resources.stores.tables import storage_errors


@dataclass(frozen=True, slots=True)
class Pruned:
    """What goes of a table, or would.

    Attributes:
        since: the oldest version that can still be read.
        data: replaced files, and such as nobody committed.
        log: entries and checkpoints.
        kept: files of versions that can still be read, the newest among them.
    """

    since: int
    data: Size = NOTHING
    log: Size = NOTHING
    kept: Size = NOTHING


def prune(path: Path, before: datetime, *, dry_run: bool = False) -> Pruned | None:
    """Remove from a table what only versions had that were replaced before a moment; None where there is no table.

    Who began to read a version before that moment may miss its files.

    Args:
        dry_run: only tell.

    Raises:
        OSError: a file cannot be removed; others may have been.
    """
    if not (path / LOG).is_dir() or not (told := commits(path)):
        return None
    with storage_errors(path):
        since = _oldest_kept(path, told, before.timestamp())
        needed = _files_since(path, since, told)
        data, kept = _by_need(path, needed, before.timestamp())
        log = list(_log_before(path, since))
        pruned = Pruned(since, _sum(data), Size.of(log), _sum(kept))
        if not dry_run and (data or log):
            # Nothing goes before the disk has all that took its place: a clock may have gone on by days at once.
            os.sync()
            for file in (*data, *log):
                file.unlink(missing_ok=True)
    return pruned


def _oldest_kept(path: Path, told: list[tuple[int, Path]], before_s: float) -> int:
    """The version that was the newest at a moment, or the first that the log still leads to."""
    first, _ = told[0]
    oldest = first if first == 0 else min((v for v in checkpoints(path) if v >= first - 1), default=told[-1][0])
    after = next((version for version, file in told if file.stat().st_mtime > before_s), told[-1][0] + 1)
    return max(oldest, after - 1)


def _files_since(path: Path, since: int, told: list[tuple[int, Path]]) -> set[Path]:
    """Every file of a version, and what was added after it."""
    from deltalake import DeltaTable

    names = DeltaTable(str(path), version=since).get_add_actions(flatten=True)["path"].to_pylist()
    needed = {path / unquote(name) for name in names} | {path / name for name in names}
    for version, file in told:
        if version > since:
            needed |= set(added(path, entries(file) or ()))
    return needed


def _by_need(path: Path, needed: set[Path], before_s: float) -> tuple[dict[Path, int], dict[Path, int]]:
    """Files that can go, and those that cannot, with their sizes: what is being written is not old."""
    data: dict[Path, int] = {}
    kept: dict[Path, int] = {}
    for file in _parquet(path):
        with suppress(FileNotFoundError):  # others remove files as well
            found = file.stat()
            old = file not in needed and found.st_mtime <= before_s
            (data if old else kept)[file] = found.st_size
    return data, kept


def _sum(files: Mapping[Path, int]) -> Size:
    return Size(sum(files.values()), len(files))


def _parquet(path: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
        yield from (Path(folder) / name for name in names if name.endswith(".parquet"))


def _log_before(path: Path, since: int) -> Iterator[Path]:
    """What leads to versions before `since` only: it is read from the last checkpoint before it, which is whole."""
    start = next((v for v in reversed(checkpoints(path)) if v <= since and is_readable(checkpoints(path)[v])), None)
    if start is not None:
        yield from (file for version, file in commits(path) if version < start)
        yield from (file for version, file in checkpoints(path).items() if version < start)
