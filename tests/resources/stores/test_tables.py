"""Replacing windows is atomic, versions count commits, and a full disk leaves the table as it was."""

import multiprocessing
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from backbone.errors import StorageFull
from backbone.windows import WindowRange
from resources.stores.tables import WindowTable

FIRST = date(2025, 1, 1)


def rows(days: int, value: float = 1.0, start: date = FIRST) -> pa.Table:
    dates = [start + timedelta(days=n) for n in range(days)]
    return pa.table({"date": pa.array(dates, pa.date32()), "value": [value] * days})


def windows(first: int, last: int, site: str = "north") -> WindowRange:
    return WindowRange(site, FIRST + timedelta(days=first), FIRST + timedelta(days=last))


def test_only_the_windows_asked_for_are_replaced(tmp_path: Path) -> None:
    table = WindowTable(tmp_path / "t")
    assert table.replace(windows(0, 4), rows(5), run_id="a") == 0
    assert table.replace(windows(0, 4, "south"), rows(5, 9.0), run_id="b") == 1
    assert table.replace(windows(1, 2), rows(1, 2.0, FIRST + timedelta(days=1)), run_id="c") == 2
    kept = table.read("north").sort_by("date")
    assert kept["value"].to_pylist() == [1.0, 2.0, 1.0, 1.0]
    assert table.rows_by_day("south") == {FIRST + timedelta(days=n): 1 for n in range(5)}
    assert table.version == 2


def test_a_window_without_rows_is_emptied(tmp_path: Path) -> None:
    table = WindowTable(tmp_path / "t")
    table.replace(windows(0, 0), rows(1).slice(0, 0), run_id="a")
    assert table.read("north").num_rows == 0
    table.replace(windows(0, 1), rows(2), run_id="b")
    table.replace(windows(0, 0), rows(1).slice(0, 0), run_id="c")
    assert list(table.rows_by_day("north")) == [FIRST + timedelta(days=1)]


def test_rows_outside_their_windows_are_refused(tmp_path: Path) -> None:
    table = WindowTable(tmp_path / "t")
    table.replace(windows(0, 0), rows(1), run_id="a")
    with pytest.raises(Exception, match="failed validation check"):
        table.replace(windows(1, 1), rows(3), run_id="b")
    assert table.version == 0


def test_a_full_disk_leaves_the_table_as_it_was(full_disk: Path) -> None:
    table = WindowTable(full_disk / "t")
    table.replace(windows(0, 0), rows(1), run_id="a")
    noise = np.random.default_rng(1).random(1 << 19)
    big = pa.table({"date": pa.array([FIRST] * len(noise), pa.date32()), "value": noise})
    with pytest.raises(StorageFull, match="Free some space"):
        table.replace(windows(0, 0), big, run_id="b")
    assert (table.version, table.read("north")["value"].to_pylist()) == (0, [1.0])


def _write_often(path: str, value: float) -> None:
    table = WindowTable(Path(path))
    for _ in range(10):
        table.replace(windows(0, 2), rows(3, value), run_id=str(value))


def test_two_processes_on_one_window_never_mix_their_rows(tmp_path: Path) -> None:
    table = WindowTable(tmp_path / "t")
    table.replace(windows(0, 2), rows(3, 0.0), run_id="0")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(str(table.path), value)) for value in (1.0, 2.0)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [w.exitcode for w in writers] == [0, 0]
    values = table.read("north")["value"].to_pylist()
    assert len(values) == 3
    assert len(set(values)) == 1
