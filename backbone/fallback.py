"""The fallback chain: whoever can answer best does, and every answer says who gave it and why nobody better did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from backbone.bounded_calls import within
from backbone.breaker import Refusal
from backbone.errors import HybridError, IntegrityError, NotCommissioned, TargetFailed, TargetLate
from backbone.placement import NoCandidate
from backbone.reasons import BREAKER_OPEN, DEADLINE, ERROR, NO_RELEASE, UNVERIFIED


class Unanswered(HybridError):
    """A rung has no answer for any row; `reason` is one of `backbone.reasons`."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why, next_step="The next rung answers.")
        self.reason = reason


class DeadlinePassed(Unanswered):
    """No answer in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(DEADLINE, f"There was no answer within {seconds:g} s.")


@dataclass(frozen=True, slots=True)
class RungAnswer:
    """One rung's answer for the rows it was asked about.

    Attributes:
        values: whatever the rung answers with, for all rows it was asked about.
        reasons: (k,) None, or why it has no answer for that row; None in whole: it has one for every row.
    """

    values: Any
    reasons: np.ndarray | None = None


class Rung(Protocol):
    """One way to get an answer."""

    @property
    def name(self) -> str:
        """Who serves, as it stands in `served_by`."""
        ...

    def answer(self, rows: np.ndarray) -> RungAnswer:
        """Answer for some rows.

        Args:
            rows: (k,) positions of the rows asked about.

        Raises:
            Unanswered: there is none for any of them, and why.
            Exception: anything else counts as `error`.
        """
        ...


class Breaker(Protocol):
    """What a guarded rung needs of a circuit breaker."""

    def ask(self) -> Any:
        """A permit with `succeeded` and `failed`, or a `Refusal`."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """What one rung answered: `rows` (k,) are the positions asked about, `answered` (k,) those it had an answer for."""

    rung: int
    rows: np.ndarray
    answered: np.ndarray
    values: Any


@dataclass(frozen=True, slots=True)
class Answers:
    """n rows' answers; arrays may be read-only.

    Attributes:
        names: of the rungs, in their order.
        rung: (n,) which rung answered; -1: none did.
        reasons: (n,) why the first rung did not, None where it did.
        parts: the answers, by rung.
        troubles: what kept rungs from answering at all, for people.
    """

    names: tuple[str, ...]
    rung: np.ndarray
    reasons: np.ndarray
    parts: tuple[Part, ...]
    troubles: tuple[str, ...]

    @property
    def degraded(self) -> np.ndarray:
        """(n,) whether another than the first rung answered."""
        return self.rung != 0


class FallbackChain:
    """Asks its rungs in order; each is asked for the rows that those before it left unanswered."""

    def __init__(self, rungs: Sequence[Rung]) -> None:
        self._rungs = tuple(rungs)
        self._names = tuple(rung.name for rung in rungs)

    def answer(self, n: int) -> Answers:
        """Answer n rows. Never raises what a rung raises: that is the reason why the next one is asked."""
        whole = _whole(n)
        left, passed, why = whole.rows, whole.rows[:0], whole.reasons[:0]
        parts: list[Part] = []
        troubles: list[str] = []
        for index, one in enumerate(self._rungs):
            if not len(left):
                break
            try:
                answer = one.answer(left)
            except Exception as error:
                troubles.append(f"{one.name}: {error}")
                refused = np.full(len(left), reason_of(error), dtype=object)
            else:
                if answer.reasons is None:
                    if index == 0:  # as usual
                        part = Part(0, left, whole.answered, answer.values)
                        return Answers(self._names, whole.rung, whole.reasons, (part,), ())
                    parts.append(Part(index, left, np.ones(len(left), bool), answer.values))
                    break
                answered = answer.reasons == None  # noqa: E711 - elementwise
                parts.append(Part(index, left, answered, answer.values))
                left, refused = left[~answered], answer.reasons[~answered]
            if index == 0:
                passed, why = left, refused
        rung, reasons = np.full(n, -1, np.int8), np.full(n, None, dtype=object)
        for part in parts:
            rung[part.rows[part.answered]] = part.rung
        reasons[passed] = why
        return Answers(self._names, rung, reasons, tuple(parts), tuple(troubles))


@dataclass(frozen=True, slots=True)
class _Whole:
    """What is said of rows that the first rung answers all of; see `Part` and `Answers`."""

    rows: np.ndarray
    answered: np.ndarray
    rung: np.ndarray
    reasons: np.ndarray


@lru_cache(maxsize=4)
def _whole(n: int) -> _Whole:
    """Kept, and read-only for that: a chain is asked about as many rows each time, and mostly this is the answer."""
    whole = _Whole(np.arange(n), np.ones(n, bool), np.zeros(n, np.int8), np.full(n, None, dtype=object))
    for array in (whole.rows, whole.answered, whole.rung, whole.reasons):
        array.flags.writeable = False
    return whole


def reason_of(error: Exception) -> str:
    """The reason an error stands for."""
    if isinstance(error, Unanswered):
        return error.reason
    if isinstance(error, NotCommissioned):
        return NO_RELEASE
    if isinstance(error, TargetLate):
        return DEADLINE
    if isinstance(error, NoCandidate):
        return _reason_of_none(error)
    return UNVERIFIED if isinstance(error, IntegrityError) else ERROR


def _reason_of_none(error: NoCandidate) -> str:
    rules = {r.rule for v in error.placement.verdicts for r in v.rejections if r.stage != "policy"}
    if error.placement.chosen is not None or rules == {"deadline"}:
        return DEADLINE
    return BREAKER_OPEN if rules & {"breaker", "blocked"} and not error.history else ERROR


@dataclass(frozen=True, slots=True)
class Guarded:
    """A rung behind a circuit breaker: it is not asked while that is open, and its failures and slowness open it."""

    rung: Rung
    breaker: Breaker
    monotonic: Callable[[], float]

    @property
    def name(self) -> str:
        return self.rung.name

    def answer(self, rows: np.ndarray) -> RungAnswer:
        """See `Rung.answer`."""
        permit = self.breaker.ask()
        if isinstance(permit, Refusal):
            raise Unanswered(BREAKER_OPEN, f"Its circuit breaker is open until {permit.retry_at:%H:%M:%S} UTC.")
        began = self.monotonic()
        try:
            answer = self.rung.answer(rows)
        except Exception as error:
            if isinstance(error, TargetFailed) and not isinstance(error, TargetLate):
                permit.released()  # the model was not asked, or did not get to answer: its target has its own breaker
            else:
                permit.failed(str(error), self.monotonic() - began)
            raise
        except BaseException:
            permit.released()
            raise
        permit.succeeded(self.monotonic() - began)
        return answer


@dataclass(frozen=True, slots=True)
class Within:
    """A rung with a deadline. One that has not answered by then is left to its thread, and its answer dropped."""

    rung: Rung
    seconds: float

    @property
    def name(self) -> str:
        return self.rung.name

    def answer(self, rows: np.ndarray) -> RungAnswer:
        """See `Rung.answer`.

        Raises:
            DeadlinePassed: there was no answer in time.
        """
        return within(self.seconds, lambda: self.rung.answer(rows), late=DeadlinePassed(self.seconds))
