"""The event log of a home holds what stock storage holds, row by row, whoever writes and whenever somebody dies."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa  # noqa: TID253 - what is tested is SQLAlchemy throughout
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage, EventLogStorage

from resources.bindings.event_log import EVENTS_AT_ONCE, QuickSqliteEventLogStorage
from resources.home import Home

DAYS = [f"2025-01-{day:02}" for day in range(1, 9)]
SITES = dg.StaticPartitionsDefinition(["a", "b"])
WINDOWS = dg.MultiPartitionsDefinition(
    {"site": SITES, "day": dg.DailyPartitionsDefinition(DAYS[0], end_date="2025-01-09")}
)
KEYS = [dg.MultiPartitionKey({"site": "a", "day": day}) for day in DAYS]
RANGE = {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]}
STOCK = """
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {base_dir: HERE/history}
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config: {base_dir: HERE/history}
telemetry: {enabled: false}
"""
OURS = STOCK.replace("dagster._core.storage.event_log", "resources.bindings.event_log").replace(
    "ConsolidatedSqlite", "QuickSqlite"
)


@dg.asset(partitions_def=WINDOWS, backfill_policy=dg.BackfillPolicy.single_run())
def telemetry(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    context.log_event(dg.AssetObservation("telemetry", partition=KEYS[0], metadata={"seen": 1}))
    return dg.MaterializeResult(metadata={"rows": 3}, tags={"kind": "test"})


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset="telemetry", partitions_def=WINDOWS) for name in ("complete", "sane")]
)
def checks() -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    # One of them is of a window that the run was not planned for.
    elsewhere = dg.MultiPartitionKey({"site": "b", "day": DAYS[0]})
    for key in (*KEYS, elsewhere):
        for name in ("complete", "sane"):
            yield dg.AssetCheckEvaluation(
                asset_key=telemetry.key, check_name=name, passed=key != KEYS[1], metadata={"rows": 3}, partition=key
            )
    for name in ("complete", "sane"):
        yield dg.Output(None, output_name=f"telemetry_{name}")


@dg.asset(deps=[telemetry], partitions_def=WINDOWS, backfill_policy=dg.BackfillPolicy.single_run())
def broken() -> None:
    raise ValueError("it does not work")


DEFS = dg.Definitions(
    assets=[telemetry, broken],
    asset_checks=[checks],
    jobs=[
        dg.define_asset_job("all", selection="*"),
        dg.define_asset_job("one", selection=dg.AssetSelection.assets(telemetry).without_checks()),
    ],
    executor=dg.in_process_executor,
)


def _opened(folder: Path, settings: str) -> dg.DagsterInstance:
    folder.mkdir(exist_ok=True)
    (folder / "dagster.yaml").write_text(settings.replace("HERE", str(folder)))
    return dg.DagsterInstance.from_config(str(folder))


def _run(instance: dg.DagsterInstance, job: str = "all") -> str:
    run_id = str(uuid.uuid4())
    found = DEFS.resolve_job_def(job)
    found.execute_in_process(instance=instance, run_id=run_id, tags=RANGE, raise_on_error=False)
    return run_id


def _rows(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Table → its rows, less the time at which each row was written."""
    with sqlite3.connect(folder / "history" / "event_log.db") as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in tables:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            told = ", ".join(f'"{name}"' for name in names if name not in ("create_timestamp", "migration_completed"))
            found[table] = connection.execute(f"SELECT {told} FROM {table} ORDER BY 1").fetchall()  # noqa: S608
        return found


def _stored(folder: Path) -> list[EventLogEntry]:
    with sqlite3.connect(folder / "history" / "event_log.db") as connection:
        told = connection.execute("SELECT event FROM event_logs ORDER BY id").fetchall()
    return [dg.deserialize_value(text, EventLogEntry) for (text,) in told]


def test_what_a_run_leaves_is_what_stock_storage_keeps_of_it(tmp_path: Path) -> None:
    with _opened(tmp_path / "ours", OURS) as ours:
        assert isinstance(ours.event_log_storage, QuickSqliteEventLogStorage)
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == str(EVENTS_AT_ONCE)
        _run(ours)
        _run(ours, "one")
    kept = _rows(tmp_path / "ours")
    with _opened(tmp_path / "stock", STOCK) as stock:
        for event in _stored(tmp_path / "ours"):
            stock.event_log_storage.store_event(event)
    assert kept == _rows(tmp_path / "stock")
    assert len(kept["asset_check_executions"]) == 2 * len(KEYS) + 2
    assert len(kept["asset_event_tags"]) > 2 * len(KEYS)
    assert {asset for _, asset, *_ in kept["asset_keys"]} == {'["telemetry"]', '["broken"]'}


def _told(storage: EventLogStorage) -> tuple[object, ...]:
    """What a step, a check and the UI ask of an asset's newest materialization."""
    newest = dg.AssetRecordsFilter(telemetry.key, [KEYS[-1]])
    materialized, tag = dg.DagsterEventType.ASSET_MATERIALIZATION, "dagster/data_version"
    return (
        storage.get_asset_records([telemetry.key, dg.AssetKey("broken"), dg.AssetKey("unheard_of")]),
        storage.fetch_materializations(newest, limit=1),
        storage.get_latest_tags_by_partition(telemetry.key, materialized, [tag], [KEYS[-1]]),
        storage.get_latest_tags_by_partition(telemetry.key, materialized, [tag], [KEYS[0]]),
        storage.get_latest_tags_by_partition(telemetry.key, materialized, [tag], KEYS),
        storage.get_latest_tags_by_partition(dg.AssetKey("unheard_of"), materialized, [tag], [KEYS[0]]),
    )


def test_what_was_just_written_is_told_as_stock_storage_tells_it_until_somebody_else_writes_or_wipes(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "home"
    with _opened(folder, OURS) as instance:
        ours, stock = instance.event_log_storage, ConsolidatedSqliteEventLogStorage(str(folder / "history"))
        assert _told(ours) == _told(stock)
        _run(instance)
        told = _told(ours)
        assert told == _told(stock)
        last = ours.fetch_materializations(telemetry.key, limit=1).records[0].event_log_entry
        stock.store_event(last._replace(run_id=str(uuid.uuid4())))
        assert _told(ours) == _told(stock) != told
        ours.wipe_asset(telemetry.key)
        assert _told(ours) == _told(stock)
        _run(instance, "one")
        assert _told(ours) == _told(stock)


def test_a_home_goes_from_stock_storage_to_ours_and_back(tmp_path: Path) -> None:
    runs = []
    for settings in (STOCK, OURS, STOCK):
        with _opened(tmp_path / "home", settings) as instance:
            runs.append(_run(instance, "one"))
            told = instance.fetch_materializations(telemetry.key, limit=1000).records
            assert {record.run_id for record in told} == set(runs)
            assert len(told) == len(KEYS) * len(runs)


def test_a_new_home_has_it_and_says_so_in_its_settings(tmp_path: Path) -> None:
    home = Home(tmp_path).prepare()
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        assert type(instance.event_log_storage) is QuickSqliteEventLogStorage
        assert instance.event_log_storage.get_db_path() == str(home.dagster / "history" / "event_log.db")


def test_a_batch_with_an_event_that_cannot_be_stored_leaves_nothing_and_can_be_stored_one_by_one(
    tmp_path: Path,
) -> None:
    with _opened(tmp_path / "home", OURS) as instance:
        _run(instance, "one")
        events = [
            e for e in _stored(tmp_path / "home") if e.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
        ]
        before = _rows(tmp_path / "home")
        unfit = events[-1]._replace(run_id=object())  # type: ignore[arg-type]
        with pytest.raises(Exception, match=r"object|serial"):
            instance.event_log_storage.store_event_batch([*events, unfit])
        assert _rows(tmp_path / "home") == before
        instance.event_log_storage.store_event(events[0])
        assert len(_rows(tmp_path / "home")["event_logs"]) == len(before["event_logs"]) + 1


def test_the_end_of_a_run_waits_for_the_disk_and_what_led_to_it_does_not(tmp_path: Path) -> None:
    levels: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("PRAGMA synchronous"):
            levels.append(statement.rpartition("=")[2])

    with _opened(tmp_path / "home", OURS) as instance:
        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            _run(instance, "one")
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)
        told = [e.dagster_event for e in _stored(tmp_path / "home")]
    assert told[-1] is not None
    assert told[-1].is_job_success
    assert levels[-1] == "FULL"
    assert levels.count("FULL") == sum(event is not None and event.is_job_event for event in told)
    assert "NORMAL" in levels


@pytest.mark.slow
def test_who_watches_a_run_is_told_what_another_process_stores(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    with _opened(folder, OURS) as instance:
        run_id = str(uuid.uuid4())
        ended = threading.Event()

        def told(event: EventLogEntry, _cursor: str) -> None:
            if event.dagster_event is not None and event.dagster_event.is_job_success:
                ended.set()

        instance.event_log_storage.watch(run_id, None, told)
        _process(folder, f"run('one', {run_id!r})").wait(60)
        assert ended.wait(20)
        instance.event_log_storage.end_watch(run_id, told)


_CHILD = """
import sys, uuid
from pathlib import Path
import dagster as dg
from tests.resources.bindings.test_event_log import DEFS, RANGE, OURS, STOCK, _opened

def run(job, run_id=None):
    run_id = run_id or str(uuid.uuid4())
    DEFS.resolve_job_def(job).execute_in_process(instance=instance, run_id=run_id, tags=RANGE, raise_on_error=False)
    print(run_id, flush=True)

instance = dg.DagsterInstance.from_config(sys.argv[1])
"""


def _process(folder: Path, doing: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"{_CHILD}\n{doing}\n", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[3],
    )


@pytest.mark.slow
def test_a_process_that_is_killed_loses_no_run_whose_end_it_has_told(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    _opened(folder, OURS).dispose()
    process = _process(folder, "while True: run('one')")
    assert process.stdout is not None
    try:
        told = [process.stdout.readline().strip() for _ in range(3)]
        time.sleep(0.05)  # somewhere in the fourth
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    with _opened(folder, OURS) as instance:
        for run_id in told:
            kinds = [event.dagster_event_type for event in instance.all_logs(run_id)]
            assert kinds.count(dg.DagsterEventType.ASSET_MATERIALIZATION) == len(KEYS)
            assert kinds[-1] == dg.DagsterEventType.RUN_SUCCESS
        _run(instance)
    with sqlite3.connect(folder / "history" / "event_log.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_several_processes_write_at_once_one_of_them_by_stock_storage(tmp_path: Path) -> None:
    folder, other = tmp_path / "home", tmp_path / "other"
    _opened(folder, OURS).dispose()
    _opened(other, STOCK.replace("HERE/history", str(folder / "history"))).dispose()
    written = [_process(at, "for _ in range(3): run('one')") for at in (folder, folder, other)]
    told = [run_id for process in written for run_id in process.communicate(timeout=120)[0].split()]
    assert len(told) == 9
    with _opened(folder, OURS) as instance:
        for run_id in told:
            kinds = [event.dagster_event_type for event in instance.all_logs(run_id)]
            assert kinds.count(dg.DagsterEventType.ASSET_MATERIALIZATION) == len(KEYS)
            assert kinds[-1] == dg.DagsterEventType.RUN_SUCCESS


def test_a_forked_process_has_connections_of_its_own(tmp_path: Path) -> None:
    with _opened(tmp_path / "home", OURS) as instance:
        before = _run(instance, "one")
        event = _stored(tmp_path / "home")[0]
        child = multiprocessing.get_context("fork").Process(
            target=instance.event_log_storage.store_event, args=(event,)
        )
        child.start()
        child.join(30)
        assert child.exitcode == 0
        instance.event_log_storage.store_event(event)
        assert len(instance.all_logs(before)) == len(_stored(tmp_path / "home"))


def test_a_table_that_is_not_there_yet_is_found_when_it_is(tmp_path: Path) -> None:
    storage = QuickSqliteEventLogStorage(str(tmp_path))
    assert not storage.has_table("later")
    with storage.index_connection() as connection:
        connection.exec_driver_sql("CREATE TABLE later (id INTEGER)")
    assert storage.has_table("later")
    assert ConsolidatedSqliteEventLogStorage(str(tmp_path)).has_table("later")
    storage.dispose()
