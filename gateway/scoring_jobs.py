"""What waits to be answered, and how much of it makes one job of the thread that scores."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

from gateway.decoding import Reading

_log = logging.getLogger("hybrid.gateway")

MOST = 256
"""Readings of one job: so many are answered well within a deadline, and a burst is not late as a whole."""


@dataclass(frozen=True, slots=True)
class EdgeAdvisory:
    """What is published of one reading.

    Attributes:
        reading: what it answers.
        payload: JSON, the advisory's fields and whose reading it answers.
    """

    reading: Reading
    served_by: str
    fallback_reason: str | None
    payload: bytes


class FleetScoring(Protocol):
    """What answers for the machines of one class."""

    def take(self, readings: Sequence[Reading]) -> Sized | None:
        """Bring features up to date, on the event loop; what is to be asked about, None: nothing."""
        ...

    def answer(self, asked: Any) -> Sequence[EdgeAdvisory]:
        """Ask the chain about what `take` gave: the model, the release before, the rules. On the scoring thread."""
        ...

    def answer_by_rules(self, asked: Any, reason: str) -> Sequence[EdgeAdvisory]:
        """The rules' answer, and why no model gave one. On the event loop."""
        ...

    def doubt(self) -> None:
        """The disk refused readings that `take` was given: features are to be built anew without them."""
        ...


@dataclass(slots=True)
class _Turn:
    """Readings that came at once.

    Attributes:
        since: when.
        last: how many readings had begun their way to the disk by then.
    """

    readings: Sequence[Reading]
    since: float
    last: int


@dataclass(slots=True)
class Job:
    """What is asked about at once.

    Attributes:
        asked: by fleet, as `FleetScoring.take` gave it.
        came: when its readings came, and how many each time, the oldest first.
        last: how many readings had begun their way to the disk when its newest came.
        began: when the thread was given it.
        finished: the thread is through with it, whether or not the loop has heard of it.
    """

    asked: Sequence[tuple[FleetScoring, Sized]]
    came: Sequence[tuple[float, int]]
    last: int
    began: float = 0.0
    answered: bool = False
    finished: bool = False

    @property
    def since(self) -> float:
        return self.came[0][0]

    @property
    def count(self) -> int:
        """Readings that are asked about."""
        return sum([len(asked) for _, asked in self.asked])

    def ages(self, now: float) -> Sequence[tuple[float, int]]:
        """How long those have waited, and how many so long: all as the oldest where some are not asked about."""
        count = self.count
        if count == sum([times for _, times in self.came]):
            return [(now - since, times) for since, times in self.came]
        return [(now - self.since, count)]


class Waiting:
    """Readings until they are a job. Features take them in as late as that: many at once cost a fraction of each alone.

    Args:
        fleet_of: the fleet that a machine is of; None: of none that is scored.
    """

    def __init__(self, fleets: Mapping[str, FleetScoring], fleet_of: Callable[[str], str | None]) -> None:
        self._fleets, self._fleet_of = fleets, fleet_of
        self._jobs: deque[Job] = deque()
        """What features have taken in already."""
        self._turns: deque[_Turn] = deque()

    def __bool__(self) -> bool:
        return bool(self._jobs or self._turns)

    @property
    def since(self) -> float:
        """When the oldest came; infinite where there is none."""
        if self._jobs:
            return self._jobs[0].since
        return self._turns[0].since if self._turns else inf

    def add(self, readings: Sequence[Reading], since: float, last: int) -> None:
        """Readings that came at once; `last` as in `Job`."""
        self._turns.append(_Turn(readings, since, last))

    def next_job(self, until: float = inf) -> Job | None:
        """The oldest, as far as they came until then; None: there is none to be asked about.

        What `take_all` has put together stays together: the oldest counts.
        """
        while self and self.since <= until:
            job = self._jobs.popleft() if self._jobs else self._made(until)
            if job.asked:
                return job
        return None

    def take_all(self) -> None:
        """Have features hold all that waits, whenever it is asked about."""
        while self._turns:
            if (job := self._made(inf)).asked:
                self._jobs.append(job)

    def _made(self, until: float) -> Job:
        turns, readings, came, last = self._turns, list[Reading](), list[tuple[float, int]](), 0
        while turns and turns[0].since <= until and (room := MOST - len(readings)) > 0:
            turn = turns[0]
            some = turn.readings[:room]
            readings += some
            came.append((turn.since, len(some)))
            last = turn.last
            if len(some) == len(turn.readings):
                turns.popleft()
            else:
                turn.readings = turn.readings[room:]
        return Job(self._asked(readings), came, last)

    def _asked(self, readings: Sequence[Reading]) -> Sequence[tuple[FleetScoring, Sized]]:
        by_fleet: dict[str, list[Reading]] = {}
        for reading in readings:
            name = self._fleet_of(reading.equipment)
            if name is not None and name in self._fleets:
                by_fleet.setdefault(name, []).append(reading)
        asked = []
        for name, own in by_fleet.items():
            fleet = self._fleets[name]
            try:
                if (taken := fleet.take(own)) is not None:
                    asked.append((fleet, taken))
            except Exception:  # one fleet must not cost the others their answers
                _log.exception("features failed", extra={"told": {"class": name}})
        return asked
