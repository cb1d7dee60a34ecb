"""A small plant, served once for all scenarios by the command itself."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quality.warm import WarmValidator
from resources.home import Home
from tests.scenarios.installation import Installation

SITE = """\
description = "Sixteen pumps that fail often"

[calendar]
first_day = 2025-01-01
last_day = 2025-03-01

[fleets.pump]
source = {{ kind = "simulator", seed = 2, pumps = 16, readings_per_day = 4, mean_life_days = 12, faults = {faults} }}
"""
FAULTS = "{ spike = 0.003, duplicate = 0.003, late = 0.01, nan = 0.002, dropout = 0.01 }"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An empty one."""
    return Installation(Home(tmp_path / "home").prepare())


def _serve(folder: Path) -> None:
    made = Installation(Home(folder / "home").prepare())
    made.add_site("north", SITE.format(faults=FAULTS))
    report = made.hybrid("run", "--site", "north", warm=False)
    (folder / "report.json").write_text(json.dumps(report))
    # What reads a database leaves files beside it for as long as it does, which would come and go while copying.
    shutil.copytree(made.home.root, folder / "untouched")


@pytest.fixture(scope="session")
def served_folder(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """`home`, the same `untouched`, and the command's `report.json`."""
    return made_once("served", _serve)


@pytest.fixture(scope="session")
def served_once(served_folder: Path) -> tuple[Installation, dict[str, Any]]:
    return Installation(Home(served_folder / "home")), json.loads((served_folder / "report.json").read_text())


@pytest.fixture
def served(served_once: tuple[Installation, dict[str, Any]]) -> Installation:
    """A plant with telemetry, a release and advisories; not to be changed."""
    return served_once[0]


@pytest.fixture
def copied(served_folder: Path, tmp_path: Path) -> Callable[..., Installation]:
    """Makes a copy of the served plant that a test may break."""

    def copy(name: str = "copy") -> Installation:
        target = tmp_path / name
        shutil.copytree(served_folder / "untouched", target)
        settings = target / "dagster" / "dagster.yaml"
        settings.write_text(settings.read_text().replace(str(served_folder / "home"), str(target)))
        return Installation(Home(target))

    return copy


@pytest.fixture(scope="session")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Home], None]]:
    """Has a home ask one quality worker that all tests share: each of its own would take seconds to start."""
    worker = WarmValidator(tmp_path_factory.mktemp("judging"))

    def share(home: Home) -> None:
        worker.start()
        home.quality.mkdir(exist_ok=True)
        (home.quality / worker.socket_path.name).symlink_to(worker.socket_path)

    yield share
    worker.dismiss()


@pytest.fixture
def fed_by_files(copied: Callable[..., Installation]) -> Installation:
    """A plant that is served, whose next two days come as files."""
    return _fed_by_files(copied())


@pytest.fixture
def twins_fed_by_files(copied: Callable[..., Installation]) -> tuple[Installation, Installation]:
    """Two such plants that are alike."""
    return _fed_by_files(copied("one")), _fed_by_files(copied("other"))


def _fed_by_files(installation: Installation) -> Installation:
    text = SITE.format(faults=FAULTS).replace("last_day = 2025-03-01", "last_day = 2025-03-03")
    source = text[text.index("source =") :]
    installation.add_site("north", text.replace(source, 'source = { kind = "files", settle_s = 0 }\n'))
    installation.home.drop_folder("north", "pump").mkdir(parents=True)
    return installation
