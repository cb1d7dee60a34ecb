from datetime import date
from pathlib import Path

import pyarrow as pa

from backbone.windows import WindowRange
from resources.stores.answers import AnswerTable
from resources.stores.documents import DocumentStore
from resources.stores.opened import Opened, Size, note_read
from resources.stores.tables import WindowTable

DAY = date(2025, 1, 1)
WINDOW = WindowRange("north", DAY, DAY)
ROWS = pa.table({"equipment_id": ["P-1", "P-2"], "date": pa.array([DAY, DAY])})


def test_tables_and_documents_are_noted_with_the_versions_that_were_opened(tmp_path: Path) -> None:
    table, documents, opened = WindowTable(tmp_path / "t"), DocumentStore(tmp_path / "d"), Opened()
    table.replace(WINDOW, ROWS, run_id="before")
    with opened.noting():
        assert table.read("north").num_rows == 2
        table.replace(WINDOW, ROWS.slice(0, 1), run_id="now")
        documents.put("first", "{}")
        documents.get("first")
    assert opened.reads == {str(tmp_path / "t"): 0, str(tmp_path / "d"): "first"}
    assert opened.rows == {str(tmp_path / "t"): 2}
    assert opened.writes == {str(tmp_path / "t"): 1, str(tmp_path / "d"): "first"}


def on_disk(table: WindowTable, day: date) -> Size:
    return Size.of((table.path / "site=north" / f"date={day}").glob("*.parquet"))


def test_sizes_are_those_of_the_files_that_were_added_by_day_and_of_those_that_were_opened(tmp_path: Path) -> None:
    table, later = WindowTable(tmp_path / "t"), date(2025, 1, 2)
    rows = pa.table({"equipment_id": ["P-1"] * 3, "date": pa.array([DAY, DAY, later])})
    with (written := Opened()).noting():
        table.replace(WindowRange("north", DAY, later), rows, run_id="now")
    by_day = {day: on_disk(table, day) for day in (DAY, later)}
    assert written.sizes_written == {str(table.path): by_day}
    assert all(size.bytes > 0 and size.files == 1 for size in by_day.values())
    with (read := Opened()).noting():
        table.read("north", later, later)
        assert table.read("south").num_rows == 0
    assert read.sizes_read == {str(table.path): by_day[later]}
    with read.noting():
        table.read("north")
    assert read.sizes_read == {str(table.path): by_day[later].plus(by_day[DAY]).plus(by_day[later])}


def test_a_commit_is_found_again_behind_those_of_others(tmp_path: Path) -> None:
    table = WindowTable(tmp_path / "t")
    mine = table.replace(WINDOW, ROWS, run_id="mine")
    for _ in range(3):
        table.replace(WindowRange("south", DAY, DAY), ROWS, run_id="another")
    with (opened := Opened()).noting():
        assert table._committed("mine") == mine
    assert opened.writes == {str(table.path): mine}
    assert opened.sizes_written == {str(table.path): {DAY: on_disk(table, DAY)}}


def test_answers_that_were_there_already_add_nothing(tmp_path: Path) -> None:
    table = AnswerTable(tmp_path / "t")
    for expected in (1, 0):
        with (opened := Opened()).noting():
            table.add(WINDOW, ROWS, epoch=1, run_id="now")
        sizes = opened.sizes_written[str(table.path)]
        assert sum(size.files for size in sizes.values()) == expected


def test_documents_have_the_size_of_their_text(tmp_path: Path) -> None:
    documents = DocumentStore(tmp_path / "d")
    with (opened := Opened()).noting():
        documents.put("first", '"é"')
        documents.get("first")
    assert opened.sizes_written == {str(tmp_path / "d"): {None: Size(4, 1)}}
    assert opened.sizes_read == {str(tmp_path / "d"): Size(4, 1)}


def test_nothing_is_noted_where_nobody_asks(tmp_path: Path) -> None:
    opened = Opened()
    with opened.noting():
        pass
    note_read(tmp_path, 3)
    assert opened == Opened()


def test_of_several_reads_the_newest_number_holds(tmp_path: Path) -> None:
    opened = Opened()
    with opened.noting():
        for version in (2, 3, 1):
            note_read(tmp_path, version, rows=10)
    assert opened.reads == {str(tmp_path): 3}
    assert opened.rows == {str(tmp_path): 30}


def test_notes_of_one_step_are_not_those_of_another(tmp_path: Path) -> None:
    outer, inner = Opened(), Opened()
    with outer.noting():
        with inner.noting():
            note_read(tmp_path / "inner", 1)
        note_read(tmp_path / "outer", 1)
    assert set(inner.reads) == {str(tmp_path / "inner")}
    assert set(outer.reads) == {str(tmp_path / "outer")}
