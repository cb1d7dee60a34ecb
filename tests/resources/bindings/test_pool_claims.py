"""Pools are claimed and freed as in stock storage, whatever happens to them and in whatever order."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.bindings.event_log import QuickSqliteEventLogStorage

POOLS, RUNS, STEPS = ("pump_windows", "fan_windows"), ("one", "two"), ("ingestion", "scoring")
# Which of two that wait with one priority is next, neither says; here all differ, within what Dagster allows.
PRIORITY = {(run, step): n for n, (run, step) in enumerate((r, s) for r in RUNS for s in STEPS)}
pools, runs, steps = st.sampled_from(POOLS), st.sampled_from(RUNS), st.sampled_from(STEPS)
happenings = st.one_of(
    st.tuples(st.just("claim"), pools, runs, steps),
    st.tuples(st.just("free"), runs, steps),
    st.tuples(st.just("end"), runs),
    st.tuples(st.just("limit"), pools, st.integers(0, 3)),
)


@pytest.fixture(scope="module")
def storages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, ConsolidatedSqliteEventLogStorage]]:
    kinds = {"ours": QuickSqliteEventLogStorage, "stock": ConsolidatedSqliteEventLogStorage}
    folders = {name: tmp_path_factory.mktemp(name) for name in kinds}
    opened = {folders[name]: kind(str(folders[name])) for name, kind in kinds.items()}
    yield opened
    for storage in opened.values():
        storage.dispose()


def _emptied(folder: Path) -> None:
    with sqlite3.connect(folder / "event_log.db") as connection:
        connection.executescript(
            "DELETE FROM concurrency_limits; DELETE FROM concurrency_slots; DELETE FROM pending_steps"
        )


def _carry_out(storage: ConsolidatedSqliteEventLogStorage, what: tuple[object, ...]) -> object:
    match what:
        case ("claim", str(pool), str(run), str(step)):
            status = storage.claim_concurrency_slot(pool, run, step, PRIORITY[run, step])
            return status.is_claimed
        case ("free", str(run), str(step)):
            return storage.free_concurrency_slot_for_step(run, step)
        case ("end", str(run)):
            return storage.free_concurrency_slots_for_run(run)
        case ("limit", str(pool), int(slots)):
            return storage.set_concurrency_slots(pool, slots)
    raise AssertionError(what)


def _rows(folder: Path) -> list[list[tuple[object, ...]]]:
    """Slots and who has them; who waits, and whether it is his turn."""
    with sqlite3.connect(folder / "event_log.db") as connection:
        slots = "SELECT concurrency_key, run_id, step_key, deleted FROM concurrency_slots"
        waiting = "SELECT concurrency_key, run_id, step_key, priority, assigned_timestamp IS NULL FROM pending_steps"
        return [sorted(connection.execute(told).fetchall(), key=str) for told in (slots, waiting)]


@settings(max_examples=15, deadline=None)
@given(what=st.lists(happenings, max_size=10))
def test_whatever_happens_leaves_the_same_slots_to_the_same_steps(
    storages: dict[Path, ConsolidatedSqliteEventLogStorage], what: list[tuple[object, ...]]
) -> None:
    for folder in storages:
        _emptied(folder)
    for happening in (*(("limit", pool, 1) for pool in POOLS), *what):
        said = [_carry_out(storage, happening) for storage in storages.values()]
        assert said[0] == said[1]
    ours, stock = map(_rows, storages)
    assert ours == stock


def test_of_two_that_claim_the_one_waits_until_the_other_is_done(tmp_path: Path) -> None:
    mine, other = (QuickSqliteEventLogStorage(str(tmp_path)) for _ in range(2))
    mine.set_concurrency_slots("pump_windows", 1)
    assert mine.claim_concurrency_slot("pump_windows", "one", "ingestion").is_claimed
    assert not other.claim_concurrency_slot("pump_windows", "two", "ingestion").is_claimed
    mine.free_concurrency_slot_for_step("one", "ingestion")
    assert not mine.claim_concurrency_slot("pump_windows", "one", "scoring").is_claimed  # it is the other's turn
    assert other.claim_concurrency_slot("pump_windows", "two", "ingestion").is_claimed
    for storage in (mine, other):
        storage.dispose()


def test_a_run_leaves_no_slot_taken(tmp_path: Path) -> None:
    @dg.op(pool="pump_windows")
    def step() -> None: ...

    @dg.job(executor_def=dg.in_process_executor)
    def serve() -> None:
        step.alias("first")()
        step.alias("second")()

    (tmp_path / "dagster.yaml").write_text(
        "event_log_storage: {module: resources.bindings.event_log, class: QuickSqliteEventLogStorage,"
        f" config: {{base_dir: {tmp_path}}}}}\n"
        "concurrency: {pools: {granularity: op, default_limit: 1}}\ntelemetry: {enabled: false}\n"
    )
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert serve.execute_in_process(instance=instance).success
        found = instance.event_log_storage.get_concurrency_info("pump_windows")
        assert (found.slot_count, found.claimed_slots, found.pending_steps) == (1, [], [])
