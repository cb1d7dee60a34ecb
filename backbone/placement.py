"""Placement: where work runs, and why nowhere else.

Candidates are dropped by policy, then by the state they are in, then by what they would take; those that are left are
ranked by expected cost, in which waiting has its price. The loop around it (drop, choose, try, on failure block and
choose again) is SkyPilot's (Yang et al., NSDI 2023); deadlines, residency and the table of rejections are ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from statistics import median
from typing import Any, Literal, NamedTuple

from backbone.errors import TargetFailed
from backbone.requirements import CLASSIFICATIONS, Alternative, Classification, LocationKind, Requirements

Stage = Literal["policy", "state", "fit"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A compute target at its location.

    Attributes:
        clearance: the highest classification of data that may be there.
        price_per_hour, price_per_gb: of computing, and of moving data there and back, in the site's currency.
        latency_s: from the plant to there and back.
        capacity: pieces of work its location takes at a time; None: any number.
    """

    target: str
    kind: str
    location: str
    location_kind: LocationKind
    jurisdiction: str
    clearance: Classification = "confidential"
    price_per_hour: float = 0.0
    price_per_gb: float = 0.0
    latency_s: float = 0.0
    capacity: int | None = None
    gpus: int = 0
    memory_gb: float | None = None
    timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class BlockedTarget:
    """What is not to be used `until` then; a field that is None is a wildcard.

    Attributes:
        workload: its name, or that of one of its alternatives.
        announced: somebody said so; otherwise it just failed.
    """

    until: datetime
    why: str
    target: str | None = None
    location: str | None = None
    workload: str | None = None
    announced: bool = False

    @property
    def scope(self) -> str:
        """What it covers, in words."""
        parts = (self.workload, self.target and f"target {self.target}", self.location and f"location {self.location}")
        return " at ".join(filter(None, parts)) or "everything"

    def covers(self, candidate: Candidate, workload: str, now: datetime) -> bool:
        return (
            now < self.until
            and self.target in (None, candidate.target)
            and self.location in (None, candidate.location)
            and self.workload in (None, workload)
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long work takes: `usual_s` is the median of past runs, `slow_s` what few exceed."""

    usual_s: float
    slow_s: float
    runs: int


_SLOW = 3 * 1.4826
"""Scaled to a normal distribution, three standard deviations over the median (Hampel, JASA 1974)."""
_FEW_RUNS = 5
_LEAST_SPREAD = 0.1


def estimate(seconds: Sequence[float], prior_s: float) -> Estimate:
    """A robust estimate: one run that hung for an hour does not make the next one an hour long.

    Args:
        seconds: of past runs that succeeded, in any order.
        prior_s: what was thought before there were runs; it counts as one of them while they are few.
    """
    seen = list(seconds) if len(seconds) >= _FEW_RUNS else [*seconds, prior_s]
    middle = median(seen)
    spread = max(median(abs(s - middle) for s in seen), _LEAST_SPREAD * middle)
    return Estimate(middle, middle + _SLOW * spread, len(seconds))


@dataclass(frozen=True, slots=True)
class Situation:
    """How things stand now.

    Attributes:
        blocked: what is left alone for a while: it just failed, or people said so.
        broken: target → why its circuit breaker refuses.
        running: location → pieces of work that run there.
        estimates: (alternative, target) → how long the work takes there.
        data_gb: location → how much of what the work needs lies there, and has to be moved if it runs elsewhere.
        price_per_gb: location → what it costs to take a gigabyte away from there.
    """

    blocked: Sequence[BlockedTarget] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    running: Mapping[str, int] = field(default_factory=dict)
    estimates: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    data_gb: Mapping[str, float] = field(default_factory=dict)
    price_per_gb: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a candidate is not used: the rule, at which stage, and what it saw."""

    stage: Stage
    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one candidate for one alternative; `rank` counts from 1, None where it was rejected."""

    candidate: Candidate
    alternative: str
    rejections: tuple[Rejection, ...]
    expected_s: float
    expected_cost: float
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """The decision with everything that was weighed; `chosen` None: there is nowhere to run it now."""

    workload: str
    at: datetime
    chosen: Verdict | None
    requirements: Requirements | None
    verdicts: tuple[Verdict, ...]

    @property
    def later(self) -> bool:
        """Whether some candidate is only kept off by its state, so that trying again later may help."""
        return any(v.rejections and all(r.stage == "state" for r in v.rejections) for v in self.verdicts)

    def table(self) -> list[str]:
        """A line for each candidate, for people."""
        return [_line(v, self.chosen) for v in self.verdicts]

    def to_dict(self) -> dict[str, Any]:
        """For storing and for `--json`."""
        return {
            "workload": self.workload,
            "at": self.at.isoformat(),
            "target": self.chosen.candidate.target if self.chosen else None,
            "location": self.chosen.candidate.location if self.chosen else None,
            "alternative": self.chosen.alternative if self.chosen else None,
            "budget": self.requirements.budget if self.requirements else None,
            "expected_s": self.chosen.expected_s if self.chosen else None,
            "expected_cost": self.chosen.expected_cost if self.chosen else None,
            "candidates": [
                {
                    "target": v.candidate.target,
                    "location": v.candidate.location,
                    "alternative": v.alternative,
                    "rank": v.rank,
                    "expected_s": v.expected_s,
                    "expected_cost": v.expected_cost,
                    "rejected": [{"stage": r.stage, "rule": r.rule, "why": r.why} for r in v.rejections],
                }
                for v in self.verdicts
            ],
        }


class NoCandidate(TargetFailed):
    """There is nowhere to run the work now.

    Args:
        placement: with every candidate and why it was rejected.
        history: what was tried before, and how each try failed.
    """

    def __init__(self, placement: Placement, history: Sequence[str] = ()) -> None:
        self.placement, self.history = placement, tuple(history)
        tried = f" Tried: {'; '.join(history)}." if history else ""
        table = "".join(f"\n  {line}" for line in placement.table())
        super().__init__(
            f"No target can take {placement.workload} now.{tried}{table}\n",
            next_step="Wait for what is blocked, or change the site's [workloads] or [[targets]].",
        )


Predicate = Callable[[Candidate], str | None]
"""Why a candidate will not do, or None."""


def place(
    workload: str,
    alternatives: Sequence[Alternative],
    candidates: Sequence[Candidate],
    situation: Situation,
    *,
    now: datetime,
    policies: Iterable[tuple[str, Predicate]] = (),
) -> Placement:
    """Choose a target for a workload.

    The first alternative that any candidate can take wins; among its candidates the cheapest, then the quickest.
    Where past runs alone say that every candidate would be late, the least late one is tried.

    Args:
        policies: (name, predicate) of further rules that may forbid a candidate.
    """
    further = tuple(policies)
    verdicts: list[Verdict] = []
    for alternative in alternatives:
        weighing = _Weighing(workload, alternative, situation, now, further)
        found = [weighing.weigh(candidate) for candidate in candidates]
        fit = [n for n, weighed in enumerate(found) if not weighed.rejections]
        fit.sort(key=lambda n: weighing.order(candidates[n], found[n]))
        rank = {n: place for place, n in enumerate(fit, start=1)}
        mine = [
            Verdict(candidate, alternative.name, tuple(w.rejections), w.expected_s, w.expected_cost, rank.get(n))
            for n, (candidate, w) in enumerate(zip(candidates, found, strict=True))
        ]
        verdicts += mine
        if fit:
            return Placement(workload, now, mine[fit[0]], alternative.requirements, tuple(verdicts))
    return _last_resort(workload, alternatives, verdicts, now)


def _last_resort(
    workload: str, alternatives: Sequence[Alternative], verdicts: Sequence[Verdict], now: datetime
) -> Placement:
    """Where past runs alone say that all would be late, the one that would be least so is tried.

    Otherwise nothing could ever correct what a bad hour has taught. The try is bounded by the deadline as any other.
    """
    for alternative in alternatives:
        deadline_s = alternative.requirements.deadline_s
        late = [
            n
            for n, v in enumerate(verdicts)
            if v.alternative == alternative.name
            and [r.rule for r in v.rejections] == ["deadline"]
            and deadline_s is not None
            and alternative.requirements.expected_s + v.candidate.latency_s <= deadline_s
        ]
        if late:
            best = min(late, key=lambda n: (verdicts[n].expected_s, verdicts[n].candidate.target))
            chosen = replace(verdicts[best], rejections=(), rank=1)
            judged = (*verdicts[:best], chosen, *verdicts[best + 1 :])
            return Placement(workload, now, chosen, alternative.requirements, judged)
    return Placement(workload, now, None, None, tuple(verdicts))


def expected_cost(candidate: Candidate, seconds: float, moved_gb: float) -> float:
    """Of one piece of work, in the site's currency."""
    return candidate.price_per_hour * seconds / 3600 + candidate.price_per_gb * moved_gb


class _Weighed(NamedTuple):
    rejections: list[Rejection]
    expected_s: float
    expected_cost: float


class _Weighing:
    """Weighs candidates for one alternative; what is the same for all of them is found out once."""

    def __init__(
        self,
        workload: str,
        alternative: Alternative,
        situation: Situation,
        now: datetime,
        policies: Sequence[tuple[str, Predicate]],
    ) -> None:
        self._workload, self._situation, self._now, self._policies = workload, situation, now, policies
        self._name, self._needs = alternative.name, alternative.requirements
        self._targets = frozenset(self._needs.targets)
        self._cleared = frozenset(CLASSIFICATIONS[CLASSIFICATIONS.index(self._needs.classification) :])
        self._blocked: defaultdict[str | None, list[BlockedTarget]] = defaultdict(list)
        for blocked in situation.blocked:
            self._blocked[blocked.target].append(blocked)
        self._moved_gb: dict[str, float] = {}

    def weigh(self, candidate: Candidate) -> _Weighed:
        """What speaks against a candidate, and what it would take."""
        needs = self._needs
        known = self._situation.estimates.get((self._name, candidate.target))
        usual_s, slow_s = (known.usual_s, known.slow_s) if known else (needs.expected_s, needs.expected_s)
        cost = expected_cost(candidate, usual_s, self._moved_to(candidate.location)) + self._leaving(candidate.location)
        found: list[Rejection] = []
        self._forbid(candidate, found)
        self._miss(candidate, found)
        due_s = slow_s + candidate.latency_s
        if needs.deadline_s is not None and due_s > needs.deadline_s:
            found.append(Rejection("fit", "deadline", f"may take {due_s:.3g} s, due in {needs.deadline_s:g} s"))
        if needs.max_cost is not None and cost > needs.max_cost:
            found.append(Rejection("fit", "max_cost", f"would cost {cost:.4g}, at most {needs.max_cost:g}"))
        return _Weighed(found, usual_s + candidate.latency_s, cost)

    def order(self, candidate: Candidate, weighed: _Weighed) -> tuple[float, float, str]:
        """What candidates are ranked by, the best lowest."""
        waiting = weighed.expected_s / 3600 * self._needs.hour_value
        return weighed.expected_cost + waiting, weighed.expected_s, candidate.target

    def _moved_to(self, location: str) -> float:
        """How much data lies elsewhere."""
        if location not in self._moved_gb:
            lies = self._situation.data_gb.items()
            self._moved_gb[location] = sum(gb for elsewhere, gb in lies if elsewhere != location)
        return self._moved_gb[location]

    def _leaving(self, location: str) -> float:
        """What it costs to take the data away from where it lies."""
        lies = self._situation.data_gb.items()
        return sum(gb * self._situation.price_per_gb.get(other, 0.0) for other, gb in lies if other != location)

    def _forbid(self, c: Candidate, found: list[Rejection]) -> None:
        needs = self._needs
        if self._targets and c.target not in self._targets:
            found.append(Rejection("policy", "targets", f"only {', '.join(needs.targets)} may take it"))
        if needs.kinds and c.location_kind not in needs.kinds:
            why = f"{c.location} is {c.location_kind}, not {' or '.join(needs.kinds)}"
            found.append(Rejection("policy", "kinds", why))
        if needs.residency and c.jurisdiction not in needs.residency:
            why = f"{c.location} is in {c.jurisdiction}, data may be in {', '.join(needs.residency)}"
            found.append(Rejection("policy", "residency", why))
        if c.clearance not in self._cleared:
            why = f"{needs.classification} data, {c.location} is cleared for {c.clearance}"
            found.append(Rejection("policy", "classification", why))
        if needs.gpus > c.gpus:
            found.append(Rejection("policy", "gpus", f"needs {needs.gpus}, {c.location} has {c.gpus}"))
        if c.memory_gb is not None and needs.memory_gb > c.memory_gb:
            why = f"needs {needs.memory_gb:g} GB, {c.location} has {c.memory_gb:g} GB"
            found.append(Rejection("policy", "memory", why))
        for name, predicate in self._policies:
            told = predicate(c)
            if told is not None:
                found.append(Rejection("policy", name, told))

    def _miss(self, c: Candidate, found: list[Rejection]) -> None:
        for blocked in (*self._blocked.get(c.target, ()), *self._blocked.get(None, ())):
            if blocked.covers(c, self._workload, self._now) or blocked.covers(c, self._name, self._now):
                wider = "" if (blocked.target, blocked.workload) == (c.target, None) else f"{blocked.scope} "
                why = f"{wider}until {blocked.until:%Y-%m-%d %H:%M:%S} UTC: {blocked.why}"
                found.append(Rejection("state", "blocked", why))
        broken = self._situation.broken.get(c.target)
        if broken is not None:
            found.append(Rejection("state", "breaker", broken))
        if c.capacity is not None:
            running = self._situation.running.get(c.location, 0)
            if running >= c.capacity:
                found.append(Rejection("state", "full", f"{running} of {c.capacity} places at {c.location} are taken"))


def _line(verdict: Verdict, chosen: Verdict | None) -> str:
    c = verdict.candidate
    name = f"{verdict.alternative} on {c.target} ({c.location})"
    if verdict.rejections:
        return f"{name}: rejected, " + "; ".join(f"{r.rule}: {r.why}" for r in verdict.rejections)
    what = "chosen" if verdict is chosen else f"rank {verdict.rank}"
    return f"{name}: {what}, about {verdict.expected_s:.3g} s and {verdict.expected_cost:.4g}"
