"""Kept readings are answered within the deadline: by a model, on a thread of its own, else by the rules.

Features are brought up to date on the event loop, so that the rules have them when the model's thread is stuck. While
that thread is late, nothing more is handed to it: the rules answer at once, and the models again when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from backbone.fallback import DEADLINE, ERROR
from gateway.counters import Counters
from gateway.decoding import Reading

_log = logging.getLogger("hybrid.gateway")


@dataclass(frozen=True, slots=True)
class EdgeAdvisory:
    """What is published of one reading.

    Attributes:
        payload: JSON, the advisory's fields and whose reading it answers.
    """

    equipment: str
    served_by: str
    fallback_reason: str | None
    payload: bytes
    traceparent: str | None = None


class FleetScoring(Protocol):
    """What answers for the machines of one class."""

    def take(self, readings: Sequence[Reading]) -> Any:
        """Bring features up to date, on the event loop; what is to be asked about, None where that is nothing."""
        ...

    def answer(self, asked: Any) -> Sequence[EdgeAdvisory]:
        """Ask the chain: the model, the release before, the rules. On the scoring thread."""
        ...

    def answer_by_rules(self, asked: Any, reason: str) -> Sequence[EdgeAdvisory]:
        """The rules' answer, and why no model gave one. On the event loop."""
        ...


@dataclass(slots=True)
class _Job:
    fleet: FleetScoring
    asked: Any
    since: float
    answered: bool = False


class Answering:
    """Answers for all fleets of a gateway. To be used on one event loop.

    Args:
        fleet_of: the fleet that a machine is of; None: of none that is scored.
        publish: takes what is to go out.
        deadline_s: from a reading's acknowledgement to its advisory.
    """

    def __init__(
        self,
        fleets: Mapping[str, FleetScoring],
        fleet_of: Callable[[str], str | None],
        publish: Callable[[EdgeAdvisory], None],
        *,
        deadline_s: float,
        counters: Counters,
    ) -> None:
        self._fleets, self._fleet_of, self._publish = fleets, fleet_of, publish
        self._deadline_s, self._counters = deadline_s, counters
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._open: set[int] = set()
        """Jobs that the thread has and whose time is over."""
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    @property
    def late(self) -> bool:
        """Whether the models' thread has something that it should have answered."""
        return bool(self._open)

    def take(self, readings: Sequence[Reading]) -> None:
        """Answer for readings that were kept."""
        by_fleet: dict[str, list[Reading]] = {}
        for reading in readings:
            name = self._fleet_of(reading.equipment)
            if name is not None and name in self._fleets:
                by_fleet.setdefault(name, []).append(reading)
        for name, own in by_fleet.items():
            fleet = self._fleets[name]
            asked = fleet.take(own)
            if asked is not None:
                self._ask(_Job(fleet, asked, self._loop.time()))

    def close(self) -> None:
        """End the thread once it has answered what it has; does not wait for one that is stuck."""
        self._jobs.put(None)
        self._thread.join(self._deadline_s * 2)

    def _ask(self, job: _Job) -> None:
        if self._open:
            self._by_rules(job, DEADLINE)
            return
        self._loop.call_later(self._deadline_s, self._overdue, job)
        self._jobs.put(job)

    def _overdue(self, job: _Job) -> None:
        if not job.answered:
            self._open.add(id(job))
            self._by_rules(job, DEADLINE)

    def _by_rules(self, job: _Job, reason: str) -> None:
        job.answered = True
        self._out(job, job.fleet.answer_by_rules(job.asked, reason))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.answered:
                answers = None  # it was too late before the thread came to it
            else:
                try:
                    answers = job.fleet.answer(job.asked)
                except Exception:  # the chain answers whatever a model does: this is a defect of ours
                    _log.exception("scoring failed")
                    answers = None
            try:
                self._loop.call_soon_threadsafe(self._done, job, answers)
            except RuntimeError:
                return

    def _done(self, job: _Job, answers: Sequence[EdgeAdvisory] | None) -> None:
        self._open.discard(id(job))
        if job.answered:
            return
        if answers is None:
            self._by_rules(job, ERROR)
            return
        job.answered = True
        self._out(job, answers)

    def _out(self, job: _Job, answers: Sequence[EdgeAdvisory]) -> None:
        self._counters.answered_after.add(self._loop.time() - job.since, len(answers))
        for answer in answers:
            self._counters.served[answer.served_by, answer.fallback_reason or ""] += 1
            self._publish(answer)
