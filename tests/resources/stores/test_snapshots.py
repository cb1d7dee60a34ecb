"""What is read, and which version is noted for it, are of one snapshot, however quickly others write."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backbone.sources import Batch
from backbone.windows import WindowRange
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.dead_letters import LETTERS, DeadLetters
from resources.landing import Landing
from resources.stores.answers import AnswerTable
from resources.stores.opened import Opened
from resources.stores.tables import WindowTable

DAY = date(2025, 1, 1)
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
WINDOW = WindowRange("north", DAY, DAY)
COMMITS = 30
"""Fewer than a day of answers may have files: merging them would be a commit as well."""
Commit, Read = Callable[[int], object], Callable[[], int]


def of_answers(folder: Path) -> tuple[Path, Commit, Read]:
    """Every epoch has one answer more than the one before."""
    table = AnswerTable(folder / "t")

    def commit(number: int) -> None:
        rows = pa.table({"equipment_id": ["P"] * (number + 1), "date": pa.array([DAY] * (number + 1))})
        table.add(WINDOW, rows, epoch=number, run_id="r")

    return table.path, commit, lambda: AnswerTable(table.path).read("north").num_rows


def of_windows(folder: Path) -> tuple[Path, Commit, Read]:
    table = WindowTable(folder / "t")

    def commit(number: int) -> None:
        rows = pa.table({"equipment_id": ["P"] * (number + 1), "date": pa.array([DAY] * (number + 1))})
        table.replace(WINDOW, rows, run_id="r")

    return table.path, commit, lambda: WindowTable(table.path).read("north").num_rows


def of_landing(folder: Path) -> tuple[Path, Commit, Read]:
    contracts = read_contracts([SHIPPED])
    landing = Landing(
        folder, "north", {"telemetry": contracts["pump"], "maintenance": contracts["maintenance"]}, DAY, DAY
    )

    def commit(number: int) -> None:
        rows = pa.table({"equipment_id": ["P"], "ts": [NOON]})
        landing.take_up([Batch(f"b{number}", "telemetry", DAY, rows, "a test", "")], until=NOON)

    return landing.path("telemetry"), commit, lambda: landing.export("telemetry", WINDOW, folder / "out.parquet")


def of_letters(folder: Path) -> tuple[Path, Commit, Read]:
    letters = DeadLetters(folder / "letters")
    one = {"site": "north", "date": DAY, "position": 0, "raw": b"", "received_at": NOON}
    row = [{field.name: one.get(field.name, "x") for field in LETTERS}]

    def read() -> int:
        letters.export(WINDOW, folder / "tally.parquet")
        return int(sum(pq.read_table(folder / "tally.parquet")["letters"].to_pylist()))

    return letters.path, lambda n: letters.add(pa.Table.from_pylist(row, LETTERS), "s", n), read


@contextmanager
def written_meanwhile(commit: Commit) -> Iterator[threading.Event]:
    ended = threading.Event()

    def write() -> None:
        try:
            for number in range(1, COMMITS):
                commit(number)
        finally:
            ended.set()

    commit(0)
    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield ended
    finally:
        thread.join()


@pytest.mark.parametrize("kind", [of_windows, of_answers, of_landing, of_letters])
def test_rows_and_version_are_of_one_snapshot(
    tmp_path: Path, kind: Callable[[Path], tuple[Path, Commit, Read]]
) -> None:
    """Each commit adds a row to what is read: how many there are tells the version."""
    path, commit, read = kind(tmp_path)
    seen = set()
    with written_meanwhile(commit) as ended:
        while not ended.is_set():
            with (opened := Opened()).noting():
                rows = read()
            assert opened.reads == {str(path): rows - 1}
            assert sum(opened.rows.values()) == rows
            seen.add(rows)
    assert len(seen) > 1, "nobody wrote meanwhile"
