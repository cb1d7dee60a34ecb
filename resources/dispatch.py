"""Decides where a site's work runs, and keeps what came of it: the ledger, the blocks and the breakers in one hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from backbone import plugins
from backbone.breaker import BreakerSettings, Refusal
from backbone.clock import Clock
from backbone.conduit import Crossing
from backbone.errors import TargetFailed, UnknownName
from backbone.placement import Estimate, Placement, Situation, estimate, expected_cost, place
from backbone.requirements import Alternative
from backbone.settings import settings_from
from backbone.sites import Site
from backbone.targets import TargetSpec
from resources import targets
from resources.state.breakers import Breakers, Permit, SharedBreaker
from resources.state.works import Blocks, Works

GB = 1e9


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a placed piece of work, from its permit to its end."""

    placement: Placement
    work: int
    permit: Permit
    began_s: float
    limit_s: float


class Dispatcher:
    """Places the work of one site."""

    def __init__(self, site: Site, works: Works, blocks: Blocks, breakers: Breakers, clock: Clock) -> None:
        self.site, self.works, self.blocks, self._breakers, self._clock = site, works, blocks, breakers, clock
        self._of_targets: dict[str, SharedBreaker] = {}

    def breaker(self, target: str) -> SharedBreaker:
        """The circuit breaker of a target."""
        if target not in self._of_targets:
            config = self.site.target(target)
            where = f"target {target} at site {self.site.name}, breaker"
            settings = settings_from(BreakerSettings, config.breaker, where=where)
            self._of_targets[target] = self._breakers.breaker(f"target/{self.site.name}/{target}", settings)
        return self._of_targets[target]

    def place(
        self, workload: str, data_gb: Mapping[str, float] | None = None, *, alternative: str | None = None
    ) -> Placement:
        """Choose a target as things stand now.

        Args:
            alternative: the only one of the workload's alternatives that will do; None: any.

        Raises:
            UnknownName: there is no such workload.
        """
        if workload not in self.site.workloads:
            raise UnknownName(f"workload at site {self.site.name}", workload, self.site.workloads)
        now, alternatives = self._clock.now(), self.site.workloads[workload]
        if alternative is not None:
            alternatives = tuple(a for a in alternatives if a.name == alternative)
        candidates = self.site.candidates()
        self._breakers.look()  # one query for all of them
        situation = Situation(
            blocked=self.blocks.active(now),
            broken={c.target: why for c in candidates if (why := self._broken(c.target)) is not None},
            running=self.works.running(now),
            estimates=self._estimates(workload, alternatives),
            data_gb=data_gb or {},
            price_per_gb={location.name: location.price_per_gb for location in self.site.locations},
        )
        return place(workload, alternatives, candidates, situation, now=now)

    def _estimates(self, workload: str, alternatives: Sequence[Alternative]) -> dict[tuple[str, str], Estimate]:
        """How long the work takes at each target: what its runs told, else what the runs elsewhere lead to expect."""
        told = self.works.seconds(workload)
        found = {}
        for alternative in alternatives:
            mine = {target: seconds for (name, target), seconds in told.items() if name == alternative.name}
            quickest = min((median(seconds) for seconds in mine.values()), default=0.0)
            thought_s = max(alternative.requirements.expected_s, quickest)
            for target in self.site.targets:
                spec: TargetSpec = plugins.load(targets, target.kind)
                found[alternative.name, target.name] = estimate(mine.get(target.name, []), thought_s + spec.start_s)
        return found

    def start(self, fleet: str, placement: Placement, *, run_id: str, limit_s: float) -> Try:
        """Take the target's permit and a place at its location.

        Raises:
            TargetFailed: somebody else was quicker.
        """
        assert placement.chosen is not None
        candidate = placement.chosen.candidate
        permit = self.breaker(candidate.target).ask()
        if isinstance(permit, Refusal):
            raise TargetFailed(
                f"The circuit breaker of {candidate.target} let nobody through by then.", next_step="Place it again."
            )
        until = placement.at + timedelta(seconds=limit_s)
        try:
            work = self.works.begin(fleet, placement, run_id=run_id, until=until, capacity=candidate.capacity)
        except BaseException:
            permit.released()
            raise
        if work is None:
            permit.released()
            raise TargetFailed(f"{candidate.location} was full by then.", next_step="Place it again.")
        return Try(placement, work, permit, self._clock.monotonic(), limit_s)

    def succeeded(self, attempt: Try, crossings: Sequence[Crossing]) -> float:
        """Note a success and what it cost, with what was moved there for it; returns the cost."""
        assert attempt.placement.chosen is not None
        candidate = attempt.placement.chosen.candidate
        seconds = self._clock.monotonic() - attempt.began_s
        moved_gb, leaving = self._moved(crossings)
        cost = expected_cost(candidate, seconds, moved_gb) + leaving
        attempt.permit.succeeded(seconds)
        self.blocks.succeeded(candidate.target, candidate.location)
        self.works.end(attempt.work, "succeeded", seconds=seconds, moved_gb=moved_gb, cost=cost)
        return cost

    def failed(self, attempt: Try, why: str, crossings: Sequence[Crossing], *, targets_fault: bool) -> None:
        """Note a failure; the target is blocked where it was its fault."""
        assert attempt.placement.chosen is not None
        candidate = attempt.placement.chosen.candidate
        seconds = self._clock.monotonic() - attempt.began_s
        if targets_fault:
            attempt.permit.failed(why, seconds)
            self.blocks.failed(candidate.target, why, self._clock.now())
        else:
            attempt.permit.released()
        moved_gb, leaving = self._moved(crossings)
        cost = expected_cost(candidate, seconds, moved_gb) + leaving
        self.works.end(attempt.work, "failed", seconds=seconds, moved_gb=moved_gb, cost=cost, why=why)

    def unreachable(self, attempt: Try, why: str) -> None:
        """Note that a failed try's target was out of reach; where that is so of two of a location, all of it is."""
        assert attempt.placement.chosen is not None
        candidate = attempt.placement.chosen.candidate
        self.blocks.unreachable(candidate.target, candidate.location, why, self._clock.now())

    def _moved(self, crossings: Sequence[Crossing]) -> tuple[float, float]:
        """Gigabytes that were moved, and what it cost to take them away from where they lay."""
        leaving = sum(c.size_bytes / GB * self.site.location(c.source.location).price_per_gb for c in crossings)
        return sum(c.size_bytes for c in crossings) / GB, leaving

    def _broken(self, target: str) -> str | None:
        breaker = self.breaker(target)
        if breaker.allows():
            return None
        return "its circuit breaker lets no call through"


def most_tries(site: Site, workload: str) -> int:
    """How often a workload is tried at most, over all targets."""
    return max(a.requirements.attempts for a in site.workloads[workload])


def latest_s(site: Site, workload: str) -> float | None:
    """The longest deadline of a workload's alternatives; None: it has none."""
    deadlines = [a.requirements.deadline_s for a in site.workloads[workload]]
    return None if None in deadlines else max(d for d in deadlines if d is not None)


def alternatives_of(site: Site) -> dict[str, str]:
    """Every name that work is placed under at a site, of a workload or of an alternative → the workload it is of."""
    names = {a.name: workload for workload, alternatives in site.workloads.items() for a in alternatives}
    return names | {workload: workload for workload in site.workloads}
