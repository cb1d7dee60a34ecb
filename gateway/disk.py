"""What the spool asks of a disk, so that a test, or a rehearsal, can put a faulty one in its place.

What is written lasts through a power cut once `sync` has returned, and so does what a folder lists (files that were
made, renamed, removed) once `sync_folder` has. Every operation may raise `OSError`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

# Where the system has no fdatasync (macOS), fsync does no less.
_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
_SECTOR = 4096
_COPIED = 1 << 20


class Disk(Protocol):
    """Files that are made, appended to, cut, renamed and removed. A handle belongs to the thread that opened it."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those above it, for good."""
        ...

    def lock(self, path: Path) -> int:
        """A handle that holds the lock on a file as long as it is open.

        Raises:
            BlockingIOError: somebody else holds it.
        """
        ...

    def create(self, path: Path) -> int:
        """A handle to append to a new file. Raises `FileExistsError`."""
        ...

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Append; how many bytes were taken, which may be fewer than were given."""
        ...

    def sync(self, handle: int) -> None:
        """Wait until the disk holds what was written. After an error nobody knows what it holds, asked again or not."""
        ...

    def sync_file(self, path: Path) -> None:
        """As `sync`, of a file that is not open."""
        ...

    def close(self, handle: int) -> None: ...

    def truncate(self, path: Path, size: int) -> None: ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, in the place of a file that had it."""
        ...

    def unlink(self, path: Path) -> None: ...

    def sync_folder(self, folder: Path) -> None: ...

    def names(self, folder: Path) -> list[str]:
        """What a folder lists, in no order."""
        ...

    def size(self, path: Path) -> int: ...

    def read(self, path: Path, at: int, size: int) -> bytes:
        """`size` bytes from `at` on; fewer where the file ends. What cannot be read off the medium reads as zeros."""
        ...

    def free(self, folder: Path) -> int:
        """Bytes that may still be written."""
        ...


class RealDisk:
    """The operating system's."""

    def make_folder(self, folder: Path) -> None:
        missing = [f for f in (folder, *folder.parents) if not f.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing):
            self.sync_folder(made.parent)

    def lock(self, path: Path) -> int:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, handle: int, data: bytes | memoryview) -> int:
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        _sync_data(handle)

    def sync_file(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _sync_data(handle)
        finally:
            os.close(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def truncate(self, path: Path, size: int) -> None:
        os.truncate(path, size)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def sync_folder(self, folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def names(self, folder: Path) -> list[str]:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is asked for

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path, at: int, size: int) -> bytes:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                return os.pread(handle, size, at)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
            until = min(at + size, os.fstat(handle).st_size)
            return b"".join(_sector(handle, a, min(_SECTOR, until - a)) for a in range(at, until, _SECTOR))
        finally:
            os.close(handle)

    def free(self, folder: Path) -> int:
        state = os.statvfs(folder)
        return state.f_bavail * state.f_frsize


def _sector(handle: int, at: int, size: int) -> bytes:
    try:
        return os.pread(handle, size, at)
    except OSError:
        return bytes(size)


def write_all(disk: Disk, handle: int, data: bytes) -> None:
    """Append all of it, however little is taken at a time.

    Raises:
        OSError: the disk failed, or takes nothing any more; part of it may have been written.
    """
    taken = disk.write(handle, data)
    while taken < len(data):
        more = disk.write(handle, memoryview(data)[taken:])
        if not more:
            raise OSError(errno.EIO, "the disk takes nothing and gives no reason")
        taken += more


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Put a file in the place of another for good: after a power cut there is the one or the other, whole.

    Raises:
        OSError: the disk failed; the other file is as it was, or this one is there and may not last.
    """
    replace_file_with(disk, path, (data[at : at + _COPIED] for at in range(0, len(data), _COPIED)))


def replace_file_with(disk: Disk, path: Path, parts: Iterable[bytes]) -> None:
    """`replace_file`, of what comes in parts and need not be in memory at once.

    Raises:
        OSError: as `replace_file`.
    """
    partial = path.with_name(f".{path.name}.partial")  # one name, so that what a crash left goes with the next
    try:
        handle = disk.create(partial)
    except FileExistsError:
        disk.unlink(partial)
        handle = disk.create(partial)
    try:
        for part in parts:
            write_all(disk, handle, part)
        disk.sync(handle)
    finally:
        disk.close(handle)
    disk.rename(partial, path)
    disk.sync_folder(path.parent)
