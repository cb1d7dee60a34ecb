"""A day of bad telemetry is found, kept from the model and from training, answered by the rules, and made good."""

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hybrid_assets.features import plant_readings
from maintenance.equipment_class import equipment_class_from_contract
from resources.home import Home
from tests.scenarios.installation import Installation
from tests.scenarios.next_day import DAY, next_day
from tests.scenarios.played_daemon import PlayedDaemon, numbers, played_daemon
from tests.scenarios.test_quality_sensor import OLDER, judged_by_hand


@pytest.fixture
def daemon(fed_by_files: Installation) -> Iterator[tuple[PlayedDaemon, Home]]:
    with played_daemon(fed_by_files.home) as daemon:
        yield daemon, fed_by_files.home


def stuck(rows: pa.Table, machine: str, readings: int) -> pa.Table:
    """More readings of a machine, ten minutes apart, that all repeat its first of the day."""
    own = rows.filter(pc.equal(rows["equipment_id"], machine)).sort_by("ts").slice(0, 1)
    at = own.column_names.index("ts")
    ts = own["ts"]
    again = [own.set_column(at, "ts", pc.add(ts, pa.scalar(timedelta(minutes=10 * n)))) for n in range(1, readings + 1)]
    return pa.concat_tables(again)


def evaluation(daemon: PlayedDaemon, asset: str, check: str, day: date) -> dg.AssetCheckEvaluation:
    """What the UI has as the newest evaluation of a check for a window."""
    key = dg.AssetCheckKey(dg.AssetKey(["pump", asset]), check)
    history = daemon.instance.event_log_storage.get_asset_check_execution_history(key, limit=200)
    mine = [record for record in history if record.partition == f"{day}|north"]
    assert mine[0].event is not None
    event = mine[0].event.dagster_event
    assert event is not None
    return event.asset_check_evaluation_data


def until_idle(daemon: PlayedDaemon, sensor: str) -> list[str]:
    """The jobs that a sensor asks for, one tick after the other, until it asks for none."""
    ran: list[str] = []
    while new := daemon.run(sensor):
        ran += new
    return ran


def answered(daemon: PlayedDaemon, day: date) -> tuple[set[str], set[str | None]]:
    rows = daemon.plant().advisories("pump").read("north", day, day)
    return set(rows["served_by"].to_pylist()), set(rows["fallback_reason"].to_pylist())


def test_a_bad_day_is_flagged_blocked_answered_by_the_rules_and_made_good(daemon: tuple[PlayedDaemon, Home]) -> None:
    played, home = daemon
    plant, drop = played.plant(), home.drop_folder("north", "pump")
    judged_by_hand(played, but_for={("telemetry", OLDER - timedelta(days=n)) for n in range(3)})
    last = plant.table("pump", "telemetry").read("north", DAY - timedelta(days=1), DAY - timedelta(days=1))
    rows = next_day(last)
    machines = sorted(set(rows["equipment_id"].to_pylist()))
    silent = pa.array(machines[: len(machines) // 2])
    heard = rows.filter(pc.invert(pc.is_in(rows["equipment_id"], value_set=silent)))
    pq.write_table(pa.concat_tables([heard, stuck(rows, machines[-1], 26)]), drop / "half.parquet")

    assert played.run("pump_landing") == ["pump_serve"]
    refused = plant.table("pump", "telemetry_quarantine").read("north", DAY, DAY)
    assert refused.num_rows == 0, "every row of it is one that can be"
    assert answered(played, DAY)[0] == {"model:v1"}, "nothing was known of it yet"

    ran = until_idle(played, "pump_quality")
    assert ran.count("pump_fallback") == 1, "the rules answer once a verdict"
    assert plant.verdicts("pump").all()["telemetry", OLDER].run_id != "by hand", "older windows were due as well"
    assert ran.index("pump_fallback") == 1, "at once: the newest windows are judged first"
    found = evaluation(played, "telemetry", "completeness", DAY)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert numbers(found)["machines_silent"] >= len(silent) - 1  # one of them may have failed the day before
    assert silent[0].as_py() in str(numbers(found)["failing_rows"])
    frozen = evaluation(played, "telemetry", "stuck_sensors", DAY)
    assert (frozen.passed, frozen.severity) == (False, dg.AssetCheckSeverity.WARN), "one machine stops no plant"
    assert machines[-1] in str(numbers(frozen)["failing_rows"])
    assert str(numbers(found)["data_docs"]).endswith(f"pump/north/telemetry/{DAY}.html")
    assert answered(played, DAY)[1] == {"blocked"}
    assert "model:v1" not in answered(played, DAY)[0]

    played.wait(hours=2)
    assert played.run("pump_recovery") == [], "what a check forbids is not asked of the model"
    assert until_idle(played, "pump_quality") == []
    cls = equipment_class_from_contract(plant.catalog.contracts["pump"])
    readings, _ = plant_readings(plant, cls)
    assert readings.rows.ts.max().astype("datetime64[D]").item() == DAY - timedelta(days=1), "nothing is learnt from it"

    pq.write_table(rows.filter(pc.is_in(rows["equipment_id"], value_set=silent)), drop / "rest.parquet")
    assert played.run("pump_landing") == ["pump_serve"]
    assert answered(played, DAY)[1] == {"blocked"}, "until it was judged again"
    assert "pump_fallback" not in until_idle(played, "pump_quality")
    mended = evaluation(played, "telemetry", "completeness", DAY)
    assert numbers(mended)["machines_silent"] <= 1
    assert DAY not in plant.verdicts("pump").blocked()
    played.wait(hours=2)
    assert played.run("pump_recovery") != []
    assert answered(played, DAY) == ({"model:v1"}, {None})
    assert (home.quality / "docs" / "pump" / "north" / "telemetry" / f"{DAY}.html").exists()


@pytest.mark.slow
def test_a_day_of_which_nothing_can_be_used_is_blocked_and_every_machine_gets_the_safe_default(
    daemon: tuple[PlayedDaemon, Home],
) -> None:
    played, home = daemon
    plant, drop = played.plant(), home.drop_folder("north", "pump")
    rows = next_day(plant.table("pump", "telemetry").read("north", DAY - timedelta(days=1), DAY - timedelta(days=1)))
    machines = set(rows["equipment_id"].to_pylist())
    at = rows.column_names.index("vibration_mm_s")
    beyond = pa.array([9999.0] * rows.num_rows, rows["vibration_mm_s"].type)
    pq.write_table(rows.set_column(at, "vibration_mm_s", beyond), drop / "beyond.parquet")
    assert played.run("pump_landing") == ["pump_serve"]
    assert plant.table("pump", "telemetry_quarantine").read("north", DAY, DAY).num_rows == rows.num_rows
    assert until_idle(played, "pump_quality").count("pump_fallback") == 1
    found = evaluation(played, "telemetry", "completeness", DAY)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    given = plant.advisories("pump").read("north", DAY, DAY)
    assert machines <= set(given["equipment_id"].to_pylist())
    assert answered(played, DAY) == ({"safe_default"}, {"blocked"})

    # Served once more, as when a day before it is blocked as well, no machine loses its answer.
    first = played.instance.get_runs(limit=1)[0].run_id
    played.execute(dg.RunRequest(job_name="pump_score", partition_key=f"{DAY}|north", tags={}))
    assert played.instance.get_runs(limit=1)[0].run_id != first
    again = plant.advisories("pump").read("north", DAY, DAY)
    assert set(again["equipment_id"].to_pylist()) == set(given["equipment_id"].to_pylist())
    assert until_idle(played, "pump_quality").count("pump_fallback") == 0
