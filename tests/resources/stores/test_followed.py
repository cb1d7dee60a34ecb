"""A table that stays open tells the same as one that is opened anew, whoever wrote it meanwhile, and however."""

import shutil
import threading
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import (  # noqa: TID253 - what is read through the house's own way is held against it
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    write_deltalake,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.windows import WindowRange
from resources.stores.followed import latest
from resources.stores.tables import WindowTable

FIRST = date(2025, 1, 1)


def rows(day: date, value: float) -> pa.Table:
    return pa.table({"site": ["north"], "date": pa.array([day], pa.date32()), "value": [value]})


def append(table: str | DeltaTable, number: int, *, column: bool = False) -> None:
    added = rows(FIRST + timedelta(days=number % 5), float(number))
    if column:
        added = added.append_column(f"c{number}", pa.array([number]))
    write_deltalake(
        table,
        added,
        mode="append",
        partition_by=["site", "date"],
        schema_mode="merge",
        commit_properties=CommitProperties(app_transactions=[Transaction(f"t{number}", 1)]),
    )


def told(table: DeltaTable, numbers: int) -> tuple[object, ...]:
    adds = pa.table(table.get_add_actions(flatten=True)).sort_by("path")
    transactions = [table.transaction_version(f"t{n}") for n in range(numbers)]
    counted = dict(zip(adds["path"].to_pylist(), adds["num_records"].to_pylist(), strict=True))
    return table.version(), table.schema().to_json(), sorted(table.file_uris()), counted, transactions


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["ours", "theirs", "column", "replace", "checkpoint", "clean", "anew"]), max_size=12))
def test_whatever_is_written_it_tells_what_one_opened_anew_tells(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    path = tmp_path_factory.mktemp("table") / "t"
    append(str(path), 0)
    for number, step in enumerate(steps, start=1):
        match step:
            case "ours":
                append(latest(path), number)
            case "theirs" | "column":
                append(str(path), number, column=step == "column")
            case "replace":
                day = FIRST + timedelta(days=number % 5)
                window = WindowRange("north", day, day)
                version = WindowTable(path).replace(window, rows(day, -1.0), run_id="r")
                assert version == DeltaTable(str(path)).version()
            case "checkpoint":
                DeltaTable(str(path)).create_checkpoint()
            case "clean":
                table = DeltaTable(str(path))
                table.create_checkpoint()
                for file in (path / "_delta_log").glob("*.json"):
                    if int(file.stem) < table.version():
                        file.unlink()
            case "anew":
                shutil.rmtree(path)
                append(str(path), number)
        if number % 3:  # now and then several commits come before the next look
            assert told(latest(path), len(steps) + 1) == told(DeltaTable(str(path)), len(steps) + 1)
    assert told(latest(path), len(steps) + 1) == told(DeltaTable(str(path)), len(steps) + 1)


def test_a_table_that_took_the_place_of_one_with_as_many_commits_is_told_from_it(tmp_path: Path) -> None:
    path = tmp_path / "t"
    append(str(path), 0)
    before = latest(path).file_uris()
    shutil.rmtree(path)
    append(str(path), 0)
    assert latest(path).file_uris() == DeltaTable(str(path)).file_uris() != before


def test_it_is_not_opened_anew_while_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import deltalake

    path = tmp_path / "t"
    append(str(path), 0)
    first = latest(path)
    append(first, 1)
    append(str(path), 2)
    monkeypatch.setattr(deltalake, "DeltaTable", lambda *_: pytest.fail("was opened anew"))
    assert latest(path) is first
    assert first.version() == 2


def test_threads_do_not_share_one(tmp_path: Path) -> None:
    path = tmp_path / "t"
    append(str(path), 0)
    found: list[DeltaTable] = []
    thread = threading.Thread(target=lambda: found.append(latest(path)))
    thread.start()
    thread.join()
    assert found[0] is not latest(path)
    assert found[0].version() == 0


def test_a_writer_behind_the_others_loses_nothing(tmp_path: Path) -> None:
    """What it holds is of before their commits; an append goes on top of them."""
    path = tmp_path / "t"
    append(str(path), 0)
    behind = latest(path)
    append(str(path), 1)
    write_deltalake(
        behind, rows(FIRST, 9.0), mode="append", post_commithook_properties=PostCommitHookProperties(False, False)
    )
    assert sorted(WindowTable(path).read("north")["value"].to_pylist()) == [0.0, 1.0, 9.0]
