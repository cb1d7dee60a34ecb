"""One small plant, commissioned once for all fault tests by the command itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from resources.home import Home
from tests.faults.running_plant import Layout, commission, copy_of
from tests.scenarios.installation import Installation


@pytest.fixture(scope="session")
def commissioned(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Installation:
    """A plant with a release; not to be changed."""
    folder = made_once("commissioned-for-faults", lambda folder: commission(Home(folder / "home")))
    return Installation(Home(folder / "home"))


@pytest.fixture(scope="session")
def another(commissioned: Installation, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Layout], Installation]:
    """Makes a copy of that plant, with another site file."""

    def copied(layout: Layout) -> Installation:
        made: Path = tmp_path_factory.mktemp("faults") / "home"
        installation = copy_of(commissioned, made)
        layout.write(installation.home)
        return installation

    return copied
