"""A class and a plant that are only data, fed by files: no Python, and nothing that was dropped is lost."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from quality.reconciliation import reconcile
from tests.scenarios.installation import Installation

CLASS = """\
apiVersion: v3.2.0
kind: DataContract
id: fan-telemetry
name: fan
version: 1.0.0
status: active
description: {purpose: Readings of cooling fans.}
team: {name: facilities}
schema:
  - name: telemetry
    properties:
      - {name: equipment_id, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: ts, logicalType: timestamp, required: true, primaryKey: true, primaryKeyPosition: 2}
      - name: vibration_mm_s
        logicalType: number
        logicalTypeOptions: {minimum: 0, maximum: 40}
        customProperties: [{property: unit, value: mm/s}, {property: role, value: input}]
      - name: motor_temp_c
        logicalType: number
        logicalTypeOptions: {minimum: -20, maximum: 150}
        customProperties: [{property: unit, value: degC}, {property: role, value: input}]
customProperties:
  - {property: remainingUsefulLife, value: {unit: day, seconds: 86400, cap: 30}}
"""
SITE = """\
[calendar]
first_day = 2025-03-01
last_day = 2025-03-10

[fleets.fan]
source = { kind = "files", settle_s = 0 }
"""
START = datetime(2025, 3, 1, tzinfo=UTC)


def readings(days: int, machines: int = 3, first: int = 0) -> pa.Table:
    rows = [
        {
            "equipment_id": f"fan-{m}",
            "ts": START + timedelta(days=d, hours=6 * h),
            "vibration_mm_s": 2.0 + 0.1 * m + 0.01 * h + (0.4 * d if m == 1 else 0.0),
            "motor_temp_c": 40.0 + m + 0.3 * h,
        }
        for d in range(first, first + days)
        for m in range(machines)
        for h in range(4)
    ]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def plant(installation: Installation) -> tuple[Installation, Path]:
    (installation.home.contracts / "fan.odcs.yaml").write_text(CLASS)
    installation.add_site("west", SITE)
    drop = installation.home.drop_folder("west", "fan")
    drop.mkdir(parents=True)
    return installation, drop


def test_dropped_files_become_advisories_by_the_rules(plant: tuple[Installation, Path]) -> None:
    installation, drop = plant
    pa.csv.write_csv(readings(4), drop / "first.csv")
    pq.write_table(readings(4, first=4), drop / "second.parquet")
    lines = [json.dumps(r, default=str) for r in readings(1, first=8).to_pylist()]
    (drop / "third.jsonl").write_text("\n".join(lines) + "\n")
    report = installation.hybrid("run", "--site", "west")
    fleet = report["fleets"]["fan"]
    assert (fleet["windows_served"], fleet["telemetry"], fleet["telemetry_quarantine"]) == (9, 108, 0)
    assert (fleet["releases"], set(fleet["served_by"])) == (0, {"rules"})
    rows = installation.plant("west").advisories("fan").read("west")
    assert set(rows["fallback_reason"].to_pylist()) == {"no_release"}
    assert [p.name for p in drop.glob("*.*")] == []


def test_the_same_content_dropped_again_has_no_effect(plant: tuple[Installation, Path]) -> None:
    installation, drop = plant
    pq.write_table(readings(2), drop / "a.parquet")
    installation.hybrid("run", "--site", "west")
    pq.write_table(readings(2), drop / "the-same-again.parquet")
    report = installation.hybrid("run", "--site", "west")
    assert report["steps"] == []
    assert report["fleets"]["fan"]["telemetry"] == 24


def test_late_data_serves_its_window_and_those_after_it(plant: tuple[Installation, Path]) -> None:
    installation, drop = plant
    pq.write_table(readings(5, machines=2), drop / "two.parquet")
    installation.hybrid("run", "--site", "west")
    late = readings(1, machines=3, first=2)
    pq.write_table(late.slice(8), drop / "third-machine.parquet")
    report = installation.hybrid("run", "--site", "west")
    assert [(s["step"], s["first"], s["last"]) for s in report["steps"]] == [("serve", "2025-03-03", "2025-03-05")]


def torn(path: Path) -> None:
    pq.write_table(readings(1), path)
    path.write_bytes(path.read_bytes()[:-30])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_columns(path: Path) -> None:
    pq.write_table(pa.table({"machine": ["fan-1"], "speed": [3.0]}), path)


def not_parquet(path: Path) -> None:
    path.write_bytes(b"\x80\x04pickle" * 20)


def test_files_nobody_can_read_end_in_quarantine_with_their_reasons(plant: tuple[Installation, Path]) -> None:
    installation, drop = plant
    damages = {
        torn: "unreadable_file",
        empty: "empty_file",
        other_columns: "wrong_schema",
        not_parquet: "unreadable_file",
    }
    for damage in damages:
        damage(drop / f"{damage.__name__}.parquet")
    pq.write_table(readings(2), drop / "good.parquet")
    installation.hybrid("run", "--site", "west")
    west = installation.plant("west")
    rows = west.table("fan", "telemetry_quarantine").read("west").to_pylist()
    told = {damage: [r["reason"] for r in rows if f"{damage.__name__}.parquet" in r["raw"]] for damage in damages}
    assert {damage: [t.partition(":")[0] for t in texts] for damage, texts in told.items()} == {
        damage: [reason] for damage, reason in damages.items()
    }
    assert west.table("fan", "telemetry").read("west").num_rows == 24
    assert all(accepted == kept for _, accepted, kept in reconcile(west, "fan"))
    assert len([p for p in (drop / "refused").iterdir() if p.suffix == ".parquet"]) == 4


def test_ugly_rows_are_quarantined_one_by_one(plant: tuple[Installation, Path]) -> None:
    installation, drop = plant
    good = "fan-1,2025-03-01T00:00:00Z,2.0,40\n"
    ugly = [
        "fan-1,2025-03-01T01:00:00Z,-2.0,40\n",
        "fan-1,2025-03-01T02:00:00Z,2,warm\n",
        ",2025-03-01T03:00:00Z,2,40\n",
        "fan-1,someday,2,40\n",
        "fan-1,1999-03-01T00:00:00Z,2,40\n",
        "fan-1,2099-03-01T00:00:00Z,2,40\n",
        good,
        "fan-1,2025-03-01T00:00:00Z,9.9,40\n",
        "fan-1,2025-03-01T04:00:00Z\n",
    ]
    (drop / "ugly.csv").write_text("equipment_id,ts,vibration_mm_s,motor_temp_c\n" + good + "".join(ugly))
    installation.hybrid("run", "--site", "west")
    plant_west = installation.plant("west")
    reasons = plant_west.table("fan", "telemetry_quarantine").read("west")["reason"].to_pylist()
    assert sorted(r.partition(" ")[0].rstrip(":") for r in reasons) == [
        "ahead_of_clock",
        "conflicting_duplicate",
        "duplicate",
        "missing:equipment_id",
        "out_of_range:vibration_mm_s",
        "outside_window",
        "unreadable_line",
        "wrong_type:motor_temp_c",
        "wrong_type:ts",
    ]
    assert plant_west.table("fan", "telemetry").read("west").num_rows == 1
