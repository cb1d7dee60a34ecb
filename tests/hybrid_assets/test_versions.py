from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hybrid_assets.versions import with_versions
from resources.stores.opened import note_read, note_written


def told(result: Any) -> dict[str, Any]:
    assert isinstance(result, dg.MaterializeResult)
    return dict(result.metadata or {})


def test_a_result_says_what_its_step_opened(tmp_path: Path) -> None:
    @with_versions
    def step(path: Path) -> dg.MaterializeResult:
        note_read(path / "in", 4, rows=7)
        note_written(path / "out", 5)
        return dg.MaterializeResult(metadata={"rows": 7})

    found = told(step(tmp_path))
    assert found["reads"] == {str(tmp_path / "in"): 4}
    assert found["rows_read"] == {str(tmp_path / "in"): 7}
    assert found["writes"] == {str(tmp_path / "out"): 5}
    assert found["rows"] == 7


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
