"""A plant that was commissioned once, for every rehearsal to use a copy of."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backbone.sites import Site
from chaos.rehearsal import commission
from resources.home import Home
from resources.plant import Catalog


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The plant that ships."""
    return Catalog(Home(tmp_path_factory.mktemp("users"))).site("riverside")


@pytest.fixture(scope="session")
def commissioned_once(made_once: Callable[[str, Callable[[Path], object]], Path], site: Site) -> Path:
    def fill(folder: Path) -> None:
        commission(folder / "home", folder / "home" / "none", site)

    return made_once("commissioned", fill) / "home"


@pytest.fixture
def commissioned(commissioned_once: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes a home with a commissioned plant, for one rehearsal."""
    made = 0

    def copy() -> Path:
        nonlocal made
        made += 1
        # A socket is some process's of the first home.
        ours = shutil.ignore_patterns("*.sock")
        return Path(shutil.copytree(commissioned_once, tmp_path / f"home{made}", ignore=ours))

    return copy
