"""The plant floor under faults, with real processes and a real mosquitto: what was acknowledged is somewhere, once."""

from pathlib import Path

import pytest

from backbone.errors import ConfigurationError, UnknownName
from chaos.floor.outage import rehearse_outage
from chaos.floor.rehearsal import FloorOutcome, rehearse_floor
from chaos.floor.scenario import (
    FLOOR_FAULT_KINDS,
    SHIPPED,
    FloorFault,
    FloorScenario,
    drawn_floor_scenario,
    read_floor_scenario,
)
from tests.gateway.mosquitto import needs_mosquitto

KILLS = 51
ON_THE_WAY = (
    FloorFault("gateway_killed", step="spool write", when="before"),
    FloorFault("gateway_killed", step="spool write", when="within"),
    FloorFault("gateway_killed", step="spool sync", when="before"),
    FloorFault("gateway_killed", step="spool sync", when="after"),
    FloorFault("gateway_killed", step="new spool rename", when="before"),
    FloorFault("gateway_killed", step="new sequences write", when="within"),
    FloorFault("gateway_killed", step="new sequences rename", when="before"),
    FloorFault("gateway_killed", step="sequences rename", when="before"),
    FloorFault("porter_killed", step="landed pump", when="before"),
    FloorFault("porter_killed", step="landed dead letters", when="before"),
    FloorFault("porter_killed", step="new landing.json write", when="within"),
    FloorFault("porter_killed", step="new landing.json rename", when="before"),
    FloorFault("porter_killed", step="noted", when="before"),
    FloorFault("porter_killed", step="confirmed", when="before"),
)
"""Moments on the way of a reading, from the gateway's disk to the plant's table. The other kills draw theirs."""


def assert_holds(outcome: FloorOutcome) -> None:
    assert outcome.violations == []
    assert outcome.acknowledged == outcome.stored + outcome.dead_lettered + outcome.spooled + outcome.damaged > 0
    assert (outcome.missing, outcome.twice) == (0, 0)
    assert outcome.dead_lettered > 0


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_between_every_two_durable_steps_nothing_acknowledged_is_lost_or_there_twice(tmp_path: Path) -> None:
    # Of three, two are the gateway's: it has twice as many steps.
    drawn = [FloorFault("porter_killed" if n % 3 == 2 else "gateway_killed") for n in range(KILLS - len(ON_THE_WAY))]
    outcome = rehearse_floor(tmp_path, FloorScenario("kills", "", 11, (*ON_THE_WAY, *drawn)))
    assert_holds(outcome)
    assert sum(counts["struck"] for counts in outcome.by_fault.values()) == KILLS
    on_the_way = {f"{f.kind.removesuffix('_killed')} {f.step} {f.when}" for f in ON_THE_WAY}
    assert on_the_way <= set(outcome.by_step)


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_the_scenarios_that_ship_hold(tmp_path: Path, path: Path) -> None:
    planned = read_floor_scenario(path)
    outcome = rehearse_floor(tmp_path, planned)
    assert_holds(outcome)
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
