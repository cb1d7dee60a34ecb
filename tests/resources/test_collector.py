"""What is due when, and that a crash between landing and noting the position does no harm."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backbone.row_checks import DEFECT
from backbone.windows import WindowRange
from resources.catalog.sites import SHIPPED
from resources.collector import collect, due_until
from resources.home import Home
from resources.plant import Catalog, Plant
from resources.stores.delta_log import commits
from resources.stores.durable import confirmed
from tests.scenarios.installation import Installation

NOW = datetime(2025, 6, 15, 9, 30, tzinfo=UTC)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    (home.root / "since").write_text("2025-06-15\n")
    # The demonstration plant, without its gateway.
    before, _, _ = (SHIPPED / "riverside.toml").read_text().partition("# Up to the day of the first run")
    simulated = '[fleets.pump]\nsource = { kind = "simulator" }\n'
    home.prepare()
    (home.sites / "riverside.toml").write_text(before + simulated)
    return Plant(Catalog(home), "riverside")


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


def test_what_its_source_is_told_was_taken_is_on_the_disk_and_what_a_power_failure_tore_is_landed_again(
    plant: Plant,
) -> None:
    until = NOW - timedelta(days=140)
    list(collect(plant, "pump", until=until, now=NOW))
    landing = plant.landing("pump")
    table = landing.path("telemetry")
    newest, _ = commits(table)[-1]
    assert confirmed(table) == newest
    held, before = plant.state.position("riverside", "pump"), landing.fingerprints()
    (table / "_delta_log" / "_confirmed").write_text("-1")
    for file in table.rglob("*.parquet"):
        file.write_bytes(b"")  # the position of before it is on the disk, as the state's own is
    plant.state.set_position("riverside", "pump", None, NOW)
    list(collect(plant, "pump", until=until, now=NOW))
    assert plant.landing("pump").fingerprints().keys() == before.keys()
    assert plant.state.position("riverside", "pump") == held


def test_losing_the_position_repeats_batches_without_effect(plant: Plant) -> None:
    until = NOW - timedelta(days=140)
    list(collect(plant, "pump", until=until, now=NOW))
    before = plant.landing("pump").fingerprints()
    plant.state.set_position("riverside", "pump", None, NOW)
    assert list(collect(plant, "pump", until=until, now=NOW)) == []
    assert plant.landing("pump").fingerprints() == before


def test_what_a_file_holds_beyond_the_days_asked_for_is_good_if_its_time_has_come(tmp_path: Path) -> None:
    installation = Installation(Home(tmp_path / "home").prepare())
    calendar = "[calendar]\nfirst_day = 2025-06-01\n"
    installation.add_site("west", calendar + '[fleets.pump]\nsource = { kind = "files", settle_s = 0 }\n')
    drop = installation.home.drop_folder("west", "pump")
    drop.mkdir(parents=True)
    times = [NOW - timedelta(days=3), NOW - timedelta(days=1), NOW + timedelta(minutes=9), NOW + timedelta(minutes=11)]
    pq.write_table(pa.table({"equipment_id": ["p1"] * 4, "ts": times}), drop / "days.parquet")
    west = installation.plant("west")
    assert [landed.receipt.rows for landed in collect(west, "pump", until=NOW - timedelta(days=2), now=NOW)] == [4]
    landing, days = west.landing("pump"), WindowRange("west", NOW.date() - timedelta(days=3), NOW.date())
    landing.export("telemetry", days, tmp_path / "landed.parquet")
    assert pq.read_table(tmp_path / "landed.parquet")[DEFECT].to_pylist() == [None, None, None, "ahead_of_clock"]
