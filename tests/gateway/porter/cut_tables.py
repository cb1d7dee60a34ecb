"""Tables on a disk whose power is cut: Delta's writer writes as it does, and what a disk would have of that is kept
account of beside, with `FaultyDisk`."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.disk_faults import FaultyDisk, PowerCut
from resources.stores.followed import forget
from tests.gateway.hasty_disk import HastyDisk

_PARTIAL = ".partial"
_Stamp = tuple[int, int, int]


class CutTables:
    """Some tables, each in a folder of its own, below one folder.

    Args:
        beside: a folder for the account.
    """

    def __init__(self, root: Path, tables: Sequence[Path], beside: Path, seed: int) -> None:
        self._root, self._tables, self._beside = root, tables, beside
        self.disk = FaultyDisk(seed, HastyDisk())
        self._seen: dict[Path, _Stamp] = {}
        self._left: int | None = None

    @contextmanager
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Have this disk confirm what the real one is asked to, meanwhile. All that is no table loses nothing."""
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", self._fsync)
            patched.setattr("gateway.disk._sync_data", self._fsync)
            yield

    def cut_after(self, times: int) -> None:
        """Raise `PowerCut` when something was asked to be confirmed so many times."""
        self._left = times

    def cut(self) -> None:
        """Cut the power: the tables are what the disk has of them."""
        self._left = None
        self._see(file for table in self._tables for file in (*self._files(table), *self._seen))
        self.disk.power_cut()
        self.disk.power_on()
        self._seen = {}
        for table in self._tables:
            shutil.rmtree(table, ignore_errors=True)
            forget(table)
            for file in self._files(self._other(table)):
                mine = self._root / file.relative_to(self._beside)
                mine.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, mine)
                self._seen[mine] = _stamp(mine)

    def _fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not any(path.is_relative_to(table) for table in self._tables):
            return
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise PowerCut
        if path.is_file():
            self._see([path])
            self._sync_file(path)
        else:
            self._see(file for file in (*path.iterdir(), *self._seen) if file.parent == path)
            self.disk.make_folder(self._other(path))
            self.disk.sync_folder(self._other(path))

    def _sync_file(self, path: Path) -> None:
        """As the system does: what it could not write it takes for written, and forgets."""
        try:
            self.disk.sync_file(self._other(path))
        except OSError:
            os.truncate(path, path.stat().st_size // 2)
            raise

    def _see(self, files: Iterable[Path]) -> None:
        """Do on this disk what was done to some files."""
        looked_at = {file for file in files if not file.is_dir() and file.suffix != _PARTIAL}
        there = {file: _stamp(file) for file in looked_at if file.exists()}
        gone = {self._seen.pop(file): file for file in looked_at if file in self._seen and file not in there}
        for file, stamp in there.items():
            if stamp in gone:
                self.disk.rename(self._other(gone.pop(stamp)), self._other(file))
            elif self._seen.get(file) != stamp:
                self._write(self._other(file), file.read_bytes())
            self._seen[file] = stamp
        for file in gone.values():
            self.disk.unlink(self._other(file))

    def _write(self, file: Path, content: bytes) -> None:
        self.disk.make_folder(file.parent)
        partial = file.with_name(f"{file.name}{_PARTIAL}")
        if partial.exists():  # from before a cut
            self.disk.unlink(partial)
        handle = self.disk.create(partial)
        self.disk.write(handle, content)
        self.disk.close(handle)
        self.disk.rename(partial, file)

    def _other(self, path: Path) -> Path:
        return self._beside / path.relative_to(self._root)

    def _files(self, table: Path) -> list[Path]:
        return [path for path in sorted(table.rglob("*")) if path.is_file() and path.suffix != _PARTIAL]


def _stamp(file: Path) -> _Stamp:
    found = file.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
