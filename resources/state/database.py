"""The database that processes share: SQLite beside the stores, PostgreSQL for a plant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbone.errors import ConfigurationError, StoreBusy
from resources.state.write_ahead import write_ahead

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData, Table

_WAIT_S = 30


class Database:
    """Connections and transactions. Tables are made when they are first used.

    Args:
        url: as SQLAlchemy writes it.
        wait_s: how long to wait for another process that holds the database.
    """

    def __init__(self, url: str, *, wait_s: float = _WAIT_S) -> None:
        self.url, self._wait_s = url, wait_s
        self._made: set[str] = set()

    @cached_property
    def engine(self) -> Engine:
        from sqlalchemy import create_engine, event, make_url
        from sqlalchemy.exc import ArgumentError

        try:
            url = make_url(self.url)
            if url.get_backend_name() != "sqlite":
                return create_engine(url, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"The state database cannot be used: its driver {error.name} is not installed.",
                next_step="For PostgreSQL: pip install 'hybrid-assets[postgres]'.",
            ) from error
        except ArgumentError as error:
            # Not the URL itself: it may hold a password.
            raise ConfigurationError(
                f"The state database cannot be used: {error}.",
                next_step="Set HYBRID_STATE_URL as in sqlite:////path/state.db or postgresql+psycopg://user@host/name.",
            ) from error
        if url.database:
            folder = Path(url.database).parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreBusy(
                    f"The state database's folder {folder} cannot be had: {error.strerror}.",
                    next_step="Make it a folder that can be written to, or name another in HYBRID_STATE_URL.",
                ) from error
        engine = create_engine(url, connect_args={"timeout": self._wait_s})

        @event.listens_for(engine, "connect")
        def _wal(connection: Any, _record: Any) -> None:
            # Transactions are begun by us, so that one that will write can say so when it begins.
            connection.isolation_level = None
            write_ahead(connection, self._wait_s)
            connection.execute("PRAGMA synchronous=FULL")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            writes = connection.get_execution_options().get("writes")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    @contextmanager
    def reading(self, *tables: Table) -> Iterator[Connection]:
        """A connection to read with.

        Raises:
            StoreBusy: the database is held by somebody else, or cannot be reached.
        """
        with self._busy():
            self._make(tables)
            with self.engine.begin() as connection:
                yield connection

    @contextmanager
    def writing(self, *tables: Table, alone: str | None = None) -> Iterator[Connection]:
        """One transaction that may read and then write; raises as `reading` does, and then nothing was written.

        On SQLite it holds the database from its beginning; on PostgreSQL, read rows to be changed `with_for_update`.

        Args:
            alone: what no other transaction of this name may do meanwhile; where rows are counted, or not there yet,
                PostgreSQL has no row to lock.
        """
        with self._busy():
            self._make(tables)
            with self.engine.execution_options(writes=True).begin() as connection:
                if alone is not None and self.engine.dialect.name == "postgresql":
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%s))", (alone,))
                yield connection

    def upsert(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert rows of the same columns, or change those that have their primary key."""
        kept = [dict(row) for row in rows]
        if kept:
            with self.writing(table) as connection:
                upsert(connection, table, kept)

    def _make(self, tables: Iterable[Table]) -> None:
        for table in tables:
            if table.name not in self._made:
                _create(table.metadata, self.engine)
                self._made |= set(table.metadata.tables)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        from sqlalchemy.exc import InterfaceError, OperationalError

        try:
            yield
        except (OperationalError, InterfaceError) as error:
            where = self.engine.url.render_as_string(hide_password=True)
            raise StoreBusy(
                f"The state database {where} did not answer: {error.orig}.",
                next_step="Run the step again; if it lasts, see which process holds it.",
            ) from error


def upsert(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, filled: Sequence[str] = ()
) -> None:
    """As `Database.upsert`, in a transaction that is under way.

    Args:
        filled: columns that are not changed to nothing.
    """
    from sqlalchemy import func
    from sqlalchemy.dialects import postgresql, sqlite

    if not rows:
        return
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    keys = [column.name for column in table.primary_key]
    changed: dict[str, Any] = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    changed |= {name: func.coalesce(insert.excluded[name], table.c[name]) for name in filled}
    statement = insert.on_conflict_do_update(index_elements=keys, set_=changed)
    if not changed:
        statement = insert.on_conflict_do_nothing(index_elements=keys)
    connection.execute(statement, list(rows))


def utc(instant: datetime) -> datetime:
    """A time as it was written: SQLite keeps no zone."""
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _create(metadata: MetaData, engine: Engine) -> None:
    """Make tables that are not there; another process may be making them at the same time."""
    from sqlalchemy import inspect
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    if set(metadata.tables) <= set(inspect(engine).get_table_names()):
        return
    try:
        # As one that will write from its beginning: SQLite refuses, and does not wait, where two readers turn writers.
        metadata.create_all(engine.execution_options(writes=True), checkfirst=True)
    except (OperationalError, ProgrammingError, IntegrityError) as error:
        if "already exists" not in str(error):
            raise
