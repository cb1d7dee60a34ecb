"""Choosing among 100 targets by 20 predicates each, against the limit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from backbone.placement import BlockedTarget, Candidate, Estimate, Placement, Predicate, Situation, place
from backbone.requirements import Alternative, Requirements
from benchmarks.measure import Benchmark, line

TARGETS, PREDICATES = 100, 20
OWN = 11
"""targets, kinds, residency, classification, gpus, memory; blocked, breaker, full; deadline, max_cost."""
CALLS = 400
LIMIT_S = 1e-3
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEEDS = Requirements(
    deadline_s=60,
    classification="internal",
    residency=("DE", "FR", "IE"),
    kinds=("edge", "on_prem", "cloud"),
    targets=tuple(f"target-{n}" for n in range(TARGETS)),
    gpus=1,
    memory_gb=8,
    max_cost=10,
    expected_s=1,
    hour_value=1,
)


def _candidates() -> list[Candidate]:
    """None is ruled out by policy, so that every predicate is asked about every one."""
    return [
        Candidate(
            target=f"target-{n}",
            kind="subprocess",
            location=f"location-{n % 10}",
            location_kind=("edge", "on_prem", "cloud")[n % 3],  # type: ignore[arg-type]
            jurisdiction=("DE", "FR", "IE")[n % 3],
            price_per_hour=1 + n % 7,
            price_per_gb=0.1,
            latency_s=0.01 * n,
            capacity=4,
            gpus=2,
            memory_gb=32,
        )
        for n in range(TARGETS)
    ]


def _policies() -> list[tuple[str, Predicate]]:
    def rule(n: int) -> Predicate:
        forbidden = frozenset({f"location-{n + 100}", f"location-{n + 200}"})
        return lambda c: f"rule {n} forbids {c.location}" if c.location in forbidden else None

    return [(f"rule-{n}", rule(n)) for n in range(PREDICATES - OWN)]


def _situation(*, trouble: bool) -> Situation:
    blocked = [BlockedTarget(NOW + timedelta(minutes=1), "it died", target=f"target-{n}") for n in range(0, 100, 10)]
    return Situation(
        blocked=blocked if trouble else (),
        broken={f"target-{n}": "its breaker is open" for n in range(1, 100, 10)} if trouble else {},
        running={f"location-{n}": 4 if trouble and n == 2 else 1 for n in range(10)},
        estimates={("work", f"target-{n}"): Estimate(1 + n / 100, 2 + n / 100, 20) for n in range(TARGETS)},
        data_gb={"location-1": 0.5, "location-2": 0.1},
    )


def _median(work: Callable[[], Placement]) -> float:
    """Of single calls: each is shorter than what a busy machine gives to others in one go."""
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _rows() -> Iterator[str]:
    candidates, policies, alternatives = _candidates(), _policies(), [Alternative("work", NEEDS)]
    for what, situation in (("all is well", _situation(trouble=False)), ("30 kept off", _situation(trouble=True))):
        took = _median(lambda s=situation: place("work", alternatives, candidates, s, now=NOW, policies=policies))  # type: ignore[misc]
        yield line(f"placement, {TARGETS} targets × {PREDICATES} predicates, {what} / 1 ms", took, LIMIT_S, "≤ 1×")


SPEC = Benchmark("placement", _rows)
