from datetime import date
from pathlib import Path

import pyarrow as pa

from backbone.windows import WindowRange
from resources.stores.documents import DocumentStore
from resources.stores.opened import Opened, note_read
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
