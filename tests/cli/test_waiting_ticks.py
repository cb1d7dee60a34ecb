"""`hybrid up` lets ticks wait where there are threads enough for all of them."""

from pathlib import Path

import pytest
import yaml

from cli.up import _enough_threads
from resources.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).prepare()


def set_workers(home: Home, sensors: dict[str, object] | None) -> None:
    file = home.dagster / "dagster.yaml"
    settings = yaml.safe_load(file.read_text()) | {"sensors": sensors}
    file.write_text(yaml.safe_dump(settings))


def test_a_new_home_has_them(home: Home) -> None:
    assert _enough_threads(home)


@pytest.mark.parametrize("sensors", [None, {"use_threads": True, "num_workers": 4}, {"num_workers": 48}])
def test_where_a_waiting_tick_would_hold_up_other_sensors_none_waits(
    home: Home, sensors: dict[str, object] | None
) -> None:
    set_workers(home, sensors)
    assert not _enough_threads(home)
