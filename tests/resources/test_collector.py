"""What is due when, and that a crash between landing and noting the position does no harm."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resources.collector import collect, due_until
from resources.home import Home
from resources.plant import Catalog, Plant

NOW = datetime(2025, 6, 15, 9, 30, tzinfo=UTC)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    (home.root / "since").write_text("2025-06-15\n")
    return Plant(Catalog(home.prepare()), "riverside")


def test_a_new_plant_is_due_up_to_now_and_no_further(plant: Plant) -> None:
    assert due_until(plant, "pump", NOW) == NOW
    landed = list(collect(plant, "pump", until=NOW, now=NOW))
    days = plant.landing("pump").fingerprints()
    assert landed
    assert (min(days), max(days)) == (NOW.date() - timedelta(days=150), NOW.date())
    assert due_until(plant, "pump", NOW + timedelta(minutes=1)) == NOW + timedelta(minutes=1), "not commissioned"


def test_a_commissioned_demonstration_runs_ahead_up_to_midnight(plant: Plant) -> None:
    list(collect(plant, "pump", until=NOW, now=NOW))
    plant.baselines("pump").put("b", "{}")
    in_half_a_minute = due_until(plant, "pump", NOW + timedelta(seconds=30))
    assert in_half_a_minute > NOW + timedelta(hours=1)
    midnight = datetime(2025, 6, 16, tzinfo=UTC)
    assert due_until(plant, "pump", NOW + timedelta(hours=1)) == midnight
    list(collect(plant, "pump", until=midnight, now=NOW + timedelta(hours=1)))
    assert max(plant.landing("pump").fingerprints()) == NOW.date()
    assert due_until(plant, "pump", NOW + timedelta(days=1)) == NOW + timedelta(days=1)


def test_losing_the_position_repeats_batches_without_effect(plant: Plant) -> None:
    until = NOW - timedelta(days=140)
    list(collect(plant, "pump", until=until, now=NOW))
    before = plant.landing("pump").fingerprints()
    plant.state.set_position("riverside", "pump", None, NOW)
    assert list(collect(plant, "pump", until=until, now=NOW)) == []
    assert plant.landing("pump").fingerprints() == before
