"""The runs of a home are what stock storage keeps of them, and can be read by it at any time."""

import multiprocessing
import sqlite3
from pathlib import Path

import dagster as dg
from dagster._core.storage.runs import SqliteRunStorage

from resources.bindings.run_storage import QuickSqliteRunStorage
from resources.home import Home

_SETTINGS = """
run_storage: {{module: {module}, class: {name}, config: {{base_dir: {folder}/history}}}}
event_log_storage:
  module: resources.bindings.event_log
  class: QuickSqliteEventLogStorage
  config: {{base_dir: {folder}/history}}
telemetry: {{enabled: false}}
"""
STOCK = {"module": "dagster._core.storage.runs", "name": "SqliteRunStorage"}
OURS = {"module": "resources.bindings.run_storage", "name": "QuickSqliteRunStorage"}


@dg.op
def works() -> None: ...


@dg.op
def fails() -> None:
    raise ValueError("it does not work")


@dg.job(executor_def=dg.in_process_executor)
def good() -> None:
    works()


@dg.job(executor_def=dg.in_process_executor)
def bad() -> None:
    fails()


def _opened(folder: Path, which: dict[str, str]) -> dg.DagsterInstance:
    folder.mkdir(exist_ok=True)
    (folder / "dagster.yaml").write_text(_SETTINGS.format(folder=folder, **which))
    return dg.DagsterInstance.from_config(str(folder))


def _rows(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Runs and their tags, less the times at which they were written and which of the two came first."""
    with sqlite3.connect(folder / "history" / "runs.db") as connection:
        runs = "SELECT run_id, pipeline_name, status, snapshot_id, run_body FROM runs ORDER BY run_id"
        tags = "SELECT run_id, key, value FROM run_tags ORDER BY run_id, key"
        timed = "SELECT run_id FROM runs WHERE start_time <= end_time ORDER BY run_id"
        return {
            name: connection.execute(told).fetchall() for name, told in zip("abc", (runs, tags, timed), strict=True)
        }


def test_what_is_kept_of_runs_is_what_stock_storage_keeps_of_them(tmp_path: Path) -> None:
    kept = []
    for name, which in {"ours": OURS, "stock": STOCK}.items():
        with _opened(tmp_path / name, which) as instance:
            assert isinstance(instance.run_storage, QuickSqliteRunStorage) == (which is OURS)
            for number, job in enumerate((good, bad)):
                run_id = f"00000000-0000-0000-0000-00000000000{number}"
                job.execute_in_process(instance=instance, run_id=run_id, tags={"of": "test"}, raise_on_error=False)
        kept.append(_rows(tmp_path / name))
    assert kept[0] == kept[1]
    assert [status for _, _, status, *_ in kept[0]["a"]] == ["SUCCESS", "FAILURE"]
    assert len(kept[0]["c"]) == 2


def test_a_home_goes_from_stock_storage_to_ours_and_back(tmp_path: Path) -> None:
    runs = []
    for which in (STOCK, OURS, STOCK):
        with _opened(tmp_path / "home", which) as instance:
            runs.append(good.execute_in_process(instance=instance).run_id)
            assert {run.run_id for run in instance.get_runs()} == set(runs)


def test_what_one_process_tells_another_reads(tmp_path: Path) -> None:
    with _opened(tmp_path / "home", OURS) as instance:
        run_id = good.execute_in_process(instance=instance).run_id
        tagging = multiprocessing.get_context("fork").Process(
            target=instance.run_storage.add_run_tags, args=(run_id, {"of": "the other"})
        )
        tagging.start()
        tagging.join(30)
        assert tagging.exitcode == 0
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.tags["of"] == "the other"
        stock = SqliteRunStorage.from_local(str(tmp_path / "home" / "history"))
        assert [found.run_id for found in stock.get_runs()] == [run_id]


def test_a_new_home_has_it_and_says_so_in_its_settings(tmp_path: Path) -> None:
    home = Home(tmp_path).prepare()
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        assert type(instance.run_storage) is QuickSqliteRunStorage
        assert (home.dagster / "history" / "runs.db").exists()
