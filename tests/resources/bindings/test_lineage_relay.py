"""Real runs followed on every kind of storage Dagster has, and the sensor that does so."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from resources.bindings.lineage_relay import DagsterHistory, outbox_of, relay_of
from resources.bindings.plants import Plants
from resources.clock import SystemClock
from resources.home import Home
from resources.lineage.relay import Relay
from resources.lineage.transports import destination
from sensors.lineage import lineage_sensor


@dg.asset
def first() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 3})


@dg.asset(deps=[first])
def second(context: dg.AssetExecutionContext) -> None:
    if context.run.tags.get("fails"):
        raise ValueError("it does not work")


JOB = dg.define_asset_job("both", selection="*")
DEFS = dg.Definitions(assets=[first, second], jobs=[JOB], executor=dg.in_process_executor)


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("OPENLINEAGE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HYBRID_STATE_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def _settings(kind: str, folder: Path) -> str:
    """A `dagster.yaml`, in a folder HERE."""
    if kind == "default":
        return "{}"
    if kind == "home":
        home = Home(folder / "home").prepare()
        return (home.dagster / "dagster.yaml").read_text().replace(str(home.dagster), "HERE")
    pytest.importorskip("dagster_postgres")
    if not (url := os.environ.get("HYBRID_TEST_POSTGRES")):
        pytest.skip("needs a PostgreSQL: set HYBRID_TEST_POSTGRES")
    # Dagster's SQL is psycopg2's; SQLAlchemy 2.1 takes psycopg 3 where no driver is named.
    return f"storage:\n  postgres:\n    postgres_url: {url.replace('+psycopg', '+psycopg2')}\n"


@pytest.fixture(params=["default", "home", pytest.param("postgres", marks=pytest.mark.postgres)])
def instance(
    request: pytest.FixtureRequest, tmp_path: Path, new_history: Callable[[Path, str], dg.DagsterInstance]
) -> Iterator[dg.DagsterInstance]:
    with new_history(tmp_path / "dagster", _settings(request.param, tmp_path)) as made:
        yield made


@pytest.fixture
def plants(tmp_path: Path) -> Plants:
    return Plants(home=str(Home(tmp_path / "home").prepare().root))


def _run(instance: dg.DagsterInstance, **tags: str) -> str:
    run_id = str(uuid.uuid4())
    job = DEFS.resolve_job_def("both")
    job.execute_in_process(instance=instance, run_id=run_id, tags=tags, raise_on_error=False)
    return run_id


def _relay(instance: dg.DagsterInstance, plants: Plants) -> Relay:
    return relay_of(instance, plants, graph=DEFS.resolve_asset_graph(), clock=SystemClock())


def _told(plants: Plants, run_id: str) -> list[tuple[str, str]]:
    """(job, type) of a run's events, in the order of the file."""
    file = plants.catalog.home.root / "lineage" / "events.ndjson"
    events = [json.loads(line) for line in file.read_text().splitlines()]
    mine = [e for e in events if e["run"]["facets"]["hybrid_run"]["dagsterRunId"] == run_id]
    return [(e["job"]["name"], e["eventType"]) for e in mine]


def test_runs_are_followed_and_told_once(instance: dg.DagsterInstance, plants: Plants) -> None:
    good = _run(instance)
    done = _relay(instance, plants).relay(30)
    assert done.delivered == done.new > 0
    assert done.troubles == []
    assert _told(plants, good)[0] == ("both", "START")
    assert {job for job, kind in _told(plants, good) if kind == "COMPLETE"} == {"both", "first", "second"}
    assert _relay(instance, plants).relay(30).new == 0
    bad = _run(instance, fails="yes")
    _relay(instance, plants).relay(30)
    ends = {job: kind for job, kind in _told(plants, bad) if kind != "START"}
    assert ends == {"first": "COMPLETE", "second": "FAIL", "both": "FAIL"}


def test_a_run_that_goes_on_is_read_again_only_when_its_log_has_grown(
    instance: dg.DagsterInstance, plants: Plants
) -> None:
    run_id = _run(instance)
    history = DagsterHistory(instance, plants, DEFS.resolve_asset_graph())
    changed = [c for c in history.changed(None) if c.run_id == run_id]
    assert changed[0].ended is not None
    assert history.state_of([run_id]) == changed
    read = history.read(run_id, None)
    assert read is not None
    assert history.read(run_id, read.cursor) is None
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_engine_event("one more line", dagster_run=run)
    again = history.read(run_id, read.cursor)
    assert again is not None
    assert again.events == read.events


def test_what_is_reported_without_a_run_is_told_once(instance: dg.DagsterInstance, plants: Plants) -> None:
    _relay(instance, plants).relay(30)
    instance.report_runless_asset_event(dg.AssetMaterialization(asset_key="first", metadata={"rows": 7}))
    done = _relay(instance, plants).relay(30)
    assert done.delivered == done.new > 0
    assert _relay(instance, plants).relay(30).new == 0


def test_the_sensor_delivers_and_says_so(instance: dg.DagsterInstance, plants: Plants) -> None:
    run_id = _run(instance)
    context = dg.build_sensor_context(instance=instance, resources={"plants": plants}, definitions=DEFS)
    said = lineage_sensor()(context)
    assert isinstance(said, dg.SkipReason)
    assert "delivered" in str(said.skip_message)
    assert ("second", "COMPLETE") in _told(plants, run_id)


def test_a_backend_that_is_down_fails_no_tick(
    instance: dg.DagsterInstance, plants: Plants, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(instance)
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    context = dg.build_sensor_context(instance=instance, resources={"plants": plants}, definitions=DEFS)
    said = lineage_sensor()(context)
    assert isinstance(said, dg.SkipReason)
    assert "cannot be reached" in str(said.skip_message)
    assert outbox_of(plants).standing().pending > 0
    monkeypatch.delenv("OPENLINEAGE_URL")
    outbox_of(plants).set_mark("backend", None)
    relay = relay_of(instance, plants, graph=None, clock=SystemClock(), to=destination(Path(plants.home)))
    relay.relay(30)
    assert outbox_of(plants).standing().pending == 0
