"""Lineage of real runs: several processes, retries, cancels, killed workers, on every storage that Dagster has."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from backbone.lineage.events import canonical
from resources.bindings.lineage import events_of_run, runless_events
from resources.bindings.partitions import PARTITION, RANGE_END, RANGE_START
from resources.bindings.plants import Plants
from resources.home import Home
from tests.openlineage_validator import assert_valid
from tests.resources.bindings import mill

DAY = "2025-01-02|north"
_PATIENCE_S = 60.0
_CONSOLIDATED = """
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config: {base_dir: HERE/history}
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {base_dir: HERE/history}
"""
_POSTGRES = """
storage:
  postgres:
    postgres_url: URL
"""


_POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgres)
dear = pytest.mark.parametrize(
    "settings", ["consolidated", pytest.param("sqlite", marks=pytest.mark.slow), _POSTGRESQL], indirect=True
)
"""For tests that start processes: on the storage that homes have, and on the others where there is time for that."""


@pytest.fixture(params=["consolidated", "sqlite", _POSTGRESQL])
def settings(request: pytest.FixtureRequest) -> Iterator[str]:
    """A `dagster.yaml` for each kind of storage, in a folder HERE."""
    common = "telemetry: {enabled: false}\n"
    if request.param == "sqlite":
        yield common
    elif request.param == "consolidated":
        yield common + _CONSOLIDATED
    else:
        pytest.importorskip("dagster_postgres")
        with _database() as url:
            yield common + _POSTGRES.replace("URL", url)


@contextmanager
def _database() -> Iterator[str]:
    """URL of a database of its own in the PostgreSQL that the environment names."""
    from sqlalchemy import create_engine, make_url

    if not (named := os.environ.get("HYBRID_TEST_POSTGRES")):
        pytest.skip("needs a PostgreSQL: set HYBRID_TEST_POSTGRES")
    name = f"lineage_{uuid.uuid4().hex}"
    engine = create_engine(named, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield make_url(named).set(drivername="postgresql+psycopg2", database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def instance(
    settings: str, tmp_path: Path, new_history: Callable[[Path, str], dg.DagsterInstance]
) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "marks").mkdir()
    with new_history(tmp_path / "dagster", settings) as found:
        yield found


@pytest.fixture
def plants(tmp_path: Path) -> Plants:
    return Plants(home=str(Home(tmp_path / "home").prepare().root))


@pytest.fixture
def events(instance: dg.DagsterInstance, plants: Plants, tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Events of a run, which hold the standard and are the same when asked for again."""

    def of(run_id: str) -> list[dict[str, Any]]:
        graph = mill.DEFINITIONS.resolve_asset_graph()
        found = events_of_run(instance, run_id, plants, graph=graph)
        again = events_of_run(instance, run_id, plants, graph=graph)
        assert [canonical(e) for e in found] == [canonical(e) for e in again]
        assert_valid(found, tmp_path)
        return found

    return of


def execute(instance: dg.DagsterInstance, job: Callable[[], dg.JobDefinition], mode: str = "", **more: Any) -> str:
    tags = {PARTITION: DAY, mill.MODE: mode, mill.MARKS: str(Path(instance.root_directory).parent / "marks")}
    with dg.execute_job(dg.reconstructable(job), instance, tags=tags, raise_on_error=False, **more) as done:
        return str(done.run_id)


def ends(found: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Job → types of its terminal events, in order."""
    listed: dict[str, list[str]] = {}
    for event in found:
        if event["eventType"] != "START":
            listed.setdefault(event["job"]["name"], []).append(event["eventType"])
    return listed


def failures(found: list[dict[str, Any]], job: str) -> list[dict[str, Any]]:
    return [
        e["run"]["facets"]["errorMessage"]
        for e in found
        if e["job"]["name"] == job and "errorMessage" in e["run"]["facets"]
    ]


def test_all_goes_well(instance: dg.DagsterInstance, events: Any) -> None:
    assert ends(events(execute(instance, mill.one_process))) == {
        "mill/grain": ["COMPLETE"],
        "mill/flour": ["COMPLETE"],
        "mill/bran": ["COMPLETE"],
        "milling": ["COMPLETE"],
        "mill/flour/checks": ["COMPLETE"],
        "mill/bread": ["COMPLETE"],
        "mill/crumbs": ["COMPLETE"],
        "all_of_it": ["COMPLETE"],
    }


@dear
def test_in_several_processes_the_right_asset_fails_with_the_real_error(
    instance: dg.DagsterInstance, events: Any
) -> None:
    found = events(execute(instance, mill.several_processes, "breaks"))
    # Flour was made before the stone broke; bread was never begun.
    assert ends(found) == {
        "mill/grain": ["COMPLETE"],
        "mill/flour": ["COMPLETE"],
        "mill/bran": ["FAIL"],
        "milling": ["FAIL"],
        "all_of_it": ["FAIL"],
    }
    (error,) = failures(found, "mill/bran")
    assert error["message"] == "ValueError: the stone broke; password=***"
    assert "raise ValueError" in error["stackTrace"]
    text = b"".join(canonical(e) for e in found).decode()
    assert mill.SECRET not in text


@dear
def test_a_retry_is_another_attempt(instance: dg.DagsterInstance, events: Any) -> None:
    found = events(execute(instance, mill.several_processes, "breaks_once"))
    assert ends(found)["mill/bran"] == ["FAIL", "COMPLETE"]
    assert "the stone slipped" in failures(found, "mill/bran")[0]["message"]
    assert ends(found)["all_of_it"] == ["COMPLETE"]
    bran = [e["run"] for e in found if e["job"]["name"] == "mill/bran"]
    assert [r["facets"]["hybrid_run"]["attempt"] for r in bran] == [0, 0, 1, 1]
    assert len({r["runId"] for r in bran}) == 2


def test_a_failed_blocking_check_stops_what_depends_on_it(instance: dg.DagsterInstance, events: Any) -> None:
    found = events(execute(instance, mill.one_process, "stones"))
    assert ends(found)["mill/flour"] == ["COMPLETE"]
    assert ends(found)["all_of_it"] == ["FAIL"]
    assert "mill/bread" not in {e["job"]["name"] for e in found}
    checked = next(e for e in found if e["job"]["name"] == "mill/flour/checks" and e["eventType"] != "START")
    (assertion,) = checked["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["success"], assertion["severity"], assertion["params"]["blocking"]) == (False, "error", True)
    assert (assertion["expected"], assertion["actual"]) == ("no stones", "2 stones")


def test_what_is_skipped_keeps_its_context(instance: dg.DagsterInstance, events: Any) -> None:
    found = events(execute(instance, mill.one_process, "no_yeast"))
    bread = next(e for e in found if e["job"]["name"] == "mill/bread" and e["eventType"] == "COMPLETE")
    assert bread["run"]["facets"]["hybrid_notMade"]["reason"] == "There was no yeast."
    assert bread["outputs"] == []
    assert [d["name"] for d in bread["inputs"]] == ["mill/flour"]
    assert ends(found)["mill/crumbs"] == ["ABORT"]
    assert ends(found)["all_of_it"] == ["COMPLETE"]


@dear
def test_a_range_of_windows_is_a_run_for_each(instance: dg.DagsterInstance, events: Any) -> None:
    tags = {RANGE_START: "2025-01-01|north", RANGE_END: "2025-01-20|north"}
    with dg.execute_job(dg.reconstructable(mill.one_process), instance, tags=tags) as done:
        found = events(done.run_id)
    assert ends(found)["mill/crumbs"] == ["COMPLETE"] * 20
    crumbs = [e["run"]["facets"] for e in found if e["job"]["name"] == "mill/crumbs" and e["eventType"] == "COMPLETE"]
    assert sorted(f["nominalTime"]["nominalStartTime"][:10] for f in crumbs) == [
        f"2025-01-{d:02}" for d in range(1, 21)
    ]


def test_a_run_that_goes_on_from_another_names_it(
    instance: dg.DagsterInstance, plants: Plants, events: Any, tmp_path: Path
) -> None:
    first = execute(instance, mill.one_process, "breaks")
    options = dg.ReexecutionOptions.from_failure(first, instance)
    second = execute(instance, mill.one_process, reexecution_options=options)
    graph = mill.DEFINITIONS.resolve_asset_graph()
    both = [e for run in (first, second) for e in events_of_run(instance, run, plants, graph=graph)]
    assert_valid(both, tmp_path)
    again = [e for e in both if e["run"]["facets"]["hybrid_run"]["dagsterRunId"] == second]
    assert "mill/grain" not in ends(again)
    assert ends(again)["mill/bran"] == ["COMPLETE"]
    run = next(e for e in again if e["run"]["runId"] == second)
    assert run["run"]["facets"]["parent"]["run"]["runId"] == first
    assert {e["run"]["facets"]["parent"]["root"]["run"]["runId"] for e in again} == {first}


def test_runs_of_a_backfill_stand_below_it(instance: dg.DagsterInstance, plants: Plants, tmp_path: Path) -> None:
    asked = PartitionBackfill(
        backfill_id="abcdefgh",
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=time.time() - 5,
        asset_selection=[mill.GRAIN],
        serialized_asset_backfill_data="{}",
    )
    instance.add_backfill(asked)
    graph, runs = mill.DEFINITIONS.resolve_asset_graph(), []
    for day in ("2025-01-02|north", "2025-01-03|north"):
        tags = {PARTITION: day, "dagster/backfill": "abcdefgh"}
        with dg.execute_job(dg.reconstructable(mill.one_process), instance, tags=tags) as done:
            runs.append(done.run_id)
    before = [e for run in runs for e in events_of_run(instance, run, plants, graph=graph)]
    assert len({canonical(e) for e in before if e["job"]["name"] == "backfill"}) == 1, "the same START from each"
    instance.update_backfill(asked.with_status(BulkActionStatus.COMPLETED_SUCCESS).with_end_timestamp(time.time()))
    told = {canonical(e): e for e in [*before, *runless_events(instance, plants, graph=graph)]}
    assert_valid(list(told.values()), tmp_path)
    (ended,) = (e for e in told.values() if e["job"]["name"] == "backfill" and e["eventType"] == "COMPLETE")
    roots = {e["run"]["facets"]["parent"]["root"]["run"]["runId"] for e in before if e["job"]["name"] != "backfill"}
    assert roots == {ended["run"]["runId"]}


def test_what_was_reported_without_a_run_is_told(instance: dg.DagsterInstance, plants: Plants, tmp_path: Path) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(mill.FLOUR, partition=DAY, metadata={"rows": 7}))
    graph = mill.DEFINITIONS.resolve_asset_graph()
    told = runless_events(instance, plants, graph=graph)
    assert_valid(told, tmp_path)
    assert ends(told) == {"mill/flour": ["COMPLETE"], "reported": ["COMPLETE"]}
    assert [canonical(e) for e in runless_events(instance, plants, graph=graph)] == [canonical(e) for e in told]


def test_an_observation_is_told(instance: dg.DagsterInstance, events: Any) -> None:
    with dg.execute_job(dg.reconstructable(mill.looking), instance) as done:
        found = events(done.run_id)
    seen = next(e for e in found if e["job"]["name"] == "mill/weather" and e["eventType"] == "COMPLETE")
    values = seen["run"]["facets"]["hybrid_observation"]["values"]
    assert values["degrees"] == 21
    assert mill.SECRET not in values.values()
    assert [d["name"] for d in seen["inputs"]] == ["mill/weather"]
    assert seen["outputs"] == []


@contextmanager
def _waiting_run(instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process that executes a run, in the middle of a step."""
    program = (
        "import dagster as dg, sys\n"
        "from tests.resources.bindings import mill\n"
        "with dg.DagsterInstance.from_config(sys.argv[1]) as instance:\n"
        "    tags = {'dagster/partition': sys.argv[2], mill.MODE: 'waits', mill.MARKS: sys.argv[3]}\n"
        "    dg.execute_job(dg.reconstructable(mill.one_process), instance, tags=tags)\n"
    )
    marks = tmp_path / "marks"
    command = [sys.executable, "-c", program, str(tmp_path / "dagster"), DAY, str(marks)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL)
    try:
        waiting, deadline = marks / "waiting", time.monotonic() + _PATIENCE_S
        while not waiting.exists():
            assert process.poll() is None, "the run ended before it came so far"
            assert time.monotonic() < deadline, "the run never came so far"
            time.sleep(0.05)
        (record,) = instance.get_run_records()
        yield process, record.dagster_run.run_id
    finally:
        process.kill()
        process.wait()


@dear
def test_what_is_cancelled_is_aborted(instance: dg.DagsterInstance, events: Any, tmp_path: Path) -> None:
    with _waiting_run(instance, tmp_path) as (process, run_id):
        run = instance.get_run_by_id(run_id)
        assert run is not None
        instance.report_run_canceling(run)
        process.send_signal(signal.SIGINT)
        process.wait(_PATIENCE_S)
    found = events(run_id)
    assert ends(found) == {
        "mill/grain": ["COMPLETE"],
        "mill/flour": ["COMPLETE"],
        "mill/bran": ["ABORT"],
        "milling": ["ABORT"],
        "all_of_it": ["ABORT"],
    }
    bran = next(e for e in found if e["job"]["name"] == "mill/bran" and e["eventType"] == "ABORT")
    assert [d["name"] for d in bran["inputs"]] == ["mill/grain"]
    assert [d["name"] for d in bran["outputs"]] == ["mill/bran"]


@dear
def test_what_a_killed_worker_left_open_fails_once_monitoring_says_so(
    instance: dg.DagsterInstance, plants: Plants, events: Any, tmp_path: Path
) -> None:
    with _waiting_run(instance, tmp_path) as (process, run_id):
        process.kill()
    graph = mill.DEFINITIONS.resolve_asset_graph()
    before = events_of_run(instance, run_id, plants, graph=graph)
    assert_valid(before, tmp_path, "--allow-open")
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run, "Detected run worker status FAILED. Marking the run as failed.")
    found = events(run_id)
    assert found[: len(before)] == before
    assert ends(found)["mill/bran"] == ["FAIL"]
    assert "Detected run worker" in failures(found, "mill/bran")[0]["message"]
    assert ends(found)["mill/flour"] == ["COMPLETE"]
