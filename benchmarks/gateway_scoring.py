"""What an answer takes of the processor: features, breaker, model, advisory as JSON, of one reading and of many.

In this process, with 1,000 machines of 20 sensors; the peer is the model alone, asked about the same rows.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._released_fans import FLEET, LEVEL, MACHINES, NAMES, SPREAD, released_fans
from benchmarks.measure import Benchmark, paired
from gateway.decoding import Reading
from gateway.exchange import folders_of
from gateway.fleets import open_fleet
from gateway.settings import settings_of

READINGS, LIMIT_US = 2_000, 35.0


def _rows() -> Iterator[str]:
    drawn = random.Random(7)  # noqa: S311 - values for a benchmark
    number = 0
    first_us = time.time_ns() // 1000 - 3_600_000_000

    def readings(count: int) -> list[Reading]:
        nonlocal number
        found = []
        for _ in range(count):
            name, ts_us = f"F-{number % MACHINES:04d}", first_us + number * 1000
            values = [drawn.gauss(LEVEL, SPREAD) for _ in NAMES]
            found.append(Reading(name, name, "s", number, ts_us, values, (), ts_us, None, b""))
            number += 1
        return found

    with tempfile.TemporaryDirectory() as name:
        plant = released_fans(Path(name), "mqtt://127.0.0.1:1883")
        settings = settings_of(plant)
        fleet = open_fleet(plant, settings, folders_of(plant, settings), FLEET)
        fleet.recover()
        fleet.serve_at_once()
        scoring = fleet.scoring
        assert scoring.releases.newest is not None
        scorer = scoring.releases.newest.scorer
        for at_once in (1, 100):
            asked = scoring.take(readings(at_once))
            assert asked is not None
            rows = scorer.select(asked.features)
            fresh = iter([readings(at_once) for _ in range(READINGS // at_once * 10)])

            def ours(batches: Iterator[list[Reading]] = fresh, times: int = READINGS // at_once) -> None:
                for _ in range(times):
                    asked = scoring.take(next(batches))
                    assert asked is not None
                    scoring.answer(asked)

            def model(rows: object = rows, times: int = READINGS // at_once) -> None:
                for _ in range(times):
                    scorer.predict(rows)  # type: ignore[arg-type]

            _, cpu = paired(ours, model)
            ours_us, model_us = cpu.ours_s / READINGS * 1e6, cpu.peer_s / READINGS * 1e6
            limit = "≤ 1×" if at_once > 1 else "told"
            what = f"processor time of an answer, {at_once} at a time (the model alone: {model_us:.1f} µs)"
            yield f"| {what} | {ours_us:.1f} µs | {LIMIT_US:.0f} µs | {ours_us / LIMIT_US:.2f}× | {limit} |"


SPEC = Benchmark("gateway_scoring", _rows)
