"""Dagster's runs in one SQLite file, as stock, over connections that stay open.

Named in `dagster.yaml`. The file, its tables and every row in them are those of `SqliteRunStorage`, and each change
waits for the disk as there, so that a home can go from one to the other, and back, at any time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

# Dagster imports this module where it opens its runs, which is SQLAlchemy whatever the class.
import sqlalchemy as sa  # noqa: TID253
from dagster._core.storage.runs import SqliteRunStorage
from dagster._serdes import ConfigurableClassData

from resources.bindings.kept_open import KeptOpen


class QuickSqliteRunStorage(SqliteRunStorage):
    """Stock storage opens an engine and a connection, and compiles anew, for each of a run's thirty statements."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(conn_string, inst_data)
        self._kept = KeptOpen(conn_string)
        self._columns_there: set[str] = set()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        with self._kept.engine.connect() as connection, connection.begin():
            yield connection

    def has_run_stats_index_cols(self) -> bool:
        """Columns are only ever added: one that was seen is not looked for again."""
        return self._seen("run_stats") or self._see("run_stats", there=super().has_run_stats_index_cols())

    def has_backfill_id_column(self) -> bool:
        return self._seen("backfill_id") or self._see("backfill_id", there=super().has_backfill_id_column())

    def dispose(self) -> None:
        self._kept.dispose()
        super().dispose()

    def _seen(self, name: str) -> bool:
        return name in self._columns_there

    def _see(self, name: str, *, there: bool) -> bool:
        if there:
            self._columns_there.add(name)
        return there
