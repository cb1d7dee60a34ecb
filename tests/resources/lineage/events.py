"""Events and a history to relay, as tests and benchmarks use them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from resources.lineage.relay import Changed, Read

NAMESPACE = "hybrid-assets"
_RUNS = uuid.UUID("3f8d1df5-1df3-49a4-9a35-6fb1ba4b2f3e")


def run_id(name: str) -> str:
    return str(uuid.uuid5(_RUNS, name))


def event(run: str, kind: str, second: int = 0, **facets: Any) -> dict[str, Any]:
    """A run event by the standard, as small as it may be."""
    return {
        "eventType": kind,
        "eventTime": f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000000Z",
        "producer": "urn:test",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": run_id(run), "facets": facets},
        "job": {"namespace": NAMESPACE, "name": f"job-{run.partition('-')[0]}"},
        "inputs": [],
        "outputs": [],
    }


def pair(run: str, second: int = 0) -> list[dict[str, Any]]:
    return [event(run, "START", second), event(run, "COMPLETE", second + 1)]


@dataclass
class FakeHistory:
    """Runs as they would be recorded: each with its events so far and its last update."""

    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    states: dict[str, Changed] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    reported: list[dict[str, Any]] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    id: str = "fake"

    def record(self, run: str, events: Sequence[dict[str, Any]], *, updated: float, ended: float | None = None) -> None:
        self.runs[run] = list(events)
        self.states[run] = Changed(run, updated, ended)

    def changed(self, since: float | None) -> list[Changed]:
        found = [c for c in self.states.values() if since is None or c.updated > since]
        return sorted(found, key=lambda c: c.updated)

    def state_of(self, run_ids: Sequence[str]) -> list[Changed]:
        return [self.states[r] for r in run_ids if r in self.states]

    def read(self, run_id: str, cursor: str | None) -> Read | None:
        self.reads.append(run_id)
        if run_id in self.unreadable:
            raise ValueError(f"{run_id} makes no sense")
        events = self.runs[run_id]
        return None if cursor == str(len(events)) else Read(events, str(len(events)))

    def runless(self, cursor: str | None) -> Read | None:
        start = int(cursor or 0)
        return Read(self.reported[start:], str(len(self.reported))) if len(self.reported) > start else None
