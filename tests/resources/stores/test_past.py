"""A table is read as it was, as long as its log and its files are there."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from backbone.windows import WindowRange
from resources.stores.past import read_as_of
from resources.stores.tables import WindowTable

DAY, NEXT = date(2025, 1, 1), date(2025, 1, 2)


def rows(*values: float) -> pa.Table:
    return pa.table({"equipment_id": ["P-1"] * len(values), "flow": list(values)})


@pytest.fixture
def table(tmp_path: Path) -> WindowTable:
    """Two windows of one site, one of another; the first window was stored a second time."""
    made = WindowTable(tmp_path / "telemetry")
    for site, day, values in (("north", DAY, (1.0, 2.0)), ("north", NEXT, (3.0,)), ("south", DAY, (9.0,)),
                              ("north", DAY, (1.0, 2.0, 5.0))):  # fmt: skip
        made.replace(WindowRange(site, day, day), rows(*values), run_id="a-run")
    return made


def values(table: WindowTable, version: int, day: date = DAY) -> list[float] | None:
    found = read_as_of(table.path, version, "north", day)
    return None if found is None else sorted(found["flow"].to_pylist())


def test_a_window_is_read_as_each_version_had_it(table: WindowTable) -> None:
    assert [values(table, version) for version in range(4)] == [[1.0, 2.0]] * 3 + [[1.0, 2.0, 5.0]]
    assert [values(table, version, NEXT) for version in range(4)] == [[], [3.0], [3.0], [3.0]]


def test_a_version_that_never_was_or_whose_files_are_gone_is_none(table: WindowTable, tmp_path: Path) -> None:
    from deltalake import DeltaTable

    assert values(table, 4) is None
    assert read_as_of(tmp_path / "none", 0, "north", DAY) is None
    DeltaTable(str(table.path)).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert values(table, 0) is None
    assert values(table, 3) == [1.0, 2.0, 5.0]
