"""What is told of a day that a check forbids: the failed assertion, and the rules' answer with its reason."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

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


def test_the_failed_check_and_the_answer_in_its_stead_are_told(
    daemon: tuple[PlayedDaemon, Home], tmp_path: Path
) -> None:
    played, home = daemon
    before = [r.dagster_run.run_id for r in played.instance.get_run_records()]
    day_before = DAY - timedelta(days=1)
    rows = next_day(played.plant().table("pump", "telemetry").read("north", day_before, day_before))
    machines = sorted(set(rows["equipment_id"].to_pylist()))
    half = rows.filter(pc.is_in(rows["equipment_id"], value_set=pa.array(machines[: len(machines) // 2])))
    pq.write_table(half, home.drop_folder("north", "pump") / "half.parquet")
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
