"""The plant floor under faults of every kind, with real processes and a real mosquitto; kills alone stand beside it."""

from pathlib import Path

import pytest

from backbone.errors import ConfigurationError, UnknownName
from chaos.floor.outage import rehearse_outage
from chaos.floor.rehearsal import rehearse_floor
from chaos.floor.scenario import (
    FLOOR_FAULT_KINDS,
    SHIPPED,
    FloorFault,
    FloorScenario,
    drawn_floor_scenario,
    read_floor_scenario,
)
from tests.chaos.outcome import assert_floor_holds
from tests.gateway.mosquitto import needs_mosquitto


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_the_scenarios_that_ship_hold(tmp_path: Path, path: Path) -> None:
    planned = read_floor_scenario(path)
    outcome = rehearse_floor(tmp_path, planned)
    assert_floor_holds(outcome)
    assert all(counts["struck"] == counts["faults"] for counts in outcome.by_fault.values()), outcome.by_fault
    assert set(outcome.by_fault) == {*FLOOR_FAULT_KINDS} - {"disk_lies"}


@needs_mosquitto
@pytest.mark.slow
def test_what_a_disk_only_says_it_has_is_told_as_missing(tmp_path: Path) -> None:
    outcome = rehearse_floor(tmp_path, FloorScenario("a lie", "", 1, (FloorFault("disk_lies"),)))
    assert outcome.missing > 0
    assert any("acknowledged and nowhere" in violation for violation in outcome.violations)


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_day_without_the_store_lands_oldest_first_at_its_rate_while_machines_are_answered(tmp_path: Path) -> None:
    outcome = rehearse_outage(tmp_path, machines=4, every_s=60, per_s=400, drain_per_s=2000)
    assert outcome.violations == []
    assert outcome.hours >= 24
    assert outcome.gathered >= 5_500
    assert outcome.acknowledged == outcome.stored + outcome.dead_lettered
    assert outcome.answered >= outcome.due > 5_000
    assert outcome.drained_per_s <= 2000
    assert outcome.historical > 5_000
    assert outcome.live > 0


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('name = "x"\n[[faults]]\nkind = "gremlins"\n', 3, "gremlins"),
        ('name = "x"\n[[faults]]\nkind = "disk_full"\nstep = "spool sync"\n', 4, "step"),
        ('name = "x"\n[[faults]]\nkind = "broker_down"\nseconds = -1\n', 4, "seconds"),
        ('name = "x"\nfaults = 3\n', 2, "[[faults]]"),
    ],
)
def test_what_is_wrong_in_a_scenario_is_said_with_file_and_line(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_floor_scenario(path)
    assert f"scenario.toml, line {line}" in str(caught.value)
    assert says in str(caught.value)


def test_drawn_faults_are_the_same_for_a_seed_and_of_the_kinds_asked_for() -> None:
    drawn = drawn_floor_scenario(seed=4, faults=300)
    assert drawn == drawn_floor_scenario(seed=4, faults=300)
    assert {fault.kind for fault in drawn.faults} == {*FLOOR_FAULT_KINDS} - {"disk_lies"}
    only = drawn_floor_scenario(seed=4, faults=30, kinds=["torn_page", "disk_full"])
    assert {fault.kind for fault in only.faults} == {"torn_page", "disk_full"}
    with pytest.raises(UnknownName):
        drawn_floor_scenario(seed=4, faults=1, kinds=["gremlins"])
