"""What a Delta table holds after a power failure: commits are confirmed by the disk, and torn ones taken back.

Delta's writer leaves it to the operating system when its files reach the disk, and in which order. After a power
failure the log may name files that are empty or cut short, and then nobody can read the table any more.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint.*\.parquet")
_HINT = "_last_checkpoint"


def confirm(path: Path, since: int) -> int:
    """Have the disk confirm every commit after a version: its files, its entry in the log, and their folders.

    Args:
        since: a version that was confirmed before; -1: none was.

    Returns:
        The newest version, confirmed now; -1 where there is no table yet.

    Raises:
        OSError: the disk does not confirm. Whether it has the files is unknown; they are to be written anew.
    """
    log = path / "_delta_log"
    commits = _commits_after(log, since)
    if not commits:
        return since
    folders: set[Path] = set()
    for _, commit in commits:
        for file in _added(path, _lines(commit) or []):
            if file.exists():  # what a later commit has removed may be gone
                _sync([file])
                folders |= {parent for parent in file.parents if parent.is_relative_to(path)}
    _sync(sorted(folders, key=lambda folder: len(folder.parts), reverse=True))
    checkpoints = [file.with_name(f"{version:020d}.checkpoint.parquet") for version, file in commits]
    _sync(file for file in (*checkpoints, log / _HINT) if file.exists())
    _sync(file for _, file in commits)
    _sync([log, path, path.parent])
    return commits[-1][0]


def take_back_torn(path: Path, since: int) -> Sequence[int]:
    """Take the first commit that a power failure tore, and all after it, out of the log.

    Only commits after `since`, the last that was confirmed, are looked at: nobody was told that they are there, and
    whoever made them makes them again. To be called while nobody writes.

    Returns:
        The versions that were taken back; none where every commit is whole.
    """
    log = path / "_delta_log"
    commits = [(version, file) for version, file in _numbered(log, _COMMIT) if version > since]
    told = [(version, file, _lines(file)) for version, file in commits]
    removed = {action["remove"]["path"] for _, _, actions in told for action in actions or [] if "remove" in action}
    torn = next((version for version, _, actions in told if not _whole(path, actions, removed)), None)
    _drop_torn_checkpoints(log, since, torn)
    gone = [(version, file) for version, file in reversed(commits) if torn is not None and version >= torn]
    for _, file in gone:  # the newest first: a log never has a gap
        file.unlink()
    if log.is_dir() and not _numbered(log, _COMMIT):
        shutil.rmtree(log)  # a log without commits is no table, but looks like one
    elif gone:
        _sync([log])
    return [version for version, _ in reversed(gone)]


def _commits_after(log: Path, since: int) -> list[tuple[int, Path]]:
    if since < 0:
        return _numbered(log, _COMMIT)
    # A log may hold a hundred thousand files, and what is new in it is asked for every few seconds.
    files = ((version, log / f"{version:020d}.json") for version in count(since + 1))
    return list(takewhile(lambda commit: commit[1].exists(), files))


def _drop_torn_checkpoints(log: Path, since: int, torn: int | None) -> None:
    """Checkpoints only repeat what commits say; any can go that is new, and not whole or of what is taken back."""
    dropped = False
    for version, file in _numbered(log, _CHECKPOINT):
        if version > since and ((torn is not None and version >= torn) or not _readable(file)):
            file.unlink()
            dropped = True
    hint = log / _HINT
    if hint.exists() and (dropped or not _lines(hint)):
        hint.unlink()


def _whole(path: Path, actions: Sequence[Mapping[str, Any]] | None, removed: set[str]) -> bool:
    if not actions or not any("commitInfo" in action for action in actions):
        return False
    for added in (action["add"] for action in actions if "add" in action and action["add"]["path"] not in removed):
        file = path / unquote(added["path"])
        if not file.exists() or file.stat().st_size != added["size"] or not _readable(file):
            return False
    return True


def _readable(file: Path) -> bool:
    """Whether all of a Parquet file can be read: a torn one may well have its length, with zeros in it."""
    try:
        _forget_cached(file)
        with pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                parquet.read_row_group(group)
    except (OSError, pa.ArrowException):
        return False
    return True


def _forget_cached(file: Path) -> None:
    """Have the system read from the disk what it may still have in memory, where it can be told: what it could not
    write it may keep there, and count as written."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _added(path: Path, actions: Iterable[Mapping[str, Any]]) -> Iterator[Path]:
    return (path / unquote(action["add"]["path"]) for action in actions if "add" in action)


def _lines(file: Path) -> list[Any] | None:
    """What a file of JSON lines says; None where it says nothing, or is cut short."""
    try:
        _forget_cached(file)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] or None
    except ValueError:
        return None


def _numbered(log: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    if not log.is_dir():
        return []
    matches = ((pattern.fullmatch(file.name), file) for file in log.iterdir())
    return sorted((int(match[1]), file) for match, file in matches if match)


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
