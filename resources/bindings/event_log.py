"""Dagster's event log in one SQLite file, as stock, less what stock storage does again for every event.

Named in `dagster.yaml`. The file, its tables and every row in them are those of `ConsolidatedSqliteEventLogStorage`, so
that a home can go from one to the other, and back, at any time, and processes with either can write at once.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

import dagster as dg

# Dagster imports this module where it opens an event log, which is SQLAlchemy whatever the class.
import sqlalchemy as sa  # noqa: TID253
from dagster._core.event_api import EventLogCursor, EventLogRecord, EventRecordsResult
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.event_log.polling_event_watcher import SqlPollingEventWatcher
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.consolidated_sqlite_event_log import SQLITE_EVENT_LOG_FILENAME
from dagster._core.storage.sqlite import create_db_conn_string
from dagster._serdes import ConfigurableClassData, serialize_value
from dagster._time import datetime_from_timestamp
from dagster._utils.concurrency import ConcurrencyClaimStatus, ConcurrencySlotStatus
from sqlalchemy.dialects import sqlite  # noqa: TID253

from resources.bindings.kept_open import KeptOpen
from resources.bindings.pool_claims import give_back_slot, take_slot

EVENTS_AT_ONCE = 100
"""Events that Dagster stores together, of those that it has together: what was planned, what became of a range."""
# Built once: SQLAlchemy takes longer to build a statement anew than SQLite to carry it out.
_EVENT = SqlEventLogStorageTable.insert()
_ASSET = AssetKeyTable.c.asset_key == sa.bindparam("asset")
_LAST_MATERIALIZATION = sa.select(AssetKeyTable.c.last_materialization, AssetKeyTable.c.asset_details).where(_ASSET)
_LAST_EVENT = sa.select(sa.func.max(SqlEventLogStorageTable.c.id)).where(
    SqlEventLogStorageTable.c.asset_key == sa.bindparam("asset"),
    SqlEventLogStorageTable.c.dagster_event_type == sa.bindparam("kind"),
    SqlEventLogStorageTable.c.partition == sa.bindparam("partition"),
)
_LAST_TAGS = sa.select(AssetEventTagsTable.c.key, AssetEventTagsTable.c.value).where(
    AssetEventTagsTable.c.event_id == _LAST_EVENT.scalar_subquery(),
    sa.exists().where(_ASSET, AssetKeyTable.c.asset_details.is_(None)),
)


@cache
def _asset_row(columns: tuple[str, ...]) -> sqlite.Insert:
    """Writes these columns of an asset's row, which may be there."""
    row = sqlite.insert(AssetKeyTable)
    written = {name: row.excluded[name] for name in columns}
    return row.on_conflict_do_update(index_elements=[AssetKeyTable.c.asset_key], set_=written)


class QuickSqliteEventLogStorage(ConsolidatedSqliteEventLogStorage):
    """Stores an event in one transaction, over a connection that stays open.

    Stock storage opens an engine and up to four connections for an event, compiles every statement anew, has the disk
    confirm each transaction, and empties the write-ahead log whenever it closes. Here an event, or a batch of them
    (`DAGSTER_EVENT_BATCH_SIZE`), is one transaction. Only what changes the state of a run, its end above all, waits for
    the disk, and with it all that was stored before: a process that dies loses nothing that was stored, and a machine
    that loses its power nothing of a run that has ended.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._of_thread = _OfThread()
        self._seen: set[str] = set()
        self._newest: dict[str, tuple[str, EventLogRecord]] = {}
        self._watcher: SqlPollingEventWatcher | None = None
        self._kept = KeptOpen(create_db_conn_string(base_dir, SQLITE_EVENT_LOG_FILENAME))
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Opened by Dagster, in whatever process: the only setting that it has for batches is of the environment."""
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(EVENTS_AT_ONCE))
        return super().from_config_value(inst_data, config_value)

    def store_event(self, event: EventLogEntry) -> None:
        with self._transaction(durable=_changes_a_run(event)):
            self._store(event)

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
                    self._store(event)
            finally:
                self._of_thread.replaced = frozenset()

    def _store(self, event: EventLogEntry) -> None:
        """As stock, in the transaction that is open, and by a statement that is not built anew."""
        with self._connect() as connection:
            row = self._event_to_row(event)
            self._of_thread.written = event, row["event"]
            event_id = int(connection.execute(_EVENT, row).lastrowid)
            kind = event.dagster_event_type
            if kind in ASSET_EVENTS and event.get_dagster_event().asset_key:
                self._store_asset_event_tags(connection, [event], [event_id])
                self._store_asset_event(connection, event, event_id)
            if kind in ASSET_CHECK_EVENTS:
                self.store_asset_check_event(event, event_id)

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
            conn.execute(_asset_row(tuple(values)), {"asset_key": asset.to_string(), **values})

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """As stock, which writes the event, with all of its partitions in it, out anew for each of them."""
        planned = event.get_dagster_event().asset_check_planned_data
        subset = planned.partitions_subset
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": self._text_of(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),
            "evaluation_event_storage_id": event_id,
        }
        rows = [row | {"partition": key} for key in (subset.get_partition_keys() if subset else [None])]
        with self.index_connection() as conn:
            conn.execute(AssetCheckExecutionsTable.insert(), rows)

    def _get_asset_entry_values(
        self, event: EventLogEntry, event_id: int, has_asset_key_index_cols: bool
    ) -> dict[str, Any]:
        """As stock, which writes out the event a second time, for the row of its asset."""
        if not _materialized(event) or not has_asset_key_index_cols:
            return super()._get_asset_entry_values(event, event_id, has_asset_key_index_cols)
        text = self._text_of(event)
        record = f'{{"__class__": "EventLogRecord", "event_log_entry": {text}, "storage_id": {event_id}}}'
        asset = _given(event.get_dagster_event().asset_key)
        self._newest[asset.to_string()] = record, EventLogRecord(event_id, event)
        return {
            "last_materialization": record,
            "last_run_id": event.run_id,
            "last_materialization_timestamp": datetime_from_timestamp(event.timestamp),
        }

    def _text_of(self, event: EventLogEntry) -> str:
        written, text = self._of_thread.written
        return text if written is event else serialize_value(event)

    def get_latest_tags_by_partition(
        self,
        asset_key: dg.AssetKey,
        event_type: dg.DagsterEventType,
        tag_keys: Sequence[str],
        asset_partitions: Sequence[str] | None = None,
        before_cursor: int | None = None,
        after_cursor: int | None = None,
    ) -> Mapping[str, Mapping[str, str]]:
        """As stock; of one window of an asset that nobody has wiped, in one statement."""
        if asset_partitions is not None and len(asset_partitions) == 1 and before_cursor is None is after_cursor:
            [partition] = asset_partitions
            of = {"asset": asset_key.to_string(), "kind": event_type.value, "partition": partition}
            with self.index_connection() as connection:
                found = connection.execute(_LAST_TAGS, of).fetchall()
            if tags := {key: value for key, value in found if key in tag_keys}:
                return {partition: tags}
        return super().get_latest_tags_by_partition(
            asset_key, event_type, tag_keys, asset_partitions, before_cursor, after_cursor
        )

    def _get_latest_materialization_records(
        self, raw_asset_rows: Iterable[Mapping[str, Any]]
    ) -> Mapping[dg.AssetKey, EventLogRecord | None]:
        """As stock, which reads from its text also what this process has just written, pictures and all."""
        found: dict[dg.AssetKey, EventLogRecord | None] = {}
        others = []
        for row in raw_asset_rows:
            text, record = self._newest.get(row["asset_key"], (None, None))
            if record is not None and text == row["last_materialization"] and row["asset_details"] is None:
                found[_given(dg.AssetKey.from_db_string(row["asset_key"]))] = record
            else:
                others.append(row)
        return {**found, **super()._get_latest_materialization_records(others)} if others else found

    def fetch_materializations(
        self,
        records_filter: dg.AssetKey | dg.AssetRecordsFilter,
        limit: int,
        cursor: str | None = None,
        ascending: bool = False,
    ) -> EventRecordsResult:
        """As stock, but the window that this process wrote last, which a check asks for twice, is not read anew."""
        if isinstance(records_filter, dg.AssetRecordsFilter) and (limit, cursor, ascending) == (1, None, False):
            last = self._just_written(records_filter.asset_key)
            if last and records_filter == dg.AssetRecordsFilter(records_filter.asset_key, [str(last.partition_key)]):
                at = EventLogCursor.from_storage_id(last.storage_id).to_string()
                return EventRecordsResult([last], cursor=at, has_more=True)
        return super().fetch_materializations(records_filter, limit, cursor, ascending)

    def _just_written(self, asset: dg.AssetKey) -> EventLogRecord | None:
        """The last materialization of an asset, where this process wrote it and nobody has written or wiped since."""
        text, record = self._newest.get(asset.to_string(), (None, None))
        if record is None:
            return None
        with self.index_connection() as connection:
            row = connection.execute(_LAST_MATERIALIZATION, {"asset": asset.to_string()}).fetchone()
        return record if row == (text, None) else None

    def claim_concurrency_slot(
        self, concurrency_key: str, run_id: str, step_key: str, priority: int | None = None
    ) -> ConcurrencyClaimStatus:
        """As stock, whose six transactions are one."""
        with self._transaction(durable=False), self._connect() as connection:
            if take_slot(connection, concurrency_key, run_id, step_key, priority or 0):
                return ConcurrencyClaimStatus(
                    concurrency_key=concurrency_key, slot_status=ConcurrencySlotStatus.CLAIMED, priority=priority
                )
            return super().claim_concurrency_slot(concurrency_key, run_id, step_key, priority)

    def free_concurrency_slot_for_step(self, run_id: str, step_key: str) -> None:
        """As stock, whose three transactions are one."""
        with self._transaction(durable=False), self._connect() as connection:
            if not give_back_slot(connection, run_id, step_key):
                super().free_concurrency_slot_for_step(run_id, step_key)

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
        self._kept.dispose()
        super().dispose()

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        """The transaction that the thread has open, if it has one, else one of its own."""
        if self._of_thread.connection is not None:
            yield self._of_thread.connection
            return
        with self._kept.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        """One transaction for all that the thread stores meanwhile; a `durable` one waits for the disk."""
        with self._kept.engine.connect() as connection, connection.begin():
            # SQLite's own transaction begins with the first row, and until then this can be changed.
            connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._of_thread.connection = connection
            try:
                yield
            finally:
                self._of_thread.connection = None


class _OfThread(threading.local):
    """What a thread is storing: its open transaction, and the events of a batch whose asset's row a later one has."""

    connection: sa.Connection | None = None
    replaced: Set[int] = frozenset()
    written: tuple[EventLogEntry | None, str] = None, ""


def _changes_a_run(event: EventLogEntry) -> bool:
    return event.dagster_event is not None and event.dagster_event.is_job_event


def _materialized(event: EventLogEntry) -> bool:
    return event.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION


def _given(asset: dg.AssetKey | None) -> dg.AssetKey:
    assert asset is not None
    return asset
