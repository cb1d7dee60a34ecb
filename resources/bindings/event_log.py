"""Dagster's event log in one SQLite file, as stock, less what stock storage does again for every event.

Named in `dagster.yaml`. The file, its tables and every row in them are those of `ConsolidatedSqliteEventLogStorage`, so
that a home can go from one to the other, and back, at any time, and processes with either can write at once.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, Self

import dagster as dg

# Dagster imports this module where it opens an event log, which is SQLAlchemy whatever the class.
import sqlalchemy as sa  # noqa: TID253
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.event_log.polling_event_watcher import SqlPollingEventWatcher
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetKeyTable
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData, serialize_value
from sqlalchemy.dialects import sqlite  # noqa: TID253

EVENTS_AT_ONCE = 100
"""Events that Dagster stores together, of those that it has together: what was planned, what became of a range."""
KEPT_OPEN = 2
"""Connections that a process keeps; while more of its threads ask at once, more are opened."""


class QuickSqliteEventLogStorage(ConsolidatedSqliteEventLogStorage):
    """Stores an event in one transaction, over a connection that stays open.

    Stock storage opens an engine and up to four connections for an event, compiles every statement anew, has the disk
    confirm each transaction, and empties the write-ahead log whenever it closes. Here an event, or a batch of them
    (`DAGSTER_EVENT_BATCH_SIZE`), is one transaction. Only what changes the state of a run, its end above all, waits for
    the disk, and with it all that was stored before: a process that dies loses nothing that was stored, and a machine
    that loses its power nothing of a run that has ended.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engine: sa.Engine | None = None
        self._engine_of = 0
        self._of_thread = _OfThread()
        self._seen: set[str] = set()
        self._watcher: SqlPollingEventWatcher | None = None
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Opened by Dagster, in whatever process: the only setting that it has for batches is of the environment."""
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(EVENTS_AT_ONCE))
        return super().from_config_value(inst_data, config_value)

    def store_event(self, event: EventLogEntry) -> None:
        with self._transaction(durable=_changes_a_run(event)):
            super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store all of them or, where one cannot be stored, none; Dagster then stores them one by one."""
        newest = {
            event.dagster_event.asset_key: event for event in events if event.dagster_event and _materialized(event)
        }
        kept = {id(event) for event in newest.values()}
        with self._transaction(durable=any(map(_changes_a_run, events))):
            # The row of an asset holds its last materialization: those before it would be written to be replaced.
            self._of_thread.replaced = {id(event) for event in events if _materialized(event)} - kept
            try:
                for event in events:
                    super().store_event(event)
            finally:
                self._of_thread.replaced = frozenset()

    def has_table(self, table_name: str) -> bool:
        """Tables are only ever added: one that was seen is not looked for again."""
        return self._once_seen(table_name, lambda: super(QuickSqliteEventLogStorage, self).has_table(table_name))

    def _has_asset_key_col_on_connection(self, conn: sa.Connection, column_name: str) -> bool:
        def looked() -> bool:
            return super(QuickSqliteEventLogStorage, self)._has_asset_key_col_on_connection(conn, column_name)

        return self._once_seen(f"{AssetKeyTable.name}.{column_name}", looked)

    def _once_seen(self, name: str, looked: Callable[[], bool]) -> bool:
        if name not in self._seen and looked():
            self._seen.add(name)
        return name in self._seen

    def _store_asset_event(self, conn: sa.Connection, event: EventLogEntry, event_id: int) -> None:
        """As stock, but in one statement, as in Dagster's own storage for PostgreSQL."""
        asset = event.dagster_event.asset_key if event.dagster_event else None
        if asset is None or id(event) in self._of_thread.replaced:
            return
        columns = self._has_asset_key_index_cols_on_connection(conn)
        if values := self._get_asset_entry_values(event, event_id, columns):
            row = sqlite.insert(AssetKeyTable).values(asset_key=asset.to_string(), **values)
            conn.execute(row.on_conflict_do_update(index_elements=[AssetKeyTable.c.asset_key], set_=values))

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """As stock, which writes the event, with all of its partitions in it, out anew for each of them."""
        planned = event.get_dagster_event().asset_check_planned_data
        subset = planned.partitions_subset
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),
            "evaluation_event_storage_id": event_id,
        }
        rows = [row | {"partition": key} for key in (subset.get_partition_keys() if subset else [None])]
        with self.index_connection() as conn:
            conn.execute(AssetCheckExecutionsTable.insert(), rows)

    def watch(self, run_id: str, cursor: str | None, callback: Any) -> None:
        """Stock waits for the file to change. It does when the write-ahead log is emptied, which is now seldom."""
        self._watcher = self._watcher or SqlPollingEventWatcher(self)
        self._watcher.watch_run(run_id, cursor, callback)

    def end_watch(self, run_id: str, handler: Any) -> None:
        if self._watcher is not None:
            self._watcher.unwatch_run(run_id, handler)

    def dispose(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        if self._engine is not None and self._engine_of == os.getpid():
            self._engine.dispose()
        self._engine = None
        super().dispose()

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        """The transaction that the thread has open, if it has one, else one of its own."""
        if self._of_thread.connection is not None:
            yield self._of_thread.connection
            return
        with self._opened().connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        """One transaction for all that the thread stores meanwhile; a `durable` one waits for the disk."""
        with self._opened().connect() as connection, connection.begin():
            # SQLite's own transaction begins with the first row, and until then this can be changed.
            connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._of_thread.connection = connection
            try:
                yield
            finally:
                self._of_thread.connection = None

    def _opened(self) -> sa.Engine:
        """The engine of this process: a connection to SQLite must not be taken through a fork."""
        if self._engine is None or self._engine_of != os.getpid():
            engine = sa.create_engine(
                self._conn_string,
                poolclass=sa.QueuePool,
                pool_size=KEPT_OPEN,
                max_overflow=-1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
            sa.event.listen(engine, "connect", _write_ahead)
            self._engine, self._engine_of = engine, os.getpid()
        return self._engine


class _OfThread(threading.local):
    """What a thread is storing: its open transaction, and the events of a batch whose asset's row a later one has."""

    connection: sa.Connection | None = None
    replaced: Set[int] = frozenset()


def _write_ahead(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")


def _changes_a_run(event: EventLogEntry) -> bool:
    return event.dagster_event is not None and event.dagster_event.is_job_event


def _materialized(event: EventLogEntry) -> bool:
    return event.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
