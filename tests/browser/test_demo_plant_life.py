"""How long the demonstration plant takes to be of use, and how it ends."""

from pathlib import Path

import pytest

from tests.browser.demo_plant import DemoPlant, alive, at_home, family_of, hybrid_up

pytestmark = [pytest.mark.browser, pytest.mark.timeout(700)]

PROMISED_S = 180.0
"""The README: "Within about three minutes the UI shows ... advisories for every pump"; on two idle cores."""


@pytest.mark.slow
def test_first_advisories_appear_within_three_minutes(plant: DemoPlant) -> None:
    """From the start of the command to the last materialization of the first run that made advisories."""
    advisories = plant.materializations("pump", "advisories")
    first_run = [m for m in advisories if m.run_id == advisories[0].run_id]
    assert len({m.partition for m in first_run}) >= 150
    assert max(m.at for m in first_run) - plant.started_at <= PROMISED_S


def test_sigterm_ends_it_and_everything_it_started(tmp_path: Path) -> None:
    with hybrid_up(tmp_path / "home") as plant:
        plant.wait_until(lambda: ("pump_ingest", "STARTED") in plant.runs(), "a run is under way", 180)
        family = family_of(plant.process.pid) | at_home(plant.home)
        assert len(family) > 4, "the command, its three services and the run's own process"
        assert plant.stop() == 0
        assert {pid for pid in family | at_home(plant.home) if alive(pid)} == set()
