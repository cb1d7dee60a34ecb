"""Processes of a plant floor are killed, fifty-one times, with a real broker: what was acknowledged is there, once."""

from pathlib import Path

import pytest

from chaos.floor.rehearsal import rehearse_floor
from chaos.floor.scenario import FloorFault, FloorScenario
from tests.chaos.outcome import assert_floor_holds
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


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_between_every_two_durable_steps_nothing_acknowledged_is_lost_or_there_twice(tmp_path: Path) -> None:
    # Of three, two are the gateway's: it has twice as many steps.
    drawn = [FloorFault("porter_killed" if n % 3 == 2 else "gateway_killed") for n in range(KILLS - len(ON_THE_WAY))]
    outcome = rehearse_floor(tmp_path, FloorScenario("kills", "", 11, (*ON_THE_WAY, *drawn)))
    assert_floor_holds(outcome)
    assert sum(counts["struck"] for counts in outcome.by_fault.values()) == KILLS
    on_the_way = {f"{f.kind.removesuffix('_killed')} {f.step} {f.when}" for f in ON_THE_WAY}
    assert on_the_way <= set(outcome.by_step)
