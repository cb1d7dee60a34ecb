"""The recording conduit between stores on one file system: copies, checks the digest, writes it down."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from backbone.conduit import Crossing, StorePath
from backbone.errors import IntegrityError
from resources.state.plant_state import State
from resources.stores.tables import storage_errors


class RecordingConduit:
    """The only writer into a store from outside its location.

    Args:
        root_of: location name → root of its store.
    """

    def __init__(self, root_of: Callable[[str], Path], state: State, *, now: Callable[[], datetime]) -> None:
        self._root_of, self._state, self._now = root_of, state, now

    def carry(self, what: str, source: StorePath, destination: StorePath, *, run_id: str) -> Crossing:
        """See `backbone.conduit.Conduit.carry`."""
        origin, target = self._resolve(source), self._resolve(destination)
        if not origin.exists():
            raise IntegrityError(f"There is nothing at {source} to carry.", next_step="Materialize it first.")
        sent, files, size = digest_of(origin)
        arriving = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        arriving.parent.mkdir(parents=True, exist_ok=True)
        try:
            with storage_errors(target):
                _copy(origin, arriving)
            arrived, _, _ = digest_of(arriving)
            if arrived != sent:
                raise IntegrityError(
                    f"{what} arrived at {destination.location} as {arrived}, but was sent as {sent}.",
                    next_step="Run the step again; if it happens twice, check the disk and the link.",
                )
            _replace(arriving, target)
        finally:
            _remove(arriving)
        crossing = Crossing(what, source, destination, files, size, sent, self._now(), run_id)
        self._state.record_crossing(crossing)
        return crossing

    def _resolve(self, path: StorePath) -> Path:
        root = self._root_of(path.location).resolve()
        resolved = (root / path.path).resolve()
        if not resolved.is_relative_to(root):
            raise IntegrityError(f"{path} lies outside its store.", next_step="Use a path below the store's root.")
        return resolved


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield "", path
    else:
        yield from ((f.relative_to(path).as_posix(), f) for f in sorted(path.rglob("*")) if f.is_file())


def digest_of(path: Path) -> tuple[str, int, int]:
    """`sha256:` over names and contents; number of files; bytes."""
    total, count, size = hashlib.sha256(), 0, 0
    for name, file in _files(path):
        with file.open("rb") as stream:
            total.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        count, size = count + 1, size + file.stat().st_size
    return f"sha256:{total.hexdigest()}", count, size


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; 0 where there is nothing."""
    return sum(file.stat().st_size for _, file in _files(path)) if path.exists() else 0


def _copy(origin: Path, target: Path) -> None:
    for name, file in _files(origin):
        copy = target / name if name else target
        copy.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as source, copy.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
            sink.flush()
            os.fsync(sink.fileno())


def _replace(arrived: Path, target: Path) -> None:
    if target.is_dir():
        old = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        target.replace(old)
        arrived.replace(target)
        _remove(old)
    else:
        arrived.replace(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
