"""SQLite's write-ahead log: whoever reads does not wait for whoever writes."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

_AGAIN_S = 0.01


def write_ahead(connection: Any, wait_s: float) -> None:
    """Have a database keep one, from its first connection on.

    Where two set it at once, each holds what the other needs, and SQLite has neither of them wait, whatever its timeout
    is: so it is tried again.

    Args:
        connection: of `sqlite3`.
        wait_s: for so long.

    Raises:
        sqlite3.OperationalError: the database is held by somebody else, or, at once, cannot be written to.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_S)
        else:
            return
