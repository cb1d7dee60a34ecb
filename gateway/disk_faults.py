"""A disk that fails on demand, for tests and rehearsals: errors, short writes, no room, and power cuts.

It works on real files, so that whoever reads them sees what the system's memory would show; what a power cut would
leave of them is kept account of beside. Files that were there before count as confirmed.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.disk import Disk, RealDisk

SECTOR = 512
Operation = Literal["create", "write", "sync", "truncate", "rename", "unlink", "sync_folder"]


class PowerCut(Exception):
    """The power is gone; nothing works until `power_on`."""


@dataclass(slots=True)
class _Change:
    """What was done to a file: bytes added at a place, or its end cut off.

    Attributes:
        confirmed: the disk has it. False: it may have it or not, and no later `sync` changes that any more. None: no
            `sync` has come since.
    """

    at: int
    data: bytes | None
    confirmed: bool | None = None


@dataclass(slots=True)
class _File:
    """A file's account.

    Attributes:
        path: where its bytes are now; out of the way once it was removed.
        base: its first bytes, which nothing was done to since the disk confirmed them.
        tail: what the disk has after those, before `changes`.
    """

    path: Path
    base: int
    tail: bytes = b""
    changes: list[_Change] = field(default_factory=list)


@dataclass(slots=True)
class _Fault:
    operation: Operation
    errno: int
    after: int
    times: int | None


class FaultyDisk:
    """A `Disk` with faults, the same ones for the same seed and operations.

    Args:
        inner: does the work.
        short_writes: the share of writes of which only a part is taken.
        room: bytes that may still be written; None: as many as there are.
    """

    def __init__(
        self, seed: int, inner: Disk | None = None, *, short_writes: float = 0.0, room: int | None = None
    ) -> None:
        self._inner = inner or RealDisk()
        self._random = random.Random(seed)  # noqa: S311 - faults, not secrets
        self.short_writes, self.room = short_writes, room
        self._faults: list[_Fault] = []
        self._cut_in: int | None = None
        self._off = False
        self._files: dict[Path, _File] = {}
        self._handles: dict[int, _File | None] = {}
        self._folders: dict[Path, dict[str, _File]] = {}
        """What each folder lists for sure."""
        self._pending: dict[Path, list[Callable[[dict[str, _File]], object]]] = {}
        """What was done to each folder since."""
        self._gone: dict[Path, list[Path]] = {}
        self._removed = Path(tempfile.mkdtemp(prefix="removed-"))
        self._lock = threading.RLock()
        self.operations = 0
        """Changes and syncs so far: what `cut_after` counts."""

    def fail(self, operation: Operation, error: int = errno.EIO, *, after: int = 0, times: int | None = 1) -> None:
        """Let an operation fail, after so many that work; None: from then on for good, until `heal`."""
        self._faults.append(_Fault(operation, error, after, times))

    def heal(self) -> None:
        """No more faults."""
        self._faults.clear()
        self._cut_in = self.room = None
        self.short_writes = 0.0

    def cut_after(self, operations: int) -> None:
        """Cut the power when so many more operations were done, in the middle of the next."""
        self._cut_in = operations

    def power_cut(self) -> None:
        """Cut the power: leave of everything what a disk may have, and close what is open."""
        with self._lock:
            if self._off:
                return
            self._off = True
            keep = self._luck()
            for handle in self._handles:
                self._inner.close(handle)
            lists = {folder: self._survived(folder, keep) for folder in self._folders}
            images = {id(f): self._image(f, keep) for entries in lists.values() for f in entries.values()}
            for folder, entries in lists.items():
                for name in self._inner.names(folder):
                    if (folder / name).is_file():
                        (folder / name).unlink()
                for name, file in entries.items():
                    (folder / name).write_bytes(images[id(file)])
            self._files, self._handles, self._folders, self._pending, self._gone = {}, {}, {}, {}, {}
            shutil.rmtree(self._removed)
            self._removed.mkdir()

    def power_on(self) -> None:
        """What is on the disk now is what there is."""
        self._off, self._cut_in = False, None

    def close_all(self) -> None:
        """As when the process is killed: handles are closed, and what was written is in the system's memory still."""
        with self._lock:
            for handle in self._handles:
                self._inner.close(handle)
            self._handles.clear()

    def dispose(self) -> None:
        """Remove what is kept of removed files."""
        shutil.rmtree(self._removed, ignore_errors=True)

    # What a power cut leaves.

    def _luck(self) -> Callable[[], bool]:
        """Whether each thing that was not confirmed is on the disk: none, all, those before some moment, or any."""
        kind = self._random.choice(("none", "all", "prefix", "any"))
        if kind == "prefix":
            left = [self._random.randrange(12)]

            def counted() -> bool:
                left[0] -= 1
                return left[0] >= 0

            return counted
        return {
            "none": lambda: False,
            "all": lambda: True,
            "any": lambda: self._random.random() < 0.5,
        }[kind]

    def _survived(self, folder: Path, keep: Callable[[], bool]) -> dict[str, _File]:
        entries = dict(self._folders[folder])
        for change in self._pending.get(folder, ()):
            if keep():
                change(entries)
        return entries

    def _image(self, file: _File, keep: Callable[[], bool]) -> bytes:
        with file.path.open("rb") as stream:
            image = bytearray(stream.read(file.base))
        image += file.tail
        for change in file.changes:
            if change.data is None:
                if change.confirmed or keep():
                    del image[change.at :]
                continue
            for at, sector in _sectors(change.at, change.data):
                if change.confirmed or keep():
                    _put(image, at, sector)
                elif self._random.random() < 0.1:  # torn
                    _put(image, at, sector[: self._random.randrange(len(sector))])
        return bytes(image)

    # Faults.

    def _do(self, operation: Operation) -> None:
        """Fail, if it is time.

        Raises:
            OSError: as was asked for.
            PowerCut: likewise.
        """
        self._alive()
        self.operations += 1
        for fault in self._faults:
            if fault.operation != operation:
                continue
            if fault.after > 0:
                fault.after -= 1
            elif fault.times is None or fault.times > 0:
                fault.times = None if fault.times is None else fault.times - 1
                raise OSError(fault.errno, os.strerror(fault.errno))

    def _alive(self) -> None:
        if self._off:
            raise PowerCut

    def _cut_now(self) -> None:
        """To be called in the middle of an operation: done, but not confirmed."""
        if self._cut_in is not None:
            self._cut_in -= 1
            if self._cut_in < 0:
                self.power_cut()
                raise PowerCut

    def _file(self, path: Path) -> _File:
        self._folder(path.parent)
        return self._files[path]

    def _folder(self, folder: Path) -> dict[str, _File]:
        if folder not in self._folders:
            entries = {}
            for name in self._inner.names(folder):
                path = folder / name
                if path.is_file():
                    entries[name] = self._files[path] = _File(path, self._inner.size(path))
            self._folders[folder], self._pending[folder] = entries, []
        return self._folders[folder]

    def _out_of_the_way(self, path: Path) -> None:
        file = self._files.pop(path)
        file.path = self._removed / str(self.operations)
        shutil.move(path, file.path)
        self._gone.setdefault(path.parent, []).append(file.path)

    # The port.

    def make_folder(self, folder: Path) -> None:
        self._alive()
        self._inner.make_folder(folder)

    def lock(self, path: Path) -> int:
        self._alive()
        handle = self._inner.lock(path)
        with self._lock:
            self._folder(path.parent)
            self._handles[handle] = None
        return handle

    def create(self, path: Path) -> int:
        with self._lock:
            self._do("create")
            self._folder(path.parent)
            handle = self._inner.create(path)
            file = self._files[path] = self._handles[handle] = _File(path, 0)
            self._pending[path.parent].append(lambda entries: entries.__setitem__(path.name, file))
            self._cut_now()
            return handle

    def write(self, handle: int, data: bytes | memoryview) -> int:
        with self._lock:
            self._do("write")
            file = self._handles[handle]
            assert file is not None
            size = len(data)
            if size > 1 and self._random.random() < self.short_writes:
                size = self._random.randrange(1, size)
            if self.room is not None:
                size = min(size, self.room)
                if not size and len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.room -= size
            at = self._inner.size(file.path)
            size = self._inner.write(handle, memoryview(data)[:size])
            file.changes.append(_Change(at, bytes(data[:size])))
            self._cut_now()
            return size

    def sync(self, handle: int) -> None:
        file = self._handles.get(handle)
        self._alive()
        assert file is not None
        self._sync(file)

    def sync_file(self, path: Path) -> None:
        self._alive()
        self._sync(self._file(path))

    def _sync(self, file: _File) -> None:
        with self._lock:
            try:
                self._do("sync")
            except OSError:
                # The system may have written some of it, and takes all of it for written from now on.
                for change in file.changes:
                    change.confirmed = bool(change.confirmed)
                raise
            self._cut_now()
            for change in file.changes:
                if change.confirmed is None:
                    change.confirmed = True
            if all(change.confirmed for change in file.changes):
                file.base, file.tail, file.changes = self._inner.size(file.path), b"", []

    def close(self, handle: int) -> None:
        self._alive()
        with self._lock:
            del self._handles[handle]
            self._inner.close(handle)

    def truncate(self, path: Path, size: int) -> None:
        with self._lock:
            self._do("truncate")
            file = self._file(path)
            if size < file.base:
                file.tail = self._inner.read(path, size, file.base - size) + file.tail
                file.base = size
            file.changes.append(_Change(size, None))
            self._inner.truncate(path, size)
            self._cut_now()

    def rename(self, old: Path, new: Path) -> None:
        with self._lock:
            self._do("rename")
            self._folder(old.parent)
            if old not in self._files:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(old))
            if new in self._files:
                self._out_of_the_way(new)
            self._inner.rename(old, new)
            file = self._files[new] = self._files.pop(old)
            file.path = new

            def renamed(entries: dict[str, _File]) -> None:
                entries.pop(old.name, None)
                entries[new.name] = file

            self._pending[old.parent].append(renamed)
            self._cut_now()

    def unlink(self, path: Path) -> None:
        with self._lock:
            self._do("unlink")
            self._folder(path.parent)
            if path not in self._files:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            file = self._files[path]
            self._out_of_the_way(path)
            self._pending[path.parent].append(
                lambda entries: entries.pop(path.name, None) if entries.get(path.name) is file else None
            )
            self._cut_now()

    def sync_folder(self, folder: Path) -> None:
        with self._lock:
            self._do("sync_folder")
            entries = self._folder(folder)
            self._cut_now()
            for change in self._pending[folder]:
                change(entries)
            self._pending[folder] = []
            for path in self._gone.pop(folder, ()):
                path.unlink()

    def names(self, folder: Path) -> list[str]:
        self._alive()
        return self._inner.names(folder)

    def size(self, path: Path) -> int:
        self._alive()
        return self._inner.size(path)

    def read(self, path: Path, at: int, size: int) -> bytes:
        self._alive()
        return self._inner.read(path, at, size)

    def free(self, folder: Path) -> int:
        self._alive()
        free = self._inner.free(folder)
        return free if self.room is None else min(self.room, free)


def _sectors(at: int, data: bytes) -> list[tuple[int, bytes]]:
    """Bytes at a place, in pieces of a sector each."""
    pieces = []
    while data:
        size = SECTOR - at % SECTOR
        pieces.append((at, data[:size]))
        at, data = at + size, data[size:]
    return pieces


def _put(image: bytearray, at: int, data: bytes) -> None:
    if len(image) < at:
        image += bytes(at - len(image))
    image[at : at + len(data)] = data
