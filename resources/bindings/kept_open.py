"""Connections to a SQLite file of Dagster's that stay open, and with them the statements that were compiled once."""

import os
from typing import Any

# Dagster imports this module where it opens its storage, which is SQLAlchemy whatever the class.
import sqlalchemy as sa  # noqa: TID253
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

from resources.state.write_ahead import write_ahead

KEPT_OPEN = 2
"""Connections that a process keeps; while more of its threads ask at once, more are opened."""


class KeptOpen:
    """What a process has open of one file; a process that was forked opens its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: sa.Engine | None = None
        self._engine_of = 0

    @property
    def engine(self) -> sa.Engine:
        """The engine of this process: a connection to SQLite must not be taken through a fork."""
        if self._engine is None or self._engine_of != os.getpid():
            engine = sa.create_engine(
                self._url,
                poolclass=sa.QueuePool,
                pool_size=KEPT_OPEN,
                max_overflow=-1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
            sa.event.listen(engine, "connect", _write_ahead)
            self._engine, self._engine_of = engine, os.getpid()
        return self._engine

    def dispose(self) -> None:
        if self._engine is not None and self._engine_of == os.getpid():
            self._engine.dispose()
        self._engine = None


def _write_ahead(connection: Any, _record: Any) -> None:
    write_ahead(connection, SQLITE_BUSY_TIMEOUT_SECONDS)
