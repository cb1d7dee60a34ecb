"""A new database that several open at once."""

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from resources.state.write_ahead import write_ahead


def test_however_many_open_a_new_database_at_once_each_has_it(tmp_path: Path) -> None:
    """Set plainly, one in a hundred is told at once that it is locked, however long it would wait."""
    threads, rounds = 8, 30
    start, modes = threading.Barrier(threads), list[str]()

    def opens() -> None:
        for number in range(rounds):
            start.wait(60)
            connection = sqlite3.connect(tmp_path / f"{number}.db", timeout=30)
            write_ahead(connection, 30)
            modes.append(connection.execute("PRAGMA journal_mode").fetchone()[0])
            connection.close()

    going = [threading.Thread(target=opens) for _ in range(threads)]
    for thread in going:
        thread.start()
    for thread in going:
        thread.join(120)
    assert modes == ["wal"] * threads * rounds


def test_one_that_is_held_for_too_long_is_told(tmp_path: Path) -> None:
    holder, other = (sqlite3.connect(tmp_path / "held.db", timeout=0, isolation_level=None) for _ in range(2))
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        write_ahead(other, 0.05)
    holder.execute("ROLLBACK")
    write_ahead(other, 0.05)


def test_one_that_cannot_be_written_to_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "read_only.db"
    sqlite3.connect(file).execute("CREATE TABLE t (x)").connection.close()
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        write_ahead(connection, 30)
    assert time.monotonic() - began < 10
