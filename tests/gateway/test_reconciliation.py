"""Accepted = stored + dead-lettered + spooled, by id; whatever is not is named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from backbone.errors import ConfigurationError
from cli.reconcile import reconcile
from gateway.porter.porter import Porter
from gateway.porter.service import open_porter
from gateway.reconciliation import Reconciliation, reconcile_site
from gateway.records import Record
from gateway.settings import SpoolSettings, settings_of
from gateway.spool import Spool
from tests.gateway.porter.floor import landings, letter, reading
from tests.gateway.porter.released_plant import ReleasedPlant
from tests.simulated_clock import Simulated


@pytest.fixture
def made(tmp_path: Path) -> ReleasedPlant:
    made = ReleasedPlant(tmp_path)
    made.plant.clock = Simulated()
    return made


def keep(made: ReleasedPlant, *records: Record, settings: SpoolSettings | None = None) -> int:
    with Spool(made.folders.spool, settings or SpoolSettings(segment_mib=0.005)) as spool:
        position = spool.end
        for record in records:
            position = spool.append([record.to_bytes()])
    return position


def land(made: ReleasedPlant, up_to: int, settings: SpoolSettings | None = None) -> None:
    given = settings_of(made.plant)
    porter: Porter = open_porter(made.plant, given if settings is None else replace(given, spool=settings))
    list(landings(porter, up_to))
    porter.close()


def of(made: ReleasedPlant) -> Reconciliation:
    (found,) = reconcile_site(made.plant).values()
    return found


RECORDS = [reading(0), letter(1), reading(2), reading(3), letter(4), reading(5)]


def test_everything_is_somewhere(made: ReleasedPlant) -> None:
    keep(made, *RECORDS)
    land(made, 4)
    found = of(made)
    assert found == Reconciliation(accepted=6, stored=3, dead_lettered=1, spooled=2, fleets=found.fleets)
    assert found.fleets["pump"].stored == 3
    assert found.holds
    land(made, 6)
    shutil.rmtree(made.folders.spool)
    found = of(made)
    assert (found.accepted, found.stored, found.dead_lettered, found.spooled) == (6, 4, 2, 0)
    assert found.holds


def test_what_ends_in_quarantine_is_stored_and_told(made: ReleasedPlant) -> None:
    ahead = json.dumps({"ts": "2026-01-02T00:00:00Z", "seq": 0, "values": {}}).encode()
    land(made, keep(made, replace(reading(0), raw=ahead), reading(1)))
    found = of(made)
    assert (found.stored, found.quarantined, found.holds) == (2, 1, True)


def test_a_row_that_is_gone_is_missing(made: ReleasedPlant) -> None:
    from deltalake import DeltaTable

    land(made, keep(made, *RECORDS))
    DeltaTable(str(made.plant.landing("pump").path("telemetry"))).delete("reading_id = 'press//2'")
    DeltaTable(str(made.folders.root.parent / "dead_letters")).delete("position = 4")
    shutil.rmtree(made.folders.spool)
    found = of(made)
    assert (found.accepted, found.stored, found.dead_lettered, found.missing, found.twice) == (6, 3, 1, 2, 0)
    assert found.missing_positions == ("2", "4")
    assert not found.holds


def test_a_row_that_is_there_again_is_told_by_its_id(made: ReleasedPlant) -> None:
    from deltalake import write_deltalake

    from resources.stores.tables import scan

    land(made, keep(made, *RECORDS))
    for path, wanted in (
        (made.plant.landing("pump").path("telemetry"), "reading_id"),
        (made.folders.root.parent / "dead_letters", "position"),
    ):
        row = scan(path, _everything(wanted)).slice(0, 1)
        for _ in range(2):  # in whatever order files are read: one of them holds nothing new
            write_deltalake(str(path), row, mode="append")
    found = of(made)
    assert (found.stored, found.dead_lettered, found.missing, found.twice) == (4, 2, 0, 4)
    assert {name.partition("/")[0].partition(" ")[0] for name in found.twice_ids} == {"press", "position"}


def _everything(column: str) -> object:
    import pyarrow.compute as pc

    return pc.is_valid(pc.field(column))


def test_one_reading_under_two_positions_is_there_twice(made: ReleasedPlant) -> None:
    land(made, keep(made, reading(0), reading(1), reading(0)))
    found = of(made)
    assert (found.accepted, found.stored, found.missing, found.twice) == (3, 3, 0, 1)
    assert found.twice_ids == ("press//0",)


def test_what_a_full_spool_let_go_of_is_no_loss_where_it_was_told_to(made: ReleasedPlant) -> None:
    small = SpoolSettings(max_mib=0.02, segment_mib=0.005, on_full="drop_oldest")
    up_to = keep(made, *(reading(n) for n in range(200)), settings=small)
    land(made, up_to, small)
    found = of(made)
    assert found.dropped > 0
    assert (found.stored + found.dropped, found.missing, found.holds) == (200, 0, True)


def test_a_file_of_the_spool_that_is_gone_is_a_loss_otherwise(made: ReleasedPlant) -> None:
    up_to = keep(made, *(reading(n) for n in range(200)))
    files = sorted(made.folders.spool.glob("*.spool"))
    assert len(files) > 2
    lost = int(files[2].name.split("-")[1]) - int(files[1].name.split("-")[1])
    files[1].unlink()
    assert of(made).missing == lost
    land(made, up_to)
    found = of(made)
    assert (found.missing, found.stored, found.spooled) == (lost, 200 - lost, 0)


def test_an_earlier_spool_still_counts(made: ReleasedPlant) -> None:
    land(made, keep(made, *RECORDS))
    shutil.rmtree(made.folders.spool)
    land(made, keep(made, reading(10)))
    found = of(made)
    assert (found.accepted, found.stored, found.dead_lettered, found.holds) == (7, 5, 2, True)


def test_the_command_tells_and_exits_with_1_where_it_does_not_hold(
    made: ReleasedPlant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deltalake import DeltaTable

    monkeypatch.setenv("HYBRID_HOME", str(made.plant.catalog.home.root))
    with pytest.raises(ConfigurationError, match="No gateway"):
        reconcile("north", as_json=True)
    land(made, keep(made, *RECORDS))
    assert reconcile("north", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    keys = ("accepted", "stored", "dead_lettered", "spooled", "missing", "twice", "dropped", "quarantined")
    assert [told[key] for key in keys] == [6, 4, 2, 0, 0, 0, 0, 0]
    assert told["gateways"]["gw-1"]["fleets"] == {"pump": {"stored": 4, "quarantined": 0}}
    DeltaTable(str(made.plant.landing("pump").path("telemetry"))).delete("reading_id = 'press//5'")
    shutil.rmtree(made.folders.spool)
    assert reconcile("north", as_json=False) == 1
    out = capsys.readouterr().out
    assert "missing positions: 5" in out
