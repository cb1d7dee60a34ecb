"""What a scenario's file may say, and what drawn ones are made of."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.errors import ConfigurationError, UnknownName
from backbone.sites import Site
from chaos.scenario import FAULT_KINDS, SHIPPED, drawn_scenario, read_scenario

HEAD = 'name = "x"\ndays = 2\n'
FAULT = "[[faults]]\nkind = {kind}\nday = 0\n"


def read(tmp_path: Path, site: Site, text: str) -> ConfigurationError:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_scenario(path, site)
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (HEAD + FAULT.format(kind='"target_explodes"'), 4, "target_explodes"),
        (HEAD + FAULT.format(kind='"target_dies"') + 'target = "moon-base"\n', 6, "plant-server"),
        (HEAD + FAULT.format(kind='"location_cut"') + 'location = "moon"\n', 6, "on_prem"),
        (HEAD + FAULT.format(kind='"location_cut"'), 3, "Name the location"),
        (HEAD + FAULT.format(kind='"target_dies"') + "probability = 1.5\n", 6, "probability"),
        (HEAD + FAULT.format(kind='"target_dies"') + "minutes = -1\n", 6, "minutes"),
        (HEAD + FAULT.format(kind='"target_dies"') + 'at = "noon"\n', 6, "at"),
        (HEAD + FAULT.format(kind='"model_slow"') + "seconds = -5\n", 6, "above 0"),
        (HEAD + FAULT.format(kind='"model_corrupt"') + 'target = "edge-box"\n', 6, "target"),
        (HEAD + "[[faults]]\nkind = 'worker_killed'\nday = 2\n", 5, "counted from 0"),
        (HEAD + "train_on = [5]\n", 3, "train_on"),
        ('name = "x"\ndays = 0\n', 2, "days"),
        (HEAD + "colour = 1\n", 3, "colour"),
        (HEAD + "faults = 3\n", 3, "[[faults]]"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, site: Site, text: str, line: int, says: str) -> None:
    error = str(read(tmp_path, site, text))
    assert f"scenario.toml, line {line}" in error
    assert says in error


def test_a_name_that_does_not_exist_lists_those_that_do(tmp_path: Path, site: Site) -> None:
    error = read(tmp_path, site, HEAD + FAULT.format(kind='"gremlins"'))
    assert isinstance(error, UnknownName)
    assert set(error.valid) == set(FAULT_KINDS)


def test_a_file_that_is_none(tmp_path: Path, site: Site) -> None:
    assert "no TOML" in str(read(tmp_path, site, "name ="))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_scenario(tmp_path / "nowhere.toml", site)


def test_what_ships_can_be_read(site: Site) -> None:
    shipped = sorted(SHIPPED.glob("*.toml"))
    assert len(shipped) >= 3
    assert all(read_scenario(path, site).faults for path in shipped)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), faults=st.integers(1, 400))
def test_drawn_faults_are_as_many_as_asked_for_and_the_same_for_a_seed(site: Site, seed: int, faults: int) -> None:
    drawn = drawn_scenario(site, seed=seed, faults=faults)
    assert drawn == drawn_scenario(site, seed=seed, faults=faults)
    assert len(drawn.faults) == faults
    assert all(f.day < drawn.days for f in drawn.faults)


def test_a_thousand_faults_are_of_every_kind(site: Site) -> None:
    assert {f.kind for f in drawn_scenario(site, seed=7, faults=1000).faults} == set(FAULT_KINDS)
