"""Fixtures that more than one part of the house uses."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# A shared machine may be slow for a moment; what a property says does not depend on it.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshot", action="store_true", help="keep the asset specs as they are now")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A folder of this name that one of the processes that share the tests fills, once; the others wait for it."""
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder, whole = session / f"once-{name}", session / f"once-{name}.whole"
        with FileLock(session / f"once-{name}.lock"):
            if not whole.exists():
                folder.mkdir()
                fill(folder)
                whole.touch()
        return folder

    return made


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte; needs the right to mount."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="session")
def cmapss_directory() -> Path:
    """NASA's C-MAPSS text files beside the project."""
    folder = SHARED / "data" / "cmapss"
    if not folder.is_dir():
        pytest.skip(f"the data set is not there: {folder}")
    return folder
