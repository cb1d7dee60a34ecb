"""The lineage sensor: what runs have done is told to the world, outside of the runs."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from backbone.errors import HybridError
from resources.bindings.plants import Plants

if TYPE_CHECKING:
    from resources.lineage.relay import Relayed
    from resources.lineage.transports import Destination

TICK_S = 20.0
"""A tick ends after this long; what is left is the next one's."""


def lineage_sensor() -> dg.SensorDefinition:
    """One sensor for the whole code location.

    It keeps no cursor: how far history was read stands in the outbox, with the events. A backend that is down or slow
    fails no tick; where events wait, the tick says so.
    """

    @dg.sensor(
        name="lineage",
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps what runs have done as OpenLineage events and delivers them.",
    )
    def lineage(context: dg.SensorEvaluationContext, plants: Plants) -> dg.SkipReason:
        from resources.bindings.lineage_relay import relay_of

        graph = context.repository_def.asset_graph if context.repository_def is not None else None
        try:
            to = _destination(plants.catalog.home.root)
            done = relay_of(context.instance, plants, graph=graph, clock=plants.clock, to=to).relay(TICK_S)
        except HybridError as error:
            raise dg.Failure(str(error)) from error
        for trouble in done.troubles:
            context.log.warning(trouble)
        return dg.SkipReason(said(done))

    return lineage


@cache
def _destination(home: Path) -> "Destination":
    """Opened once in a process: the client's import takes half a second."""
    from resources.lineage.transports import destination

    return destination(home)


def said(done: "Relayed") -> str:
    """What a relay did, in a sentence."""
    if done.held_by is not None:
        return f"Another process relays: {done.held_by}."
    counts = {"new": done.new, "delivered": done.delivered, "filtered out": done.filtered, "set aside": done.set_aside}
    told = ", ".join(f"{n} {what}" for what, n in counts.items() if n) or "nothing new"
    rest = f"; waits: {done.waits}" if done.waits else "; more is left for the next tick" if done.unfinished else ""
    return f"Events: {told}{rest}."
