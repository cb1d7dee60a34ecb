"""A folder that others write files into: which of them are whole, what exactly is in one, and where it goes in the end.

Whoever writes there is not trusted: nothing is opened by path but the folder itself. Names are looked up in the open
folder, links are never followed, and what is read is a copy of the bytes that one open file held.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

from gateway import reasons

DONE, QUARANTINE = "done", "quarantine"
UNFINISHED = (".part", ".tmp", ".filepart")
"""Endings that writers use until they rename."""
DIGEST_SHOWN = 32
"""Hexadecimal digits of a content's digest that stand before the name of a file that was put away."""
LONGEST_NAME = 180
"""Bytes; file systems allow 255, and a digest comes before it and the ending of a note after it."""
MOST_WATCHED = 100_000
"""Files looked at together, 30 MB; the others have their turn as these are put away."""
_COPIED = 1 << 20
_READ_ONLY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_Version = tuple[int, int, int]
"""Inode, size and time of change: what is the same is taken for the same file, unchanged."""


class Obstacle(Exception):
    """A file that is put aside without being read.

    Args:
        reason: of `gateway.reasons`.
        detail: for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Found:
    """A file whose time has come.

    Attributes:
        obstacle: why it is not to be read; None if it may be.
    """

    name: str
    version: _Version
    obstacle: Obstacle | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a file held.

    Attributes:
        content: at its beginning; a file without a name that goes when it is closed.
        digest: SHA-256, hexadecimal.
    """

    content: IO[bytes]
    digest: str
    size: int


@dataclass(slots=True)
class _Watched:
    version: _Version
    first_seen: float
    changed: float


class DropFolder:
    """One folder, held open. To be used by one thread at a time.

    Args:
        root: is made if it is not there, as are `done/` and `quarantine/` in it.
        scratch: where copies are made while they are read.
        settle_s: a file that has not changed for this long is whole.
        give_up_s: one that has not become whole in this time is put aside.
        max_bytes: of one file.

    Raises:
        OSError: the folder cannot be made, or opened.
    """

    def __init__(self, root: Path, scratch: Path, *, settle_s: float, give_up_s: float, max_bytes: int) -> None:
        self._scratch, self._settle_s, self._give_up_s, self._max = scratch, settle_s, give_up_s, max_bytes
        self._watched: dict[str, _Watched] = {}
        self._opened: list[int] = []
        root.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            self._root = self._folder(os.fspath(root))
            for name in (DONE, QUARANTINE):
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=self._root)
            self._done, self._quarantine = (self._folder(n, self._root, os.O_NOFOLLOW) for n in (DONE, QUARANTINE))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        while self._opened:
            os.close(self._opened.pop())

    def look(self) -> list[Found]:
        """What there is to do, oldest first. Names that begin with one "." are somebody else's business.

        Raises:
            OSError: the folder cannot be listed.
        """
        now, clock = time.time(), time.monotonic()
        found: list[tuple[int, Found]] = []
        seen: set[str] = set()
        for name in self._names():
            if len(seen) >= MOST_WATCHED:
                break
            if (name.startswith(".") and not name.startswith("..")) or name in (DONE, QUARANTINE):
                continue
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=self._root, follow_symlinks=False)
                seen.add(name)
                if (due := self._due(name, status, now, clock)) is not None:
                    found.append((status.st_mtime_ns, due))
        self._watched = {name: watched for name, watched in self._watched.items() if name in seen}
        return [due for _, due in sorted(found, key=lambda pair: pair[0])]

    def _names(self) -> Iterator[str]:
        """Of all that is there, those that are watched already first."""
        yield from tuple(self._watched)
        with os.scandir(self._root) as entries:
            for entry in entries:
                if entry.name not in self._watched:
                    yield entry.name

    def snapshot(self, found: Found) -> Snapshot | None:
        """Copy what a file holds; None if it is gone, or is still being written.

        Raises:
            Obstacle: it is not to be read.
            OSError: the copy cannot be written.
        """
        try:
            handle = os.open(found.name, _READ_ONLY, dir_fd=self._root)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _is_link() from error
            raise Obstacle(reasons.UNREADABLE_FILE, f"it cannot be opened: {error.strerror}") from error
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise Obstacle(reasons.UNREADABLE_FILE, "it is no file")
            if status.st_size > self._max:
                raise _is_too_large(self._max)
            if _has_a_writer(handle):
                self._wait_on(found.name)
                return None
            copy = self._copied(handle)
            if _version(os.fstat(handle)) != found.version:
                copy.content.close()
                self._wait_on(found.name)
                return None
            return copy
        finally:
            os.close(handle)

    def digest(self, found: Found) -> str | None:
        """SHA-256, hexadecimal, of what lies there unread: of a file no more than `max_bytes` from its beginning, of a
        link where it leads; None: it is gone, or neither of them.
        """
        with suppress(OSError):
            if stat.S_ISLNK(os.stat(found.name, dir_fd=self._root, follow_symlinks=False).st_mode):
                return hashlib.sha256(os.readlink(os.fsencode(found.name), dir_fd=self._root)).hexdigest()
            handle = os.open(found.name, _READ_ONLY, dir_fd=self._root)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    return None
                digest, left = hashlib.sha256(), self._max
                while left and (chunk := os.read(handle, min(_COPIED, left))):
                    digest.update(chunk)
                    left -= len(chunk)
                return digest.hexdigest()
            finally:
                os.close(handle)
        return None

    def was_done(self, digest: str) -> bool:
        """Whether a file of this content lies among those that are done."""
        return any(name.startswith(digest[:DIGEST_SHOWN]) for name in os.listdir(self._done))  # noqa: PTH208

    def put_away(self, found: Found, digest: str) -> bool:
        """Move a file to those that are done, for good. False: another one stands in its place, and stays there."""
        return self._move(found, self._done, f"{digest[:DIGEST_SHOWN]}-{_safe(found.name)}")

    def put_aside(self, found: Found, obstacle: Obstacle, digest: str | None, told: dict[str, object]) -> bool:
        """Move a file to the quarantine, with a note of why beside it; as `put_away`.

        Args:
            told: what the note says beside.
        """
        named = digest or hashlib.sha256(f"{found.name} {found.version}".encode(errors="surrogateescape")).hexdigest()
        target = self._free(self._quarantine, f"{named[:DIGEST_SHOWN]}-{_safe(found.name)}")
        note: dict[str, object] = {"file": _safe(found.name), "reason": obstacle.reason, "detail": obstacle.detail}
        note |= {"sha256": digest, "bytes": found.version[1], **told}
        # Before the file, so that none ever lies there without its reason.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(f"{target}.json", flags, 0o644, dir_fd=self._quarantine), "wb") as stream:
            stream.write(orjson.dumps(note, option=orjson.OPT_INDENT_2))
            stream.flush()
            os.fsync(stream.fileno())
        if self._move(found, self._quarantine, target):
            return True
        with suppress(FileNotFoundError):
            os.unlink(f"{target}.json", dir_fd=self._quarantine)
        return False

    def prune(self, keep_s: float) -> None:
        """Remove files that have been done for longer."""
        limit = time.time() - keep_s
        for name in os.listdir(self._done):  # noqa: PTH208
            with suppress(OSError):
                status = os.stat(name, dir_fd=self._done, follow_symlinks=False)
                if status.st_ctime < limit and stat.S_ISREG(status.st_mode):  # moving a file changes its ctime
                    os.unlink(name, dir_fd=self._done)

    def _folder(self, name: str, within: int | None = None, more: int = 0) -> int:
        self._opened.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | more, dir_fd=within))
        return self._opened[-1]

    def _due(self, name: str, status: os.stat_result, now: float, clock: float) -> Found | None:
        version = _version(status)
        watched = self._watched.get(name)
        if watched is None:
            watched = self._watched[name] = _Watched(version, clock, clock)
        elif watched.version != version:
            watched.version, watched.changed = version, clock
        if stat.S_ISLNK(status.st_mode):
            return Found(name, version, _is_link())
        if not stat.S_ISREG(status.st_mode):
            if clock - watched.changed < self._settle_s:
                return None
            return Found(name, version, Obstacle(reasons.UNREADABLE_FILE, "it is no file"))
        # A file that was moved here was whole before, and keeps its time; of one that is ahead of the clock only
        # watching tells.
        still = max(clock - watched.changed, now - status.st_mtime)
        if still >= self._settle_s and not name.lower().endswith(UNFINISHED):
            return Found(name, version, _bad_name(name))
        if clock - watched.first_seen >= self._give_up_s:
            waited = Obstacle(reasons.STILL_WRITTEN, f"it has not become whole within {self._give_up_s:g} s")
            return Found(name, version, waited)
        return None

    def _wait_on(self, name: str) -> None:
        """It was not as whole as it looked."""
        if (watched := self._watched.get(name)) is None:
            return
        watched.changed = time.monotonic()
        if watched.changed - watched.first_seen >= self._give_up_s:
            raise Obstacle(reasons.STILL_WRITTEN, f"somebody has been writing it for {self._give_up_s:g} s")

    def _copied(self, handle: int) -> Snapshot:
        copy, digest, size = tempfile.TemporaryFile(dir=self._scratch), hashlib.sha256(), 0  # noqa: SIM115
        try:
            while chunk := os.read(handle, _COPIED):
                size += len(chunk)
                if size > self._max:
                    raise _is_too_large(self._max)
                digest.update(chunk)
                copy.write(chunk)
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return Snapshot(copy, digest.hexdigest(), size)

    def _move(self, found: Found, folder: int, target: str) -> bool:
        target = self._free(folder, target)
        try:
            if _version(os.stat(found.name, dir_fd=self._root, follow_symlinks=False)) != found.version:
                return False
            os.rename(found.name, target, src_dir_fd=self._root, dst_dir_fd=folder)
        except FileNotFoundError:
            return False
        moved = os.stat(target, dir_fd=folder, follow_symlinks=False)
        if moved.st_ino != found.version[0]:  # it was exchanged at the last moment
            os.rename(target, found.name, src_dir_fd=folder, dst_dir_fd=self._root)
            return False
        os.fsync(folder)
        os.fsync(self._root)
        self._watched.pop(found.name, None)
        return True

    def _free(self, folder: int, name: str) -> str:
        taken, free, copy = set(os.listdir(folder)), name, 1
        while free in taken:
            copy += 1
            free = f"{name[:DIGEST_SHOWN]}-{copy}{name[DIGEST_SHOWN:]}"
        return free


def _bad_name(name: str) -> Obstacle | None:
    """What a name may not be: what shows as something else, or cannot be a name elsewhere."""
    if not name.isprintable() or "\\" in name or len(os.fsencode(name)) > LONGEST_NAME:
        return Obstacle(reasons.BAD_NAME, f"name a file with at most {LONGEST_NAME} bytes that can be printed")
    return None


def _safe(name: str) -> str:
    """A name that can be printed and is short enough; what it was is told by its end."""
    shown = "".join(c if c.isprintable() and c != "\\" else "_" for c in name)
    return shown.encode()[-LONGEST_NAME:].decode(errors="ignore")


def _version(status: os.stat_result) -> _Version:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _is_link() -> Obstacle:
    return Obstacle(reasons.SYMBOLIC_LINK, "a link is not followed; drop the file itself")


def _is_too_large(most: int) -> Obstacle:
    return Obstacle(reasons.TOO_LARGE, f"it has more than {most >> 20} MiB (setting max_mib)")


def _has_a_writer(handle: int) -> bool:
    """Whether somebody on this machine has a file open to write to it, as far as the system tells.

    It does so by refusing a lease on it; one that it grants is given back at once.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)  # else who opens it just now would end us, by SIGIO
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
