"""What a Delta table holds after a power failure: commits are confirmed by the disk, and torn ones taken back.

Delta's writer leaves it to the operating system when its files reach the disk, and in which order. After a power
failure the log may name files that are empty or cut short, and then nobody can read the table any more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import filelock

from backbone.errors import IntegrityError
from resources.stores.delta_log import LOG, added, checkpoints, commits, entries, is_readable
from resources.stores.followed import forget

_CONFIRMED = "_confirmed"
_HINT = "_last_checkpoint"
_TORN_WITHIN_S = 86_400.0
"""Between the oldest commit that is taken back and the newest: the disk has by itself what is older by far. A file
that was damaged later must not cost all that came after it."""


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a table's lock: one at a time adds to it, merges its files, confirms it or takes back."""
    with filelock.FileLock(path.with_suffix(".lock")):
        yield


def confirm(path: Path) -> None:
    """Have the disk confirm every commit that it has not been known to: files, entries in the log, their folders.

    All of them, whoever made them: a commit is worth nothing without those before it. Which is the newest that is
    confirmed stands in the log, for all who write there, and is on the disk after everything that it tells of. Nobody
    else adds meanwhile, or asks the disk for the same files: an error is told once, to who asks first.

    Raises:
        OSError: the disk does not confirm. Whether it has the files is unknown; what it has not was taken back, from
            whoever made it, and is to be made anew.
    """
    if not (path / LOG).is_dir():
        return
    with alone(path):
        try:
            _confirm(path)
        except OSError:
            _take_back_torn(path)
            raise


def take_back_torn(path: Path) -> Sequence[int]:
    """Take out of the log what a power failure tore, and all that came after it.

    Only commits after the newest that was confirmed are looked at: nobody was told that they are there, and whoever
    made them makes them again. Before anybody's first commit after a power failure: it would be taken back with those
    it rests on.

    Returns:
        The versions that were taken back; none where the table is whole.

    Raises:
        IntegrityError: what cannot be read is older than what a power failure can have torn; nothing was taken back.
    """
    if not (path / LOG).is_dir():
        return []
    with alone(path):
        return _take_back_torn(path)


def confirmed(path: Path) -> int:
    """The newest version that the disk has confirmed; -1: none is known to be."""
    try:
        return int((path / LOG / _CONFIRMED).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return -1


def _confirm(path: Path) -> None:
    log = path / LOG
    unconfirmed = _commits_after(path, confirmed(path))
    if not unconfirmed:
        return
    folders: set[Path] = set()
    for _, commit in unconfirmed:
        for file in added(path, entries(commit) or []):
            if file.exists():  # what a later commit has removed may be gone
                _sync([file])
                folders |= {parent for parent in file.parents if parent.is_relative_to(path)}
    _sync(sorted(folders, key=lambda folder: len(folder.parts), reverse=True))
    told_again = [file.with_name(f"{version:020d}.checkpoint.parquet") for version, file in unconfirmed]
    _sync(file for file in (*told_again, log / _HINT) if file.exists())
    _sync(file for _, file in unconfirmed)
    _sync([log, path, path.parent])
    _note_confirmed(log, unconfirmed[-1][0])


def _note_confirmed(log: Path, version: int) -> None:
    """An older note may come back after a power failure: more is looked at then."""
    partial = log / f".{_CONFIRMED}"
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(str(version))
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(log / _CONFIRMED)


def _take_back_torn(path: Path) -> Sequence[int]:
    log = path / LOG
    since = confirmed(path)
    unsure = [(version, file) for version, file in commits(path) if version > since]
    whole = _how_many_are_whole(path, [entries(file) for file in _without_gap(path, since, unsure)])
    gone = unsure[whole:]
    if gone and unsure[-1][1].stat().st_mtime - gone[0][1].stat().st_mtime > _TORN_WITHIN_S:
        raise IntegrityError(
            f"{path} names files, from version {gone[0][0]} on, that are gone or cannot be read, and were there long "
            "before any power failure.",
            next_step="Bring the files back; or, if they are lost, take them out of the table with Delta's own tools.",
        )
    _drop_torn_checkpoints(path, since, newest=unsure[whole - 1][0] if whole else since)
    for _, file in reversed(gone):  # the newest first: a log never has a gap
        file.unlink()
    if not commits(path) and not checkpoints(path):
        shutil.rmtree(log)  # a log without commits is no table, but looks like one
    elif gone:
        _sync([log])
    forget(path)
    return [version for version, _ in gone]


def _commits_after(path: Path, since: int) -> list[tuple[int, Path]]:
    # A log may hold a hundred thousand files, and what is new in it is asked for every few seconds.
    files = ((version, path / LOG / f"{version:020d}.json") for version in count(since + 1))
    following = list(takewhile(lambda commit: commit[1].exists(), files))
    # Where it was cleaned up meanwhile it goes on later.
    return following or [(version, file) for version, file in commits(path) if version > since]


def _without_gap(path: Path, since: int, unsure: Sequence[tuple[int, Path]]) -> list[Path]:
    """Entries up to the first that the disk has lost. One that was cleaned up a checkpoint tells of."""
    expected = since + 1
    if unsure and (first := unsure[0][0]) > expected and any(n >= first - 1 for n in checkpoints(path)):
        expected = first
    return [file for n, (version, file) in enumerate(unsure) if version == expected + n]


def _how_many_are_whole(path: Path, told: Sequence[Sequence[Mapping[str, Any]] | None]) -> int:
    """After how many of these commits, at most, every file that they added and have not removed again is whole.

    Not before the first torn file: a commit that merged it with others may have reached the disk, and the file may not.
    Nor may it be left out where that one has not: then the table needs it.
    """

    @cache
    def is_whole(name: str, size: int) -> bool:
        file = path / unquote(name)
        return file.exists() and file.stat().st_size == size and is_readable(file)

    complete = [actions or () for actions in told]
    complete = list(takewhile(lambda actions: any("commitInfo" in action for action in actions), complete))
    for several in range(len(complete), 0, -1):
        added: dict[str, int] = {}
        for action in chain.from_iterable(complete[:several]):
            if "add" in action:
                added[action["add"]["path"]] = action["add"]["size"]
            elif "remove" in action:
                added.pop(action["remove"]["path"], None)
        if all(is_whole(name, size) for name, size in added.items()):
            return several
    return 0


def _drop_torn_checkpoints(path: Path, since: int, newest: int) -> None:
    """Checkpoints only repeat what commits say; any can go that is new, and not whole or of what is not there."""
    for version, file in checkpoints(path).items():
        if version > newest or (version > since and not is_readable(file)):
            file.unlink()
    hint, there = path / LOG / _HINT, checkpoints(path)
    if hint.exists() and not any(told.get("version") in there for told in entries(hint) or ()):
        hint.unlink()


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
