"""What is told of a day that a check forbids: the failed assertion, the rules' answer with its reason, why and what."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from resources.home import Home
from tests.openlineage_validator import assert_valid
from tests.scenarios.installation import Installation
from tests.scenarios.lineage import assert_what_is_read_was_written, events_of_instance, inputs, of_asset, version
from tests.scenarios.next_day import DAY, next_day
from tests.scenarios.played_daemon import PlayedDaemon, played_daemon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WINDOW = f"{DAY}|north"


@pytest.fixture
def daemon(fed_by_files: Installation) -> Iterator[tuple[PlayedDaemon, Home]]:
    with played_daemon(fed_by_files.home) as daemon:
        yield daemon, fed_by_files.home


def out_of_range(rows: pa.Table, machine: str) -> pa.Table:
    """One more reading of a machine, a minute after its last, that no sensor can have."""
    last = rows.filter(pc.equal(rows["equipment_id"], machine)).sort_by([("ts", "descending")]).slice(0, 1)
    later = pc.add(last["ts"], pa.scalar(timedelta(minutes=1)))
    last = last.set_column(last.column_names.index("ts"), "ts", later)
    at = last.column_names.index("vibration_mm_s")
    return last.set_column(at, "vibration_mm_s", pa.array([9999.0], last["vibration_mm_s"].type))


def why_and_what(installation: Installation, machine: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trace of a machine's answer of the bad day, and what its vibration sensor touched on that day."""
    day = str(DAY)
    touched = installation.hybrid("impact", machine, "vibration_mm_s", "--from", day, "--to", day)
    return installation.hybrid("trace", f"north/pump/{machine}/{day}"), touched


def blocked_day_is_explained(installation: Installation, heard: str, silent: str, readings: int) -> None:
    found, touched = why_and_what(installation, heard)
    (check,) = found["forbidden_by"]
    assert (check["asset"], check["name"], check["of_version"]) == ("pump/telemetry", "completeness", "1")
    assert check["numbers"]["machines_silent"] == 8
    assert 0 < check["of_machine"]["completeness"] < 0.75
    assert found["advisory"]["servedBy"] in ("rules", "safe_default")
    assert {s["location"] for s in found["steps"] if s["day"] == str(DAY)} == {"on_prem"}
    seen = found["readings"]
    assert (seen["version"], seen["read_in_version"], seen["count"]) == (1, 1, readings)
    assert {Path(row["file"]).name.partition("-")[2] for row in seen["rows"]} == {"half.parquet"}
    assert [row["reason"] for row in seen["quarantined"]] == ["out_of_range:vibration_mm_s"]
    assert touched["windows"]["pump/telemetry"] == [str(DAY)]
    assert touched["models"] == [], "nothing was learnt since"
    assert [a["id"] for a in touched["advisories"]] == [found["id"]]
    text = installation.run("trace", f"north/pump/{heard}/{DAY}").stdout.splitlines()
    assert "because blocked: completeness of pump/telemetry" in text[0]
    assert text[1].startswith("  completeness failed: readings of each machine: ")

    found, touched = why_and_what(installation, silent)
    assert found["advisory"]["servedBy"] == "safe_default"
    assert found["forbidden_by"][0]["of_machine"] == {"completeness": 0}
    assert (found["readings"]["count"], found["readings"]["quarantined"]) == (0, [])
    assert (touched["windows"], touched["advisories"]) == ({}, []), (
        "it was silent: there is no reading that could be bad"
    )


def mended_day_is_explained(installation: Installation, heard: str, silent: str, blocked: str) -> None:
    found, _ = why_and_what(installation, heard)
    assert (found["advisory"]["servedBy"], found["forbidden_by"]) == ("model:v1", [])
    assert blocked in found["superseded_or_superseding"]
    assert found["readings"]["version"] == 2
    before = installation.hybrid("trace", blocked)
    assert [check["name"] for check in before["forbidden_by"]] == ["completeness"], "it is told for good"
    assert before["readings"]["version"] == before["readings"]["read_in_version"] == 1
    found, touched = why_and_what(installation, silent)
    assert found["readings"]["count"] > 0
    assert [a["id"] for a in touched["advisories"]] == [found["id"]]


def test_the_failed_check_and_the_answer_in_its_stead_are_told(
    daemon: tuple[PlayedDaemon, Home], tmp_path: Path
) -> None:
    played, home = daemon
    before = [r.dagster_run.run_id for r in played.instance.get_run_records()]
    day_before = DAY - timedelta(days=1)
    rows = next_day(played.plant().table("pump", "telemetry").read("north", day_before, day_before))
    machines = sorted(set(rows["equipment_id"].to_pylist()))
    half = rows.filter(pc.is_in(rows["equipment_id"], value_set=pa.array(machines[: len(machines) // 2])))
    drop = home.drop_folder("north", "pump")
    pq.write_table(pa.concat_tables([half, out_of_range(half, machines[0])]), drop / "half.parquet")
    assert played.run("pump_landing") == ["pump_serve"]
    assert "pump_fallback" in [*played.run("pump_quality"), *played.run("pump_quality")]

    after = [r.dagster_run.run_id for r in played.instance.get_run_records() if r.dagster_run.run_id not in before]
    earlier = events_of_instance(home, played.instance, since=after)
    found = events_of_instance(home, played.instance, since=before)
    assert_valid(found, tmp_path)
    assert_what_is_read_was_written(found, earlier)
    stood_in = of_asset(found, "pump/rule_assessments", window=WINDOW)[-1]
    # Features are computed anew, against the baseline of the release.
    assert set(inputs(stood_in)) == {"pump/telemetry", "pump/maintenance_history", "registry/north"}
    stored = of_asset(found, "pump/telemetry", window=WINDOW)[0]
    assert stored["inputs"][0]["facets"]["lineage"]["inputs"][0]["name"] == str(home.drop_folder("north", "pump"))
    checked = of_asset(found, "pump/telemetry/checks", window=WINDOW)[-1]
    (dataset,) = checked["inputs"]
    assertions = {a["name"]: a for a in dataset["inputFacets"]["dataQualityAssertions"]["assertions"]}
    assert assertions["completeness"]["success"] is False
    assert assertions["completeness"]["severity"] == "error"
    assert assertions["completeness"]["expected"]
    assert assertions["completeness"]["actual"]
    assert assertions["not_null"]["success"] is True
    assert dataset["inputFacets"]["dataQualityMetrics"]["rowCount"] == half.num_rows
    assert version(dataset) == version(stored["outputs"][0])
    assert {t["name"]: t["status"] for t in checked["run"]["facets"]["test"]["tests"]}["completeness"] == "fail"
    answer = of_asset(found, "pump/advisories", window=WINDOW)[-1]["run"]["facets"]["hybrid_answer"]
    assert answer["because"] == "blocked"
    assert set(answer["fallbackReasons"]) == {"blocked"}
    assert set(answer["servedBy"]) <= {"rules", "safe_default"}

    installation, heard, silent = Installation(home), machines[0], machines[-1]
    installation.hybrid("lineage", "relay")
    own = half.filter(pc.equal(half["equipment_id"], heard)).num_rows
    blocked_day_is_explained(installation, heard, silent, own)
    blocked = installation.hybrid("trace", f"north/pump/{heard}/{DAY}", "--no-readings")["id"]
    pq.write_table(
        rows.filter(pc.invert(pc.is_in(rows["equipment_id"], value_set=pa.array(machines[: len(machines) // 2])))),
        drop / "rest.parquet",
    )
    assert played.run("pump_landing") == ["pump_serve"]
    while played.run("pump_quality"):
        pass
    played.wait(hours=2)
    assert played.run("pump_recovery") != []
    installation.hybrid("lineage", "relay")
    mended_day_is_explained(installation, heard, silent, blocked)
