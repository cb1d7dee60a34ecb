"""What the gateway has counted since it started, and how Prometheus reads it."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import Metric

SOURCES = 10_000
"""Counted by name: senders choose names, and each is kept, and told, until the gateway ends."""
LONGEST_SOURCE = 256
"""Characters; about 2.5 MB of names."""
OTHERS = "other"
BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)


@dataclass(slots=True)
class Histogram:
    """How long things took, in `BOUNDS_S` and beyond."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        self.counts[bisect.bisect_left(BOUNDS_S, seconds)] += times
        self.sum_s += seconds * times

    def quantile(self, share: float) -> float | None:
        """The bound below which that share of all lies; None where there is nothing, infinite beyond the last."""
        total, below = sum(self.counts), 0
        for count, bound in zip(self.counts, (*BOUNDS_S, float("inf")), strict=True):
            below += count
            if total and below >= share * total:
                return bound
        return None


class Fates(Counter[tuple[str, str]]):
    """By fate and source; of sources beyond the first `SOURCES`, or with longer names, under `OTHERS`."""

    def __init__(self) -> None:
        super().__init__()
        self._sources: set[str] = set()

    def __setitem__(self, key: tuple[str, str], number: int) -> None:
        fate, source = key
        if source != OTHERS and source not in self._sources:
            if len(self._sources) >= SOURCES or len(source) > LONGEST_SOURCE:
                key = fate, OTHERS
                number += self[key]  # what is not counted by name was 0 so far
            else:
                self._sources.add(source)
        super().__setitem__(key, number)


@dataclass(slots=True)
class Counters:
    """Plain numbers: the hot path adds one to them, and whoever asks makes the metrics.

    Attributes:
        fates: by fate and source, of what was settled.
        reasons: by fate and reason, of what was not simply kept.
        flags: by reason, of readings that were kept and flagged.
        served: by `served_by` and reason of a fallback, of advisories.
    """

    fates: Fates = field(default_factory=Fates)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    published: int = 0
    landed: int = 0
    swaps: int = 0
    porter_starts: int = 0
    kept_after: Histogram = field(default_factory=Histogram)
    answered_after: Histogram = field(default_factory=Histogram)


class Collector:
    """The counters, and what is measured when they are asked for, as Prometheus metrics.

    Args:
        gauges: name → value and what it is; names are without the prefix.
    """

    def __init__(self, counters: Counters, gauges: Callable[[], Mapping[str, tuple[float, str]]]) -> None:
        self._counters, self._gauges = counters, gauges

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        c = self._counters
        labelled: tuple[tuple[str, str, tuple[str, ...], Mapping[Any, int]], ...] = (
            ("messages", "Messages by what became of them.", ("fate", "source"), c.fates),
            ("reasons", "Messages that were not simply kept, by why.", ("fate", "reason"), c.reasons),
            ("flags", "Readings that were kept and flagged, by why.", ("reason",), c.flags),
            (
                "advisories",
                "Advisories by who served them, and why nobody better did.",
                ("served_by", "reason"),
                c.served,
            ),
        )
        for name, text, labels, values in labelled:
            family = CounterMetricFamily(f"hybrid_gateway_{name}", text, labels=labels)
            for key, value in sorted(values.items()):
                family.add_metric((key,) if isinstance(key, str) else key, value)
            yield family
        for name, text, value in (
            ("published", "Advisories handed to those who listen.", c.published),
            ("landed", "Readings that became part of the landing tables.", c.landed),
            ("release_swaps", "Releases that took over from another.", c.swaps),
            ("porter_starts", "Starts of the process that lands.", c.porter_starts),
        ):
            yield CounterMetricFamily(f"hybrid_gateway_{name}", text, value=value)
        yield _family("kept_seconds", "From a message's arrival to the disk's confirmation.", c.kept_after)
        yield _family(
            "answer_seconds", "From a reading's arrival to its advisory, which waits for the disk.", c.answered_after
        )
        for name, (now, text) in self._gauges().items():
            yield GaugeMetricFamily(f"hybrid_gateway_{name}", text, value=now)


def _family(name: str, text: str, histogram: Histogram) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    below, buckets = 0, []
    for count, bound in zip(histogram.counts, (*map(str, BOUNDS_S), "+Inf"), strict=True):
        below += count
        buckets.append((bound, below))
    return HistogramMetricFamily(f"hybrid_gateway_{name}", text, buckets=buckets, sum_value=histogram.sum_s)
