"""The Dagster instance of a rehearsal: Dagster's own, in memory, with one connection to each of its databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dagster import DagsterInstance
from dagster._core.instance.types import InstanceType
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher
from dagster._core.run_coordinator import DefaultRunCoordinator
from dagster._core.storage.event_log import InMemoryEventLogStorage
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.root import TemporaryLocalArtifactStorage
from dagster._core.storage.runs import InMemoryRunStorage

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


class _Runs(InMemoryRunStorage):
    """Dagster's opens a connection and sets it up for each query; here nobody else is there to share with."""

    def __init__(self) -> None:
        super().__init__()
        _keep_references(self._held_conn)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        if self._held_conn.in_transaction():
            with self._held_conn.begin_nested():
                yield self._held_conn
        else:
            with self._held_conn.begin():
                yield self._held_conn

    def has_run_stats_index_cols(self) -> bool:
        return True


class _Events(InMemoryEventLogStorage):
    """As `_Runs`."""

    def __init__(self) -> None:
        super().__init__()
        _keep_references(self._held_conn)

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with self._db_lock, self._held_conn.begin():
            yield self._held_conn

    def _has_asset_key_col_on_connection(self, *_: object) -> bool:
        return True  # it was made just now; Dagster would read the database's schema for each event


def _keep_references(connection: Connection) -> None:
    """What Dagster asks of each of its connections; in a transaction it would have no effect."""
    from sqlalchemy import text

    connection.execute(text("PRAGMA foreign_keys=ON;"))
    connection.commit()


def rehearsal_instance() -> DagsterInstance:
    """As `DagsterInstance.ephemeral()`, quicker by what it takes to open connections."""
    return DagsterInstance(
        instance_type=InstanceType.EPHEMERAL,
        local_artifact_storage=TemporaryLocalArtifactStorage(),
        run_storage=_Runs(),
        event_storage=_Events(),
        compute_log_manager=NoOpComputeLogManager(),
        run_coordinator=DefaultRunCoordinator(),
        run_launcher=SyncInMemoryRunLauncher(),
    )
