"""A home that cannot be one, and a state database that cannot be reached, are told as such."""

from pathlib import Path

import pytest

from backbone.errors import ConfigurationError, StoreBusy
from resources.home import Home
from resources.state.database import Database
from resources.state.plant_state import State


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be a home: Not a directory") as told:
        Home(tmp_path / "file").prepare()
    assert "Name a folder" in told.value.next_step


def test_a_home_has_its_folders_and_settings_and_keeps_what_was_changed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    settings = home.dagster / "dagster.yaml"
    settings.write_text(settings.read_text() + "# mine\n")
    since = home.since
    assert home.prepare().since == since
    assert settings.read_text().endswith("# mine\n")
    assert home.contracts.is_dir()
    assert home.sites.is_dir()


@pytest.mark.parametrize("url", ["nonsense", "cobol://somewhere"])
def test_a_database_that_cannot_be_used_says_what_a_url_looks_like(url: str) -> None:
    with pytest.raises(ConfigurationError, match="state database cannot be used") as told:
        State(Database(url)).crossings()
    assert "HYBRID_STATE_URL" in told.value.next_step


def test_a_driver_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="driver oracledb is not installed"):
        State(Database("oracle+oracledb://somewhere")).crossings()


def test_a_folder_of_the_database_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreBusy, match=r"folder .*/file cannot be had: File exists"):
        State(Database(f"sqlite:///{tmp_path}/file/state.db")).crossings()
