"""Readings are answered within the deadline: by a model, on a thread of its own, else by the rules.

They are answered while the disk works, see `gateway.in_flight`; an answer goes out when the disk has what it is for.
Features are brought up to date on the event loop, so that the rules have them when the model's thread is stuck. The
thread has one job at a time. What comes meanwhile is answered as one when it is back: a reading alone is asked about at
once, and where many come, many are asked about at once. What has waited too long for the thread is answered by the
rules. While the thread is stuck, nothing more is handed to it: the rules answer at once, and the models again when it
is back.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Sized
from math import inf
from time import monotonic  # the loop's own time may be that of its turn's begin, long ago
from typing import NamedTuple

from backbone.reasons import DEADLINE, ERROR
from gateway.counters import Counters
from gateway.decoding import Reading
from gateway.in_flight import InFlight
from gateway.scoring_jobs import EdgeAdvisory, FleetScoring, Job, Waiting

_log = logging.getLogger("hybrid.gateway")


class _Answered(NamedTuple):
    """What a fleet was asked and what it gave; None: it failed."""

    fleet: FleetScoring
    asked: Sized
    given: Sequence[EdgeAdvisory] | None


class Answering:
    """Answers for all fleets of a gateway. To be used on one event loop.

    Args:
        fleet_of: the fleet that a machine is of; None: of none that is scored.
        publish: takes what is to go out.
        deadline_s: from when a reading has been judged to its answer; the disk's time is its own.
    """

    def __init__(
        self,
        fleets: Mapping[str, FleetScoring],
        fleet_of: Callable[[str], str | None],
        publish: Callable[[Sequence[EdgeAdvisory]], None],
        *,
        deadline_s: float,
        counters: Counters,
    ) -> None:
        self._fleets, self._fleet_of, self._publish = fleets, fleet_of, publish
        self._deadline_s, self._counters = deadline_s, counters
        self._loop = asyncio.get_running_loop()
        self._flight = InFlight(monotonic)
        self._fresh: list[Reading] = []
        """Of this turn of the loop."""
        self._waiting = Waiting(fleets, fleet_of)
        self._held: deque[tuple[Job, Sequence[EdgeAdvisory]]] = deque()
        """Answers to what the disk does not have yet."""
        self._job: Job | None = None
        """The thread's."""
        self._finished: deque[tuple[Job, Sequence[_Answered]]] = deque()
        """What the thread is through with, and the loop has not heard of."""
        self._due: asyncio.TimerHandle | None = None
        self._due_s = inf
        self._closing: asyncio.Future[None] | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._worker.start()

    @property
    def late(self) -> bool:
        """Whether the models' thread has something that it should have answered."""
        return self._job is not None and self._job.answered and not self._job.finished

    def begin(self, reading: Reading) -> None:
        """A reading is on its way to the disk; `kept` or `failed` follows, for all in this order."""
        if at_once := self._flight.begin(reading):
            if not self._fresh:
                self._loop.call_soon(self._take_fresh)
            self._fresh += at_once

    def kept(self, readings: Sequence[Reading]) -> None:
        """The disk has the next readings."""
        if waited := self._flight.kept(readings):
            self.take(waited)
        self._let_go()

    def failed(self, readings: Sequence[Reading]) -> None:
        """The disk has refused the next readings: no answer to them goes out."""
        for name in {self._fleet_of(reading.equipment) for reading in self._flight.failed(readings)}:
            if name is not None and name in self._fleets:
                self._fleets[name].doubt()
        self._let_go()

    def take(self, readings: Sequence[Reading]) -> None:
        """Answer for readings that the disk has."""
        if readings:
            self._waiting.add(readings, monotonic(), self._flight.settled)
            self._go_on()

    def take_all(self) -> None:
        """Have features hold all readings that there were so far; they are answered in their turn."""
        self._take_fresh()
        self._waiting.take_all()
        self._hear()  # the thread may have seen nothing wait meanwhile

    def in_flight(self, fleet: str) -> list[Reading]:
        """Readings of a fleet that its features hold, and the disk does not yet."""
        return [reading for reading in self._flight.answered() if self._fleet_of(reading.equipment) == fleet]

    async def all_settled(self) -> bool:
        """See `InFlight.all_settled`: whether what features hold by now has reached the disk."""
        return await self._flight.all_settled()

    async def close(self) -> None:
        """Wait until all is answered, for two deadlines at most, and end the thread, if it is not stuck."""
        if self._unanswered:
            self._closing = self._loop.create_future()
            done, _ = await asyncio.wait({self._closing}, timeout=2 * self._deadline_s)
            if not done:
                _log.error("not all was answered before the end")
        self._jobs.put(None)

    @property
    def _idle(self) -> bool:
        """Whether the thread has nothing to do. To be asked where `_job` was set before: by then another may have set
        it, and compiled code holds what it set for what it is (see ADR 23)."""
        return self._job is None

    @property
    def _unanswered(self) -> bool:
        busy = self._job is not None and not self._job.answered
        return busy or bool(self._waiting or self._fresh or self._held)

    def _take_fresh(self) -> None:
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            self._waiting.add(fresh, monotonic(), self._flight.begun)
            self._go_on()

    def _go_on(self) -> None:
        """Hand over what waits, if there is anybody to hand it to."""
        self._hear()
        if self._stuck:
            self._shed(inf)
        elif self._job is None:
            self._hand_over()

    @property
    def _stuck(self) -> bool:
        """Whether the thread has had its job for so long that nothing can be expected of it."""
        return self.late and self._job is not None and monotonic() >= self._job.began + self._deadline_s

    def _hand_over(self) -> None:
        """Give the thread what it can still answer in time; the rest has waited too long for it."""
        now = monotonic()
        self._shed(now - self._deadline_s)
        if self._job is None and (job := self._waiting.next_job()) is not None:
            self._job, job.began = job, now
            self._jobs.put(job)
        self._watch()
        if self._closing is not None:
            self._let_go()  # what waited may have been nothing that is asked about

    def _shed(self, since: float) -> None:
        """The rules answer what came until then; much of it a part at a time, as nothing else is done meanwhile."""
        if (job := self._waiting.next_job(since)) is not None:
            self._by_rules(job, DEADLINE)
            if self._waiting and self._waiting.since <= since:
                self._loop.call_soon(self._shed, since)

    def _watch(self) -> None:
        """Be there when the next answer is due, or the thread is known to be stuck.

        A timer that is due before stays, and looks again then: most answers come long before theirs is.
        """
        job, begins = self._job, list[float]()
        if job is not None:
            begins.append(job.began if job.answered else job.since)
        if self._waiting:
            begins.append(self._waiting.since)
        due_s = min(begins, default=inf) + self._deadline_s
        if due_s < self._due_s:
            if self._due is not None:
                self._due.cancel()
            self._due, self._due_s = self._loop.call_at(due_s, self._overdue), due_s

    def _overdue(self) -> None:
        self._due, self._due_s = None, inf
        self._hear()
        job, now = self._job, monotonic()
        if job is not None and not job.answered and not job.finished and job.since + self._deadline_s <= now:
            self._by_rules(job, DEADLINE)
        stuck = self._stuck  # asked once: what is shed takes time, and whatever is left needs a timer
        self._shed(inf if stuck else now - self._deadline_s)
        if job is None or not (job.finished or stuck):
            self._watch()  # else the thread's end of the job is heard of first

    def _by_rules(self, job: Job, reason: str) -> None:
        job.answered = True
        self._out(job, [answer for fleet, asked in job.asked for answer in _given_by_rules(fleet, asked, reason)])

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            answers: list[_Answered] = []
            if not job.answered:  # else it was too late before the thread came to it
                answers = [_Answered(fleet, asked, _given_by_model(fleet, asked)) for fleet, asked in job.asked]
            job.finished = True
            self._finished.append((job, answers))
            if self._waiting or job.last <= self._flight.settled:
                try:
                    self._loop.call_soon_threadsafe(self._go_on)
                except RuntimeError:
                    return
            # Else the loop hears of it with whatever comes next, the disk's word at the latest: nothing is to be done
            # before, and to wake it costs more than an answer.

    def _hear(self) -> None:
        """Of what the thread is through with."""
        while self._finished:
            self._done(*self._finished.popleft())

    def _done(self, job: Job, answers: Sequence[_Answered]) -> None:
        self._job, was_answered, job.answered = None, job.answered, True
        if not was_answered:
            told: list[EdgeAdvisory] = []
            for fleet, asked, given in answers:
                told += _given_by_rules(fleet, asked, ERROR) if given is None else given
            self._out(job, told)
        if self._waiting:
            self._go_on()
        if self._idle:
            self._watch()

    def _out(self, job: Job, answers: Sequence[EdgeAdvisory]) -> None:
        """Let answers out, or hold them back until the disk has what they are for."""
        self._held.append((job, answers))
        self._let_go()

    def _let_go(self) -> None:
        self._hear()
        held, settled = self._held, self._flight.settled
        while held and held[0][0].last <= settled:
            job, answers = held.popleft()
            self._let_out(job, answers)
        if self._closing is not None and not self._closing.done() and not self._unanswered:
            self._closing.set_result(None)

    def _let_out(self, job: Job, answers: Sequence[EdgeAdvisory]) -> None:
        flight, now = self._flight, monotonic()
        if flight.any_refused:
            answers = [answer for answer in answers if not flight.refused(answer.reading)]
            if not self._unanswered:  # else some of them may be in what is still to be answered
                flight.forget_refused()
        for waited_s, times in job.ages(now):
            self._counters.answered_after.add(waited_s, times)
        for answer in answers:
            self._counters.served[answer.served_by, answer.fallback_reason or ""] += 1
        try:
            self._publish(answers)
        except Exception:  # whoever waits for the end must not wait for ever
            _log.exception("not published")


def _given_by_model(fleet: FleetScoring, asked: Sized) -> Sequence[EdgeAdvisory] | None:
    """None where it failed: the chain answers whatever a model does, so that is a defect of ours."""
    try:
        return fleet.answer(asked)
    except Exception:  # one fleet must not cost the others their answers
        _log.exception("scoring failed")
        return None


def _given_by_rules(fleet: FleetScoring, asked: Sized, reason: str) -> Sequence[EdgeAdvisory]:
    try:
        return fleet.answer_by_rules(asked, reason)
    except Exception:  # as above
        _log.exception("the rules failed")
        return ()
