"""What a gateway tells of itself: to `hybrid gateway status`, and to Prometheus."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backbone.compiled_modules import compiled
from gateway.counters import Collector, Counters
from gateway.set_aside import set_aside

if TYPE_CHECKING:
    from gateway.process import Gateway


class OutsideView:
    """Of one gateway, from when this was made."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._began = gateway, time.time()

    def status(self) -> Mapping[str, Any]:
        """Everything, for people and for JSON."""
        of, counters, spool = self._gateway, self._gateway.counters, self._gateway.spool
        return {
            "site": of.plant.site.name,
            "gateway": of.settings.name,
            "pid": os.getpid(),
            "compiled": compiled.in_use,
            "up_s": round(time.time() - self._began, 1),
            "broker": of.broker.url,
            "messages": _by_fate(counters),
            "reasons": {f"{fate}: {reason}": n for (fate, reason), n in sorted(counters.reasons.items())},
            "flags": dict(counters.flags),
            "served_by": _by_server(counters),
            "published": counters.published,
            "pending": of.intake.pending,
            "spool": {
                "kept": spool.end,
                "landed": of.retention.landed,
                "waiting": spool.end - max(of.retention.landed, spool.begin),
                "bytes": spool.bytes,
                "dropped": spool.dropped,
                "gaps": len(spool.gaps),
                "set_aside": set_aside(of.folders.spool).to_dict(),
            },
            "porter": {"running": of.porter.running, "starts": counters.porter_starts},
            "scoring_late": of.answering.late,
            "fleets": {name: {**fleet.told(), **of.machines.told(name)} for name, fleet in of.fleets.items()},
            "senders": of.machines.senders_told(),
            "sources": {name: dict(source.health()) for name, source in of.sources.items()},
            "kept_p99_s": counters.kept_after.quantile(0.99),
            "answered_p99_s": counters.answered_after.quantile(0.99),
        }

    def metrics(self) -> bytes:
        """In Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(Collector(self._gateway.counters, self._gauges))
        return generate_latest(registry)

    def _gauges(self) -> Mapping[str, tuple[float, str]]:
        of = self._gateway
        return {
            "pending": (of.intake.pending, "Messages that wait for the disk."),
            "spool_bytes": (of.spool.bytes, "What the spool holds on the disk."),
            "spool_waiting": (of.spool.end - of.retention.landed, "Records that have not landed."),
            "scoring_late": (of.answering.late, "Whether a model has not answered within its deadline."),
        }


def _by_fate(counters: Counters) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (fate, _), number in counters.fates.items():
        found[fate] += number
    return dict(found)


def _by_server(counters: Counters) -> dict[str, int]:
    return {f"{who} ({why})" if why else who: n for (who, why), n in sorted(counters.served.items())}
