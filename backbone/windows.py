"""Windows: a site's day. Which of them are due, and what has to run next for a plant to be served."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Literal


def day_until(instant: datetime) -> date:
    """The day that is under way just before an instant: midnight still belongs to the day it ends."""
    return (instant - timedelta(microseconds=1)).date()


@dataclass(frozen=True, slots=True)
class WindowRange:
    """The days `first` to `last`, both included, of one site."""

    site: str
    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"{self.first}..{self.last} is no range of days.")

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __iter__(self) -> Iterator[date]:
        return (self.first + timedelta(days=n) for n in range(len(self)))

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and self.first <= day <= self.last


@dataclass(frozen=True, slots=True)
class Omission:
    """The earlier days whose readings an answer leaves out, and the run that made its features so."""

    days: frozenset[date]
    run_id: str


@dataclass(frozen=True)
class PlantState:
    """How far one fleet of a plant has come; the values say which content a day was built from.

    Attributes:
        landed: day → fingerprint of everything landed for it.
        ingested: day → fingerprint its telemetry was last built from.
        served: day → fingerprint its advisories were last built from.
        commissioned: the fleet has an operating baseline.
        blocked: days whose readings nothing is to rest on.
        omissions: served day → what its answer leaves out, where it ever left out anything.
    """

    landed: Mapping[date, str]
    ingested: Mapping[date, str]
    served: Mapping[date, str]
    commissioned: bool
    blocked: frozenset[date] = frozenset()
    omissions: Mapping[date, Omission] = field(default_factory=dict)

    @cached_property
    def stale(self) -> frozenset[date]:
        """Served days whose answer rests on a day that was blocked since, or leaves out one that no longer is."""
        if not self.blocked and not self.omissions:
            return frozenset()
        return frozenset(day for day in self.served if self._left_out(day) != left_out(self.blocked, day))

    def _left_out(self, day: date) -> frozenset[date]:
        return self.omissions[day].days if day in self.omissions else frozenset()


StepKind = Literal["ingest", "train", "mend", "score", "serve"]
"""`ingest`: store what landed. `train`: make a baseline, and a release if it is earned. `score`: serve windows from
what is stored. `serve`: both, ingest and score. `mend`: ask the model again, with the features there are."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to run next. `cause` changes whenever the reason for the step does: it makes run keys."""

    kind: StepKind
    first: date
    last: date
    cause: str


def next_step(state: PlantState) -> Step | None:
    """The next thing a fleet needs, or None when every landed window is served.

    A new plant first stores what has landed, then is trained once (which gives it a baseline, and a
    release if enough failed), then serves. Later, every window that changed is served again together with
    the windows after it, because their features go on from its last state. So are the windows after one that was
    blocked, or is no longer.
    """
    due = _due(state.landed, state.ingested)
    if not state.commissioned:
        if due:
            return _step("ingest", min(due), max(due), state.landed)
        if state.ingested:
            return _step("train", min(state.ingested), max(state.ingested), state.ingested)
        return None
    unserved = {*_due(state.landed, state.served), *state.stale}
    if not unserved:
        return None
    step = _step("serve" if due else "score", min(unserved), max(state.landed), state.landed)
    return replace(step, cause=f"{step.cause}/{_why_stale(state)}") if state.stale else step


def left_out(blocked: Collection[date], day: date) -> frozenset[date]:
    """What the features of a day leave out: all days before it that are blocked."""
    return frozenset(other for other in blocked if other < day)


def _due(landed: Mapping[date, str], done: Mapping[date, str]) -> list[date]:
    return [day for day, fingerprint in landed.items() if done.get(day) != fingerprint]


def listed(days: Collection[date]) -> str:
    """Days as one text, in order: the same for the same days."""
    return ",".join(day.isoformat() for day in sorted(days))


def _why_stale(state: PlantState) -> str:
    """Another text each time: what was blocked and is free again may be blocked once more."""
    first = min(state.stale)
    made_by = state.omissions[first].run_id if first in state.omissions else ""
    return f"{made_by}/without {listed(left_out(state.blocked, first))}"


def _step(kind: StepKind, first: date, last: date, because_of: Mapping[date, str]) -> Step:
    span = sorted({first, last})
    return Step(kind, first, last, cause="-".join(because_of.get(day, "") for day in span) + f"/{len(because_of)}")
