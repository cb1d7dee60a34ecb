"""The relay against 2,000 events a second: from the outbox to the file, and from recorded runs all the way.

Translating Dagster's records is in neither: `benchmarks/lineage_cost.py` has that. By the clock on the wall and by the
processor time of the process, which holds on a busy machine too.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import Benchmark, line
from resources.clock import SystemClock
from resources.lineage.index import LineageIndex
from resources.lineage.relay import Changed, Read, Relay
from resources.lineage.transports import Destination, NdjsonFile
from resources.state.database import Database
from resources.state.outbox import Outbox

ROUNDS = 5
DAYS = 100
LEAST_PER_S = 2000


class _History:
    """A plant's runs, all of them new."""

    id = "benchmark"

    def __init__(self, runs: Sequence[tuple[str, list[dict[str, Any]]]]) -> None:
        self._runs = dict(runs)
        self._states = [Changed(run, float(n), 0.0) for n, run in enumerate(self._runs)]

    def changed(self, since: float | None) -> Sequence[Changed]:
        return [c for c in self._states if since is None or c.updated > since]

    def state_of(self, run_ids: Sequence[str]) -> Sequence[Changed]:
        return [c for c in self._states if c.run_id in set(run_ids)]

    def read(self, run_id: str, cursor: str | None) -> Read | None:
        events = self._runs[run_id]
        return None if cursor is not None else Read(events, str(len(events)))

    def runless(self, cursor: str | None) -> Read | None:  # noqa: ARG002 - the port's
        return None


def _story() -> list[tuple[str, list[dict[str, Any]]]]:
    from tests.resources.lineage.plants import ToldPlant, by_run

    plant = ToldPlant("north", machines=[f"P-{n}" for n in range(24)], columns=60)
    plant.ingest(*range(DAYS))
    plant.score(*range(DAYS))
    for n in range(DAYS):
        plant.check("telemetry", n)
        plant.score(n)
    return list(by_run(plant.events))


def _rows() -> Iterator[str]:
    from backbone.lineage.events import canonical

    story = _story()
    count = sum(len(events) for _, events in story)
    size = statistics.mean(len(canonical(e)) for _, events in story for e in events)
    taken: dict[str, list[tuple[float, float]]] = {"kept, indexed and on file": [], "from the outbox to the file": []}
    for _ in range(ROUNDS + 1):
        for (_, times), kept in zip(taken.items(), (False, True), strict=True):
            times.append(_once(story, count, kept=kept))
    limit = count / LEAST_PER_S
    for what, times in taken.items():
        for clock, values in zip(("wall", "processor"), zip(*times[1:], strict=True), strict=True):
            took = statistics.median(values)
            rate = f"{count / took:,.0f} a second"
            yield line(
                f"relay, {count:,} events of {size / 1e3:.1f} kB {what}, {clock} time ({rate}) / {LEAST_PER_S:,}",
                took,
                limit,
                "≤ 1×",
            )


def _once(story: Sequence[tuple[str, list[dict[str, Any]]]], count: int, *, kept: bool) -> tuple[float, float]:
    """Seconds on the wall and of the processor, in an installation of its own.

    Args:
        kept: the events are in the outbox already; only their delivery counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/state.db")
        outbox, file = Outbox(database, LineageIndex(database)), NdjsonFile(Path(folder) / "events.ndjson")
        history = _History([] if kept else story)
        outbox.standing()  # tables are made once in an installation's life
        if kept:
            for run, events in story:
                outbox.add(run, events, now=datetime.now(UTC))
        relay = Relay(outbox, history, Destination(file), SystemClock())
        wall, processor = time.perf_counter(), time.process_time()
        done = relay.relay(600.0)
        took = time.perf_counter() - wall, time.process_time() - processor
        assert done.delivered == count == file.path.read_bytes().count(b"\n"), done
        database.engine.dispose()
    return took


SPEC = Benchmark("relay", _rows)
