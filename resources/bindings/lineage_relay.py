"""Dagster's history as the lineage relay follows it, on whatever storage the instance has."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.instance.utils import RUNLESS_RUN_ID

from backbone.clock import Clock
from resources.bindings.lineage import events_of_run, runless_events
from resources.bindings.partitions import UNFINISHED
from resources.bindings.plants import Plants
from resources.lineage.index import LineageIndex
from resources.lineage.relay import Changed, Read, Relay
from resources.lineage.transports import Destination, destination
from resources.state.database import Database
from resources.state.outbox import Outbox

_BACKFILLS = 100


class DagsterHistory:
    """See `resources.lineage.relay.History`.

    The default storage keeps an event log for each run, so there is nothing to follow across runs but the runs
    themselves, by the time they were last changed; of each, the position of the last entry in its log.
    """

    def __init__(self, instance: dg.DagsterInstance, plants: Plants, graph: AssetGraph | None) -> None:
        self._instance, self._plants, self._graph = instance, plants, graph

    @property
    def id(self) -> str:
        """See `History`. A storage that does not know itself is taken for the only one."""
        storage = self._instance.run_storage
        # Brings SQLAlchemy and Alembic, half a second that loading the definitions need not pay.
        from dagster._core.storage.runs import SqlRunStorage

        return storage.get_run_storage_id() if isinstance(storage, SqlRunStorage) else ""

    def changed(self, since: float | None) -> list[Changed]:
        """See `History`."""
        after = None if since is None else datetime.fromtimestamp(since, UTC)
        return self._records(dg.RunsFilter(updated_after=after))

    def state_of(self, run_ids: Sequence[str]) -> list[Changed]:
        """See `History`."""
        return self._records(dg.RunsFilter(run_ids=list(run_ids))) if run_ids else []

    def _records(self, which: dg.RunsFilter) -> list[Changed]:
        records = self._instance.get_run_records(which, order_by="update_timestamp", ascending=True)
        return [
            Changed(
                record.dagster_run.run_id,
                record.update_timestamp.timestamp(),
                # One that never began has no end either.
                None
                if record.dagster_run.status in UNFINISHED
                else record.end_time or record.update_timestamp.timestamp(),
            )
            for record in records
        ]

    def read(self, run_id: str, cursor: str | None) -> Read | None:
        """See `History`. The position first: what is written meanwhile is read again, and not passed over."""
        last = self._instance.get_records_for_run(run_id, limit=1, ascending=False).records
        position = str(last[0].storage_id) if last else None
        if position is not None and position == cursor:
            return None
        return Read(events_of_run(self._instance, run_id, self._plants, graph=self._graph), position)

    def runless(self, cursor: str | None) -> Read | None:
        """See `History`. The position is the last report, and how every backfill stands."""
        last = self._instance.get_records_for_run(RUNLESS_RUN_ID, limit=1, ascending=False).records
        standing = [f"{b.backfill_id} {b.status.value}" for b in self._instance.get_backfills(limit=_BACKFILLS)]
        told = f"{last[0].storage_id if last else None} {standing}"
        position = hashlib.sha256(told.encode()).hexdigest()
        if position == cursor:
            return None
        return Read(runless_events(self._instance, self._plants, graph=self._graph), position)


def outbox_of(plants: Plants) -> Outbox:
    """The installation's outbox, which fills the index as it is filled."""
    database = Database(plants.catalog.home.state_url)
    return Outbox(database, LineageIndex(database))


def relay_of(
    instance: dg.DagsterInstance,
    plants: Plants,
    *,
    graph: AssetGraph | None,
    clock: Clock,
    to: Destination | None = None,
) -> Relay:
    """The relay of an installation.

    Args:
        graph: what the definitions say of the assets.
        to: where events go; None: as configured.

    Raises:
        ConfigurationError: the configuration of the OpenLineage client is wrong.
    """
    to = to or destination(plants.catalog.home.root)
    return Relay(outbox_of(plants), DagsterHistory(instance, plants, graph), to, clock)
