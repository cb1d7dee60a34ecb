"""What placed work has cost, what it would have cost elsewhere, and what outages degraded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backbone.requirements import LocationKind


@dataclass(frozen=True, slots=True)
class Done:
    """One try, as the ledger has it.

    Attributes:
        succeeded: it brought a result; one that did not has its cost all the same.
        placement: as `backbone.placement.Placement.to_dict` wrote it.
    """

    workload: str
    location: str
    succeeded: bool
    seconds: float
    moved_gb: float
    cost: float
    placement: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Spent:
    """What one workload took at one location."""

    workload: str
    location: str
    tries: int
    failed: int
    seconds: float
    moved_gb: float
    cost: float


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What the same work would have cost at one kind of location only.

    Attributes:
        cost: expected, with the prices and estimates at the time; each piece of work at the cheapest target there that
            policy allows, if it allows any. What failed there is in it as it was: it would have been tried there too.
        forbidden: pieces of work that policy would not have let there.
        impossible: those for which there was no target of that kind at all; they are not in the cost.
    """

    kind: LocationKind
    cost: float
    forbidden: int
    impossible: int


@dataclass(frozen=True, slots=True)
class Outage:
    """Time in which some window stood answered second best, and what that hour by hour amounted to."""

    hours: float
    windows: int
    advisories: int

    @property
    def windows_per_hour(self) -> float | None:
        return self.windows / self.hours if self.hours else None

    @property
    def advisories_per_hour(self) -> float | None:
        return self.advisories / self.hours if self.hours else None


def spent(done: Iterable[Done]) -> list[Spent]:
    """Tries by workload and location, in that order."""
    groups: dict[tuple[str, str], list[Done]] = {}
    for one in done:
        groups.setdefault((one.workload, one.location), []).append(one)
    return [
        Spent(
            workload,
            location,
            tries=len(group),
            failed=sum(not one.succeeded for one in group),
            seconds=sum(one.seconds for one in group),
            moved_gb=sum(one.moved_gb for one in group),
            cost=sum(one.cost for one in group),
        )
        for (workload, location), group in sorted(groups.items())
    ]


def elsewhere(done: Iterable[Done], kind: LocationKind, locations: Mapping[str, LocationKind]) -> Elsewhere:
    """Price every piece of work that succeeded as if it had run at the cheapest target of one kind of location.

    Whether it would have failed there first nobody knows, unless it did: such a try keeps its cost. One that failed
    elsewhere would not have been made.
    """
    cost, forbidden, impossible = 0.0, 0, 0
    for one in done:
        if not one.succeeded:
            cost += one.cost if locations.get(one.location) == kind else 0.0
            continue
        candidates = [
            c
            for c in one.placement["candidates"]
            if c["alternative"] == one.placement["alternative"] and locations.get(c["location"]) == kind
        ]
        if not candidates:
            impossible += 1
            continue
        allowed = [c for c in candidates if not any(r["stage"] == "policy" for r in c["rejected"])]
        cheapest = min(allowed or candidates, key=lambda c: c["expected_cost"])
        cost += one.cost if cheapest["target"] == one.placement["target"] else cheapest["expected_cost"]
        forbidden += not allowed
    return Elsewhere(kind, cost, forbidden, impossible)


def outage(degraded: Sequence[tuple[str, int, datetime, datetime]]) -> Outage:
    """Sum up degradations.

    Args:
        degraded: (window, advisories, from, to) of each time a window stood degraded.
    """
    seconds, until = 0.0, None
    for _, _, began, ended in sorted(degraded, key=lambda d: d[2]):
        since = began if until is None else max(began, until)
        if ended > since:
            seconds += (ended - since).total_seconds()
        until = ended if until is None else max(until, ended)
    most: dict[str, int] = {}
    for window, machines, _, _ in degraded:
        most[window] = max(machines, most.get(window, 0))
    return Outage(seconds / 3600, len(most), sum(most.values()))
