"""The relay from recorded runs to the file, against 2,000 events a second; its processor time by the event.

The events are as large as a plant's, with schema and column lineage. Translating them from Dagster's records is not in
it: `benchmarks/lineage_cost.py` has that.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
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
DAYS = 60
LEAST_PER_S = 2000


class _History:
    """A plant's runs, all of them new."""

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
    walls, processor = [], []
    for number in itertools.count():
        with tempfile.TemporaryDirectory() as folder:
            database = Database(f"sqlite:///{folder}/state.db")
            outbox = Outbox(database, LineageIndex(database))
            file = NdjsonFile(Path(folder) / "events.ndjson")
            relay = Relay(outbox, _History(story), Destination(file), SystemClock())
            wall, own = time.perf_counter(), time.process_time()
            done = relay.relay(600.0)
            walls.append(time.perf_counter() - wall)
            processor.append(time.process_time() - own)
            assert done.delivered == count == file.path.read_bytes().count(b"\n"), done
            database.engine.dispose()
        if number == ROUNDS:
            break
    took, own_time = statistics.median(walls[1:]), statistics.median(processor[1:])
    what = f"relay, {count:,} events of {size / 1e3:.1f} kB kept, indexed and on file"
    rate = f"({count / took:,.0f} a second, {own_time / count * 1e3:.2f} ms of processor time each)"
    yield line(f"{what} {rate} / {LEAST_PER_S:,} a second", took, count / LEAST_PER_S, "≤ 1×")


SPEC = Benchmark("relay", _rows)
