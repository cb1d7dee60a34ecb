"""Time two things in turn and compare their medians, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark module's `SPEC`; `rows` gives lines of the Markdown table."""

    name: str
    rows: Callable[[], Iterator[str]]


def interleaved(ours: Callable[[], object], peer: Callable[[], object], *, rounds: int = ROUNDS) -> tuple[float, float]:
    """Median seconds of each, after one unmeasured round."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for work, kept in zip((ours, peer), times, strict=True):
            started = time.perf_counter()
            work()
            kept.append(time.perf_counter() - started)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def line(what: str, ours_s: float, peer_s: float, limit: str) -> str:
    """A row of the table, times in milliseconds."""
    return f"| {what} | {ours_s * 1e3:.1f} ms | {peer_s * 1e3:.1f} ms | {ours_s / peer_s:.2f}× | {limit} |"
