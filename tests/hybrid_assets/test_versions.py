from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hybrid_assets.versions import with_versions
from resources.stores.opened import Size, note_read, note_written

DAY = date(2025, 1, 1)


def told(result: Any) -> dict[str, Any]:
    assert isinstance(result, dg.MaterializeResult)
    return dict(result.metadata or {})


def test_a_result_says_what_its_step_opened(tmp_path: Path) -> None:
    @with_versions
    def step(path: Path) -> dg.MaterializeResult:
        note_read(path / "in", 4, rows=7, size=Size(90, 2))
        note_written(path / "out", 5, {DAY: Size(10, 1), None: Size(5, 1)})
        return dg.MaterializeResult(metadata={"rows": 7})

    found = told(step(tmp_path))
    assert found["reads"] == {str(tmp_path / "in"): 4}
    assert found["rows_read"] == {str(tmp_path / "in"): 7}
    assert found["writes"] == {str(tmp_path / "out"): 5}
    assert found["sizes_read"] == {str(tmp_path / "in"): [90, 2]}
    assert found["sizes_written"] == {str(tmp_path / "out"): [15, 2]}
    assert found["rows"] == 7


def _plain(value: Any) -> dict[str, list[int]]:
    return dict(value)


def test_each_window_of_a_range_says_what_was_written_of_it(tmp_path: Path) -> None:
    windows = dg.MultiPartitionsDefinition(
        {"site": dg.StaticPartitionsDefinition(["north"]), "date": dg.DailyPartitionsDefinition("2025-01-01")}
    )
    table = tmp_path / "out"

    @dg.multi_asset(
        specs=[dg.AssetSpec("made")], partitions_def=windows, backfill_policy=dg.BackfillPolicy.single_run()
    )
    @with_versions
    def made(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        note_written(table, 3, {DAY: Size(10, 1), date(2025, 1, 3): Size(7, 2)})
        yield dg.MaterializeResult(asset_key="made")

    ends = {"start": "2025-01-01|north", "end": "2025-01-03|north"}
    tags = {f"dagster/asset_partition_range_{at}": window for at, window in ends.items()}
    result = dg.materialize([made], tags=tags)
    found = {
        str(e.partition): _plain(e.materialization.metadata["window_sizes_written"].value)[str(table)]
        for e in result.get_asset_materialization_events()
    }
    assert found == {"2025-01-01|north": [10, 1], "2025-01-02|north": [0, 0], "2025-01-03|north": [7, 2]}


def test_each_result_of_a_generator_says_what_was_opened_until_then(tmp_path: Path) -> None:
    @with_versions
    def step() -> Iterator[dg.MaterializeResult]:
        note_read(tmp_path / "a", 1)
        yield dg.MaterializeResult()
        note_read(tmp_path / "b", 2)
        yield dg.MaterializeResult()

    results = step()
    assert set(told(next(results))["reads"]) == {str(tmp_path / "a")}
    note_read(tmp_path / "elsewhere", 9)  # whoever takes the results does not read for the step
    assert set(told(next(results))["reads"]) == {str(tmp_path / "a"), str(tmp_path / "b")}
    with pytest.raises(StopIteration):
        next(results)


def test_what_a_result_says_itself_holds(tmp_path: Path) -> None:
    @with_versions
    def step() -> dg.MaterializeResult:
        note_read(tmp_path, 1)
        return dg.MaterializeResult(metadata={"reads": {"elsewhere": 2}})

    assert told(step())["reads"] == {"elsewhere": 2}


def test_paths_are_those_behind_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    @with_versions
    def step() -> dg.MaterializeResult:
        note_read(tmp_path / "link" / "table", 1)
        return dg.MaterializeResult()

    assert told(step())["reads"] == {str(tmp_path / "real" / "table"): 1}


def test_an_error_in_a_step_is_its_own() -> None:
    @with_versions
    def step() -> Iterator[dg.MaterializeResult]:
        raise ValueError("broken")
        yield

    with pytest.raises(ValueError, match="broken"):
        list(step())
