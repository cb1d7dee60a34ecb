"""A trace, and an impact, over an index of a hundred thousand events, against 200 ms; each asked for the first time."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from benchmarks.measure import Benchmark, line
from resources.lineage.impact import impact
from resources.lineage.index import LineageIndex
from resources.lineage.trace import lines, trace
from resources.state.database import Database
from resources.state.outbox import Outbox

SITES, DAYS, MACHINES = 12, 365, 24
EVENTS = 100_000
LIMIT_S = 0.2
ROUNDS = 7


def _fill(database: Database) -> int:
    """Ten plants for a year, each window served twice, checked, and trained on every quarter."""
    from tests.resources.lineage.plants import ToldPlant, by_run

    outbox, count = Outbox(database, LineageIndex(database)), 0
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for site in range(SITES):
        plant = ToldPlant(f"site-{site}", machines=[f"P-{n}" for n in range(MACHINES)])
        for n in range(DAYS):
            plant.ingest(n)
            plant.score(n)
            plant.check("telemetry", n, passed=n % 50 != 0)
            plant.score(n)
            if n % 90 == 89:
                plant.train()
        events = [e for _, run in by_run(plant.events) for e in run]
        for start in range(0, len(events), 2000):
            outbox.add(f"site-{site}", events[start : start + 2000], now=now)
        count += len(events)
    return count


def _median(work: Callable[[int], object]) -> float:
    times = []
    for number in range(ROUNDS + 1):
        started = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _rows() -> Iterator[str]:
    from tests.resources.lineage.plants import day

    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'state.db'}")
        count = _fill(database)
        assert count >= EVENTS, count
        steps = 0

        def one_trace(number: int) -> None:
            nonlocal steps
            found = trace(LineageIndex(database), f"site-{number % SITES}/pump/P-{number}/{day(DAYS - 1 - number)}")
            assert lines(found)
            steps = len(found.made)

        took = _median(one_trace)
        yield line(f"hybrid trace, {count:,} events ({steps} steps in it) / 200 ms", took, LIMIT_S, "≤ 1×")

        def one_impact(number: int) -> None:
            first, last = (date.fromisoformat(day(n)) for n in (DAYS - 30, DAYS - 24))
            site = f"site-{number % SITES}"
            found = impact(LineageIndex(database), f"P-{number}", "vibration", first, last, site)
            assert found.advisories

        took = _median(one_impact)
        yield line(f"hybrid impact of a week, {count:,} events / 200 ms", took, LIMIT_S, "≤ 1×")
        database.engine.dispose()


SPEC = Benchmark("trace", _rows)
