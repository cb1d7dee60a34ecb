"""Answers are only ever added; those of a later epoch supersede those of an earlier one."""

import threading
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.windows import WindowRange
from resources.stores.answers import AnswerTable
from resources.stores.fingerprints import fingerprints
from resources.stores.opened import Opened
from resources.stores.tables import adds
from resources.stores.upkeep import MANY_FILES, merge_files

DAY = date(2025, 3, 1)


def day(number: int) -> date:
    return DAY + timedelta(days=number)


def days(first: int, last: int, site: str = "north") -> WindowRange:
    return WindowRange(site, day(first), day(last))


def rows(first: int, last: int, by: str, machines: tuple[str, ...] = ("a", "b")) -> pa.Table:
    given = [{"date": day(d), "machine": m, "by": by} for d in range(first, last + 1) for m in machines]
    return pa.Table.from_pylist(
        given, schema=pa.schema([("date", pa.date32()), ("machine", pa.string()), ("by", pa.string())])
    )


def held(table: AnswerTable, site: str = "north") -> list[tuple[int, str, str, int]]:
    """(day, machine, who answered, epoch) of every answer that holds."""
    found = table.read(site).to_pylist()
    return sorted(((r["date"] - DAY).days, r["machine"], r["by"], r["epoch"]) for r in found)


@pytest.fixture
def table(tmp_path: Path) -> AnswerTable:
    return AnswerTable(tmp_path / "advisories")


def test_the_latest_epoch_of_each_window_holds(table: AnswerTable) -> None:
    table.add(days(0, 2), rows(0, 2, "rules"), epoch=1, run_id="r1")
    table.add(days(1, 1), rows(1, 1, "model", machines=("a",)), epoch=4, run_id="r4")
    assert held(table) == [
        (0, "a", "rules", 1),
        (0, "b", "rules", 1),
        (1, "a", "model", 4),
        (2, "a", "rules", 1),
        (2, "b", "rules", 1),
    ]


def test_what_was_superseded_stays_on_record(table: AnswerTable) -> None:
    table.add(days(0, 0), rows(0, 0, "rules"), epoch=1, run_id="r1")
    table.add(days(0, 0), rows(0, 0, "model"), epoch=2, run_id="r2")
    every = table.history("north").to_pylist()
    assert sorted((r["machine"], r["by"], r["epoch"]) for r in every) == [
        ("a", "model", 2),
        ("a", "rules", 1),
        ("b", "model", 2),
        ("b", "rules", 1),
    ]


def test_adding_twice_has_no_effect(table: AnswerTable) -> None:
    first = table.add(days(0, 1), rows(0, 1, "rules"), epoch=1, run_id="r1")
    again = table.add(days(0, 1), rows(0, 1, "something else"), epoch=1, run_id="r1, tried again")
    assert again == first
    assert table.history("north").num_rows == 4
    assert {by for _, _, by, _ in held(table)} == {"rules"}


def test_a_late_answer_of_an_earlier_epoch_is_kept_but_does_not_hold(table: AnswerTable) -> None:
    table.add(days(0, 0), rows(0, 0, "model"), epoch=7, run_id="r7")
    table.add(days(0, 0), rows(0, 0, "rules"), epoch=3, run_id="r3")
    assert {(by, epoch) for _, _, by, epoch in held(table)} == {("model", 7)}
    assert table.history("north").num_rows == 4


def test_sites_are_kept_apart(table: AnswerTable) -> None:
    table.add(days(0, 0), rows(0, 0, "rules"), epoch=1, run_id="r1")
    table.add(days(0, 0, "south"), rows(0, 0, "model"), epoch=2, run_id="r2")
    assert {by for _, _, by, _ in held(table)} == {"rules"}
    assert {by for _, _, by, _ in held(table, "south")} == {"model"}


def test_a_part_can_be_read(table: AnswerTable) -> None:
    table.add(days(0, 4), rows(0, 4, "rules"), epoch=1, run_id="r1")
    table.add(days(2, 2), rows(2, 2, "model"), epoch=2, run_id="r2")
    part = table.read("north", day(2), day(3), columns=["by"])
    assert part.column_names == ["by"]
    assert sorted(part["by"].to_pylist()) == ["model", "model", "rules", "rules"]


def test_a_table_that_was_never_written_is_said_to_be_missing(table: AnswerTable) -> None:
    with pytest.raises(FileNotFoundError):
        table.read("north")


def test_columns_that_come_later_are_empty_in_older_answers(table: AnswerTable) -> None:
    table.add(days(0, 0), rows(0, 0, "rules"), epoch=1, run_id="r1")
    wider = rows(1, 1, "model").append_column("why", pa.array(["it is worn", "it is new"]))
    table.add(days(1, 1), wider, epoch=2, run_id="r2")
    assert sorted(map(str, table.read("north")["why"].to_pylist())) == ["None", "None", "it is new", "it is worn"]


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    AnswerTable(tmp_path / "t").add(days(0, 0), rows(0, 0, "first"), epoch=1, run_id="r")
    start = threading.Barrier(4)
    failed: list[BaseException] = []

    def write(epoch: int) -> None:
        start.wait()
        try:
            AnswerTable(tmp_path / "t").add(days(0, 0), rows(0, 0, f"by {epoch}"), epoch=epoch, run_id="r")
        except BaseException as error:
            failed.append(error)

    going = [threading.Thread(target=write, args=(epoch,)) for epoch in range(2, 6)]
    for thread in going:
        thread.start()
    for thread in going:
        thread.join(60)
    assert failed == []
    table = AnswerTable(tmp_path / "t")
    assert set(table.history("north")["epoch"].to_pylist()) == {1, 2, 3, 4, 5}
    assert {by for _, _, by, _ in held(table)} == {"by 5"}


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=6))
def test_whatever_the_order_the_highest_epoch_of_each_day_holds(
    tmp_path_factory: pytest.TempPathFactory, adds: list[tuple[int, int, int]]
) -> None:
    table = AnswerTable(tmp_path_factory.mktemp("answers") / "t")
    holds: dict[int, int] = {}
    for first, second, epoch in adds:
        low, high = min(first, second), max(first, second)
        table.add(days(low, high), rows(low, high, f"by {epoch}", machines=("a",)), epoch=epoch, run_id="r")
        holds |= {d: max(epoch, holds.get(d, 0)) for d in range(low, high + 1)}
    assert {(d, by) for d, _, by, _ in held(table)} == {(d, f"by {epoch}") for d, epoch in holds.items()}


def test_a_window_that_is_served_again_and_again_is_read_from_one_file_of_few(table: AnswerTable) -> None:
    often = 2 * MANY_FILES + 5
    table.add(days(1, 1), rows(1, 1, "the day after"), epoch=1, run_id="r")
    for epoch in range(1, often + 1):
        table.add(days(0, 0), rows(0, 0, f"by {epoch}"), epoch=epoch, run_id=f"r{epoch}")
        if epoch in (MANY_FILES + 1, often):
            opened = Opened()
            with opened.noting():
                assert {by for day, _, by, _ in held(table) if day == 0} == {f"by {epoch}"}
                assert table.of_epoch(days(0, 0), epoch, columns=["by"])["by"].to_pylist() == [f"by {epoch}"] * 2
            assert opened.sizes_read[str(table.path)].files == 3, "of each day the newest, and the newest again"
    assert adds(table.path, "north").num_rows <= MANY_FILES + 1
    every = table.history("north", day(0), day(0))
    assert sorted(every["epoch"].to_pylist()) == sorted([*range(1, often + 1)] * 2)


def test_merging_files_changes_no_days_fingerprint_but_a_new_answer_does(table: AnswerTable) -> None:
    for epoch in range(1, MANY_FILES + 1):
        table.add(days(0, 1), rows(0, 1, "rules"), epoch=epoch, run_id="r")
    before = fingerprints(table, "north")
    assert merge_files(table.path, "north") == []
    table.add(days(1, 1), rows(1, 1, "rules"), epoch=MANY_FILES + 1, run_id="r")  # merges that day's
    assert adds(table.path, "north", day(1), day(1)).num_rows == 1
    after = fingerprints(table, "north")
    assert (after[day(0)], after[day(1)] != before[day(1)]) == (before[day(0)], True)
    table.add(days(0, 0), rows(0, 0, "rules"), epoch=MANY_FILES, run_id="r")  # a second time has no effect
    assert merge_files(table.path, "north", only=[day(1)]) == []
    assert fingerprints(table, "north") == after
