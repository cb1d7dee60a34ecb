"""Fixtures that more than one part of the house uses."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

# Processes that share the tests share the processors as well: threads of OpenMP, one a processor in each of them, would
# spin while they wait for one another. Read when its library is loaded, in what is started from here too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shared machine may be slow for a moment; what a property says does not depend on it.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

LONGEST_FIRST = (
    "chaos/test_thousand_faults.py",
    "scenarios/test_cmapss_replay.py",
    "chaos/test_floor_kills.py",
    "browser/test_demo_plant_pages.py",
    "faults/test_ray_faults.py",
    "faults",
    "scenarios/test_lineage_of_a_bad_day.py",
    "chaos",
    "scenarios/test_bad_telemetry.py",
    "resources/bindings/test_lineage.py",
    "scenarios/test_bad_day.py",
    "scenarios/test_other_questions.py",
    "resources/targets/test_ray.py",
    "conformance/test_targets.py",
    "maintenance/test_cmapss_benchmark.py",
    "scenarios",
    "gateway/test_process.py",
    "resources/lineage/test_relay.py",
    "quality/test_worker.py",
    "cli/test_evaluate.py",
)
"""Files and folders that take minutes, or most of one: begun last, they would leave a processor idle for that long."""
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshot", action="store_true", help="keep the asset specs as they are now")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(here).as_posix()
        return next(
            (n for n, name in enumerate(LONGEST_FIRST) if (file + "/").startswith(name + "/")), len(LONGEST_FIRST)
        )

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadScopeScheduling":
    """Files are shared out in the order given."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


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
                shutil.rmtree(folder, ignore_errors=True)  # what another one left that failed
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
