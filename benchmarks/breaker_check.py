"""The breaker's check on the healthy path against its limit, 100,000 calls on a SQLite state database."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from backbone.breaker import Refusal
from benchmarks.measure import ROUNDS, Benchmark, line
from resources.clock import SystemClock
from resources.state.breakers import Breakers
from resources.state.database import Database

CALLS = 100_000
LIMIT_S = 2e-6


def _median(work: Callable[[], None]) -> float:
    """Median seconds of a round, after one unmeasured; the looks at the database that fall due are in it."""
    times = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _rows() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        breakers = Breakers(Database(f"sqlite:///{Path(folder) / 'state.db'}"), SystemClock())
        breaker = breakers.breaker("benchmark")

        def ask() -> None:
            for _ in range(CALLS):
                breaker.ask()

        def ask_and_succeed() -> None:
            for _ in range(CALLS):
                permit = breaker.ask()
                assert not isinstance(permit, Refusal)
                permit.succeeded(0.001)

        limit = CALLS * LIMIT_S
        for what, work in (("asked", ask), ("asked and succeeded", ask_and_succeed)):
            took = _median(work)
            each = f"{took / CALLS * 1e6:.2f} µs each"
            yield line(f"healthy breaker {what}, {CALLS:,} times ({each}) / 2 µs each", took, limit, "≤ 1×")
        breakers.flush()


SPEC = Benchmark("breaker_check", _rows)
