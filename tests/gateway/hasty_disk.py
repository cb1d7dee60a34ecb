"""A disk that confirms at once, for tests that cut no power, or keep account of what was confirmed themselves."""

from pathlib import Path

from gateway.disk import RealDisk


class HastyDisk(RealDisk):
    def sync(self, handle: int) -> None: ...

    def sync_file(self, path: Path) -> None: ...

    def sync_folder(self, folder: Path) -> None: ...
