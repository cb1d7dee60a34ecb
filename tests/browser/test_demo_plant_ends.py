"""How the demonstration plant ends."""

from pathlib import Path

import pytest

from tests.browser.demo_plant import alive, at_home, family_of, hybrid_up

pytestmark = [pytest.mark.browser, pytest.mark.timeout(700)]


def test_sigterm_ends_it_and_everything_it_started(tmp_path: Path) -> None:
    with hybrid_up(tmp_path / "home") as plant:
        plant.wait_until(lambda: ("pump_ingest", "STARTED") in plant.runs(), "a run is under way", 180)
        family = family_of(plant.process.pid) | at_home(plant.home)
        assert len(family) > 4, "the command, its three services and the run's own process"
        assert plant.stop() == 0
        assert {pid for pid in family | at_home(plant.home) if alive(pid)} == set()
