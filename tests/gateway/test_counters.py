"""What the gateway counts, as Prometheus reads it."""

from __future__ import annotations

from gateway.counters import LONGEST_SOURCE, OTHERS, SOURCES, Collector, Counters
from gateway.ports import Fate


def told(counters: Counters) -> dict[tuple[str, str], float]:
    """By fate and source."""
    (messages,) = [family for family in Collector(counters, dict).collect() if family.name == "hybrid_gateway_messages"]
    return {(sample.labels["fate"], sample.labels["source"]): sample.value for sample in messages.samples}


def test_sources_beyond_those_that_are_counted_by_name_are_counted_together() -> None:
    counters = Counters()
    for number in range(SOURCES + 5):
        counters.fates[Fate.KEPT, f"P-{number}"] += 2
    for source in ("P-0", f"P-{SOURCES}", OTHERS):
        counters.fates[Fate.KEPT, source] += 1
        counters.fates[Fate.DUPLICATE, source] += 1
    found = told(counters)
    assert len({source for _, source in found}) == SOURCES + 1
    assert (found[Fate.KEPT, "P-0"], found[Fate.DUPLICATE, "P-0"]) == (3, 1)
    assert (found[Fate.KEPT, OTHERS], found[Fate.DUPLICATE, OTHERS]) == (12, 2)


def test_a_source_with_a_longer_name_than_is_kept_is_one_of_the_others() -> None:
    counters = Counters()
    for length in (LONGEST_SOURCE, LONGEST_SOURCE + 1, LONGEST_SOURCE + 2):
        counters.fates[Fate.KEPT, "P" * length] += 1
    assert told(counters) == {(Fate.KEPT, "P" * LONGEST_SOURCE): 1, (Fate.KEPT, OTHERS): 2}
