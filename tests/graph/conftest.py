"""An installation with the demonstration plant and one plant of the other class that ships."""

from pathlib import Path

import pytest

from resources.catalog.sites import SHIPPED
from resources.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home").prepare()
    site = (SHIPPED / "riverside.toml").read_text()
    head, _, _ = site.partition("[fleets.")
    (made.sites / "hangar.toml").write_text(head + '[fleets.turbofan]\nsource = { kind = "files" }\n')
    return made
