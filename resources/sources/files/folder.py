"""The drop folder: which files are whole, what their content is called, and where they go in the end."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from backbone.errors import SourceError, StorageFull
from backbone.sources import Stream

TAKEN, REFUSED = "taken", "refused"
_STREAM_FOLDERS: tuple[tuple[str, Stream], ...] = (
    ("", "telemetry"),
    ("telemetry", "telemetry"),
    ("maintenance", "maintenance"),
)
_UNFINISHED = (".part", ".tmp")
_DIGEST_SHOWN = 16
_LONGEST_NAME_B = 180
"""File systems allow 255 bytes; this leaves room for the digest before it and the ending of the reason after it."""


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """A file somebody dropped, whole as far as one can tell.

    Attributes:
        path: where it lies; `origin` is the same, relative to the drop folder.
        txn: names the content. What cannot be read without risk is named by what the folder says of it.
        obstacle: why it is not to be opened; None if it may be.
    """

    path: Path
    origin: str
    stream: Stream
    txn: str
    modified: datetime
    size_b: int
    obstacle: str | None = None

    def content(self) -> bytes | None:
        """The bytes that `txn` names; None if the file is gone or has changed since."""
        try:
            with _opened(self.path) as stream:
                content = stream.read()
        except OSError:
            return None
        return content if self.txn == f"sha256:{_sha256(content)}" else None


class DropFolder:
    """One fleet's drop folder. Missing subfolders are made, so that people find where to put what."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def whole_files(self, now: datetime, settle_s: float) -> Iterator[DroppedFile]:
        """Files nobody is still writing, oldest first.

        Names that start with "." or end in `.part` or `.tmp` are unfinished by convention, and so is what
        changed less than `settle_s` before `now`. A file dated further ahead than that has a wrong clock
        and is not waited for.

        Raises:
            SourceError: the folder cannot be made or listed.
        """
        found: list[tuple[int, str, Stream, Path]] = []
        with _explained(f"drop folder {self._root}"):
            for name, stream in _STREAM_FOLDERS:
                folder = self._root / name
                if folder.is_symlink() and name:
                    continue  # the listing of the root refuses it
                folder.mkdir(parents=True, exist_ok=True)
                for path in folder.iterdir():
                    if path.name.startswith(".") or path.suffix.lower() in _UNFINISHED:
                        continue
                    status = _status(path)
                    if status and abs(now.timestamp() - status.st_mtime) >= settle_s:
                        found.append((status.st_mtime_ns, path.relative_to(self._root).as_posix(), stream, path))
        for modified_ns, origin, stream, path in sorted(found):
            if named := _name_content(path):
                txn, size_b, obstacle = named
                modified = datetime.fromtimestamp(modified_ns / 1e9, UTC)
                yield DroppedFile(path, origin, stream, txn, modified, size_b, obstacle)

    def put_away(self, origin: str, txn: str, refusal: str | None) -> None:
        """Move a file out of the way: to `taken/`, or with the reason beside it to `refused/`.

        Does nothing if the file is gone, or if another one lies in its place by now.
        """
        path = self._root / origin
        named = _name_content(path)
        if named is None or named[0] != txn:
            return
        with _explained(f"{path} cannot be put away: the drop folder"):
            folder = self._root / (TAKEN if refusal is None else REFUSED)
            folder.mkdir(exist_ok=True)
            target = _free_name(folder, txn, path.name)
            if refusal is not None:
                # Before the move, so that no refused file ever lies there without its reason.
                target.with_name(f"{target.name}.reason.txt").write_text(f"{refusal}\n", encoding="utf-8")
            path.rename(target)


def taken_file(root: Path, txn: str) -> Path | None:
    """Where the file lies whose content a `txn` names, once it was taken up; None where it is there no more."""
    digest = txn.removeprefix("sha256:")[:_DIGEST_SHOWN]
    if not txn.startswith("sha256:") or not digest.isalnum():
        return None
    return next(iter(sorted((root / TAKEN).glob(f"{digest}-*"))), None)


def _status(path: Path) -> os.stat_result | None:
    """Status of a file or symbolic link; None for what is neither, or gone. A pipe would block its reader."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) else None


def _name_content(path: Path) -> tuple[str, int, str | None] | None:
    """`txn`, size in bytes and obstacle of a file; None if it is gone."""
    status = _status(path)
    if status is None:
        return None
    if stat.S_ISLNK(status.st_mode):
        target = os.fsencode(path.readlink())
        obstacle = "a symbolic link, which is not followed; drop the file itself"
        return f"symlink:{_sha256(os.fsencode(path.name) + b' -> ' + target)}", 0, obstacle
    try:
        with _opened(path) as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}", status.st_size, None
    except FileNotFoundError:
        return None
    except OSError as error:
        identity = f"{path.name} {status.st_size} {status.st_mtime_ns}".encode(errors="surrogateescape")
        return f"unopened:{_sha256(identity)}", status.st_size, f"it cannot be opened: {error.strerror}"


def _opened(path: Path) -> BufferedReader:
    # A link put in the file's place since its status was read is not followed either.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _free_name(folder: Path, txn: str, name: str) -> Path:
    digest = txn.rpartition(":")[2][:_DIGEST_SHOWN]
    name = os.fsdecode(os.fsencode(name)[-_LONGEST_NAME_B:])
    target, copy = folder / f"{digest}-{name}", 1
    while target.exists() or target.is_symlink():
        copy += 1
        target = folder / f"{digest}-{copy}-{name}"
    return target


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{what}: {error.strerror}.", next_step="Free some space on its disk.") from error
        raise SourceError(
            f"{what}: {error.strerror}.", next_step="Check that it is a folder this user may list and write to."
        ) from error
