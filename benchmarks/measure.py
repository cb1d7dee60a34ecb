"""Time two things in turn and compare them pair by pair, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import resource
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


@dataclass(frozen=True, slots=True)
class Paired:
    """Two things' times, taken in pairs.

    Attributes:
        ours_s, peer_s: median seconds of each.
        ratio: median of the pairs' own ratios: what slows the machine for longer than a pair takes is not in it.
    """

    ours_s: float
    peer_s: float
    ratio: float


def paired(ours: Callable[[], object], peer: Callable[[], object], *, rounds: int = ROUNDS) -> tuple[Paired, Paired]:
    """By the clock on the wall, and by the processor time of this thread and of processes that it started and that have
    ended, after one unmeasured pair.

    Every other pair begins with the peer, so that each as often finds the caches as the other left them.
    """
    walls: tuple[list[float], list[float]] = ([], [])
    processors: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            work = (ours, peer)[which]
            wall, processor = time.perf_counter(), _processor_s()
            work()
            processors[which].append(_processor_s() - processor)
            walls[which].append(time.perf_counter() - wall)
    return _paired(*walls), _paired(*processors)


def _processor_s() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.thread_time() + ended.ru_utime + ended.ru_stime


def _paired(ours: list[float], peer: list[float]) -> Paired:
    ratios = [a / b for a, b in zip(ours[1:], peer[1:], strict=True)]
    return Paired(statistics.median(ours[1:]), statistics.median(peer[1:]), statistics.median(ratios))


def interleaved(ours: Callable[[], object], peer: Callable[[], object], *, rounds: int = ROUNDS) -> tuple[float, float]:
    """Median seconds of each, in turn, after one unmeasured round."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for work, kept in zip((ours, peer), times, strict=True):
            started = time.perf_counter()
            work()
            kept.append(time.perf_counter() - started)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def line(what: str, ours_s: float, peer_s: float, limit: str, *, ratio: float | None = None) -> str:
    """A row of the table, times in milliseconds; `ratio` where it is not that of the two times."""
    share = ours_s / peer_s if ratio is None else ratio
    return f"| {what} | {ours_s * 1e3:.1f} ms | {peer_s * 1e3:.1f} ms | {share:.2f}× | {limit} |"
