"""Telemetry as ugly as plants send it, through the command: what is refused, what is flagged, who answers."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from quality.reconciliation import reconcile
from resources.plant import Plant
from tests.scenarios.installation import Installation
from tests.scenarios.next_day import DAY, next_day
from tests.scenarios.test_dropped_files import CLASS, SITE, START, readings
from tests.scenarios.test_judged_without_a_daemon import judged_by_hand

pytestmark = pytest.mark.slow

AFTER = DAY + timedelta(days=1)
AT_ITS_OWN = timedelta(minutes=7)


def day_of(plant: Plant) -> pa.Table:
    """The next day of the plant, as it should come."""
    before = DAY - timedelta(days=1)
    return next_day(plant.table("pump", "telemetry").read("north", before, before))


def text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return "" if value is None else str(value)


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    lines = [",".join(rows[0]), *(",".join(text(value) for value in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def write_json_lines(rows: list[dict[str, Any]], path: Path) -> None:
    path.write_text("".join(json.dumps(row, default=text) + "\n" for row in rows))


def refused(good: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Rows that are sent besides, and why each is refused."""
    ahead = datetime.now(UTC) + timedelta(hours=5)
    spoilt: list[tuple[dict[str, Any], str]] = [
        ({"flow_m3_h": "inf"}, "out_of_range:flow_m3_h"),
        ({"suction_pressure_bar": "-inf"}, "out_of_range:suction_pressure_bar"),
        ({"flow_m3_h": -5.0}, "out_of_range:flow_m3_h"),
        ({"discharge_pressure_bar": 870.0}, "out_of_range:discharge_pressure_bar"),  # kPa
        ({"motor_current_a": "broken"}, "wrong_type:motor_current_a"),
        ({"equipment_id": " "}, "missing:equipment_id"),
        ({"ts": None}, "missing:ts"),
        ({"ts": "soon"}, "wrong_type:ts"),
        ({"ts": datetime(1970, 1, 1, tzinfo=UTC)}, "outside_window"),
        ({"ts": ahead}, "ahead_of_clock"),
    ]
    return [
        (row | {"ts": row["ts"] + AT_ITS_OWN} | change, reason)
        for row, (change, reason) in zip(good, spoilt, strict=False)
    ]


def drop_ugly(rows: pa.Table, drop: Path) -> list[str]:
    """The rows in no order, over files of every format, among others; the reasons for which those are refused."""
    good = rows.to_pylist()
    drawn = random.Random(3)  # noqa: S311 - the same mixture each time
    bad = refused(good)
    sent_again = drawn.sample(good, 5)
    lines = [*(row for row, _ in bad), *good[::2], *sent_again]
    drawn.shuffle(lines)
    write_csv(lines, drop / "a.csv")
    rest = good[1::2]
    drawn.shuffle(rest)
    half = len(rest) // 2
    write_json_lines(rest[:half], drop / "b.jsonl")
    pq.write_table(pa.Table.from_pylist(rest[half:], rows.schema), drop / "c.parquet")
    pq.write_table(pa.Table.from_pylist(rest[half:], rows.schema), drop / "the same again.parquet")
    (drop / "torn.parquet").write_bytes((drop / "c.parquet").read_bytes()[:-30])
    (drop / "nothing.csv").write_text("")
    doubled = [row for row in sent_again if row in good[::2]]
    reasons = [reason for _, reason in bad] + ["duplicate"] * len(sent_again) + ["unreadable_file", "empty_file"]
    assert doubled, "some of them within a file"
    return reasons


def kept(plant: Plant, product: str) -> pa.Table:
    table = plant.advisories("pump") if product == "advisories" else plant.table("pump", product)
    rows = table.read("north", DAY, DAY).sort_by([("equipment_id", "ascending"), ("ts", "ascending")])
    return rows.drop_columns([n for n in ("arrival", "batch", "offset", "epoch", "run_id") if n in rows.column_names])


def test_an_ugly_day_is_answered_like_the_same_day_clean(
    twins_fed_by_files: tuple[Installation, Installation],
) -> None:
    import pandas as pd

    clean, ugly = twins_fed_by_files
    rows = day_of(clean.plant())
    pq.write_table(rows, clean.home.drop_folder("north", "pump") / "day.parquet")
    reasons = drop_ugly(rows, ugly.home.drop_folder("north", "pump"))
    for installation in (clean, ugly):
        installation.hybrid("run", "--site", "north")

    plant = ugly.plant()
    told = plant.table("pump", "telemetry_quarantine").read("north", DAY, AFTER)
    assert sorted(reason.partition(": ")[0] for reason in told["reason"].to_pylist()) == sorted(reasons)
    assert all(accepted == stored for _, accepted, stored in reconcile(plant, "pump"))
    for product in ("telemetry", "condition_features", "prognoses", "rule_assessments", "advisories"):
        same_day = [kept(of, product).to_pandas() for of in (plant, clean.plant())]
        pd.testing.assert_frame_equal(*same_day, check_exact=True, obj=product)
    assert kept(plant, "telemetry").num_rows == rows.num_rows


def of(machine: str, rows: pa.Table) -> pa.Table:
    return rows.filter(pc.equal(rows["equipment_id"], machine))


def changed(rows: pa.Table, machine: str, **columns: pa.ChunkedArray) -> pa.Table:
    """The rows, with other values of some columns in those of a machine."""
    mine = pc.equal(rows["equipment_id"], machine)
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, pc.if_else(mine, values, rows[name]))
    return rows


def test_sensors_that_cannot_be_right_are_flagged_and_the_rules_answer_for_their_machines_alone(
    fed_by_files: Installation,
) -> None:
    installation, plant = fed_by_files, fed_by_files.plant()
    judged_by_hand(plant)
    rows = day_of(plant)
    machines = sorted(set(rows["equipment_id"].to_pylist()))
    fahrenheit, exchanged, infinite, other = machines[:4]
    rows = changed(rows, fahrenheit, bearing_temp_c=pc.add(pc.multiply(rows["bearing_temp_c"], 1.8), 32.0))
    suction, seal = rows["suction_pressure_bar"], rows["seal_pressure_bar"]
    rows = changed(rows, exchanged, suction_pressure_bar=seal, seal_pressure_bar=suction)
    rows = changed(rows, infinite, flow_m3_h=pa.chunked_array([pa.array([float("inf")] * rows.num_rows)]))
    pq.write_table(rows, installation.home.drop_folder("north", "pump") / "day.parquet")

    told = installation.hybrid("run", "--site", "north", checks=True)

    plant = installation.plant()
    advised = {row["equipment_id"]: row for row in plant.advisories("pump").read("north", DAY, DAY).to_pylist()}
    for machine in (fahrenheit, exchanged):
        row = advised[machine]
        assert row["served_by"] in ("rules", "safe_default"), machine
        assert row["fallback_reason"] in ("implausible", "out_of_range")
        assert row["degraded"]
    assert infinite not in advised, "it has no reading that could be used"
    assert advised[other]["served_by"] == "model:v1"
    by_model = [row for row in advised.values() if row["served_by"] == "model:v1"]
    assert len(by_model) >= len(advised) - 3
    quarantined = plant.table("pump", "telemetry_quarantine").read("north", DAY, DAY)
    assert set(of(infinite, quarantined)["reason"].to_pylist()) == {"out_of_range:flow_m3_h"}

    verdicts = plant.verdicts("pump").all()
    assert "answerable" in verdicts["prognoses", DAY].failed
    assert "completeness" in verdicts["telemetry", DAY].failed
    assert {verdicts[product, DAY].standing for product in ("prognoses", "telemetry")} == {"warned"}
    assert told["fleets"]["pump"]["windows_blocked"] == 0, "three machines of sixteen stop no plant"


def test_a_machine_of_which_a_repair_is_told_late_starts_anew_from_then_on(installation: Installation) -> None:
    (installation.home.contracts / "fan.odcs.yaml").write_text(CLASS)
    installation.add_site("west", SITE)
    drop = installation.home.drop_folder("west", "fan")
    (drop / "maintenance").mkdir(parents=True)
    pq.write_table(readings(6), drop / "telemetry.parquet")
    installation.hybrid("run", "--site", "west")
    repaired = START + timedelta(days=2, hours=9)
    event = {"equipment_id": "fan-1", "ts": repaired, "event": "preventive"}
    pq.write_table(pa.Table.from_pylist([event]), drop / "maintenance" / "late.parquet")

    steps = installation.hybrid("run", "--site", "west")["steps"]

    assert [(s["step"], s["first"], s["last"]) for s in steps] == [("serve", "2025-03-03", "2025-03-06")]
    west = installation.plant("west")
    features = of("fan-1", west.table("fan", "condition_features").read("west")).sort_by("ts").to_pylist()
    assert all(row["life"] == int(row["ts"] > repaired) for row in features)
    first = next(row for row in features if row["life"] == 1)
    assert (first["age"], first["ts"]) == (0, START + timedelta(days=2, hours=12))
    others = west.table("fan", "condition_features").read("west").filter(pc.field("equipment_id") != "fan-1")
    assert set(others["life"].to_pylist()) == {0}


FAN_FAILURES = [("fan-0", 2, 20), ("fan-1", 4, 9)]
"""Machine, day and hour."""


def test_a_class_with_two_failures_in_all_is_served_by_the_rules_and_says_why(installation: Installation) -> None:
    (installation.home.contracts / "fan.odcs.yaml").write_text(CLASS)
    installation.add_site("west", SITE)
    drop = installation.home.drop_folder("west", "fan")
    (drop / "maintenance").mkdir(parents=True)
    pq.write_table(readings(9), drop / "telemetry.parquet")
    events = [
        {"equipment_id": machine, "ts": START + timedelta(days=day, hours=hour), "event": "failure"}
        for machine, day, hour in FAN_FAILURES
    ]
    pq.write_table(pa.Table.from_pylist(events), drop / "maintenance" / "failures.parquet")

    fleet = installation.hybrid("run", "--site", "west", "--train")["fleets"]["fan"]

    assert (fleet["releases"], set(fleet["served_by"])) == (0, {"rules"})
    west = installation.plant("west")
    advised = west.advisories("fan").read("west")
    assert set(advised["fallback_reason"].to_pylist()) == {"no_release"}
    assert all(advised["degraded"].to_pylist())
    labelled = west.table("fan", "training_set").read("west")
    assert set(labelled["equipment_id"].to_pylist()) == {machine for machine, *_ in FAN_FAILURES}
    with dg.DagsterInstance.from_config(str(installation.home.dagster)) as instance:
        key = dg.AssetKey(["fan", "trained_model"])
        assert instance.get_latest_materialization_event(key) is None
        (told,) = instance.fetch_observations(key, limit=1).records
        observed = told.event_log_entry.asset_observation
    assert observed is not None
    assert "ended in failure" in str(observed.metadata)
