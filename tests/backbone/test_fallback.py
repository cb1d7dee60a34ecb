"""Whoever can answer best does, and every answer says who gave it and why nobody better did."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone import breaker as pure
from backbone.breaker import BreakerSettings, BreakerState, Refusal
from backbone.errors import HybridError, IntegrityError, NotCommissioned, TargetFailed, TargetLate
from backbone.fallback import Answers, FallbackChain, Guarded, RungAnswer, Unanswered, Within, reason_of
from backbone.placement import BlockedTarget, Candidate, NoCandidate, Situation, place
from backbone.reasons import BREAKER_OPEN, DEADLINE, ERROR, MISSING_INPUTS, NO_RELEASE, OUT_OF_RANGE, UNVERIFIED
from backbone.requirements import Alternative, Requirements

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_S = 20.0


@dataclass
class Says:
    """A rung that answers each row with its own number, but for those it gives a reason for; or fails whole."""

    name: str
    reasons: dict[int, str] = field(default_factory=dict)
    fails: BaseException | None = None
    asked: list[list[int]] = field(default_factory=list)

    def answer(self, rows: np.ndarray) -> RungAnswer:
        self.asked.append(rows.tolist())
        if self.fails is not None:
            raise self.fails
        reasons = np.array([self.reasons.get(int(row)) for row in rows], dtype=object)
        return RungAnswer([f"{self.name} says {row}" for row in rows], reasons if self.reasons else None)


def values(answers: Answers) -> dict[int, str]:
    """Row → what it was answered."""
    return {
        int(row): value
        for part in answers.parts
        for row, answered, value in zip(part.rows, part.answered, part.values, strict=True)
        if answered
    }


def nowhere(*, later: bool, history: tuple[str, ...] = ()) -> NoCandidate:
    """The error where a rung's work could be placed nowhere; `later`: only for now."""
    candidate = Candidate("box", "in_process", "edge", "edge", "DE")
    blocked = [BlockedTarget(NOW + timedelta(hours=1), "it died")] if later else []
    needs = Requirements() if later else Requirements(gpus=1)
    placement = place("scoring", [Alternative("scoring", needs)], [candidate], Situation(blocked=blocked), now=NOW)
    return NoCandidate(placement, history)


# The chain.


def test_the_best_answers_and_nobody_else_is_asked() -> None:
    model, rules = Says("model"), Says("rules")
    answers = FallbackChain([model, rules]).answer(3)
    assert answers.rung.tolist() == [0, 0, 0]
    assert answers.reasons.tolist() == [None, None, None]
    assert not answers.degraded.any()
    assert rules.asked == []
    assert values(answers) == {0: "model says 0", 1: "model says 1", 2: "model says 2"}


def test_each_is_asked_only_for_what_those_before_it_left() -> None:
    newest = Says("v2", {1: OUT_OF_RANGE, 3: MISSING_INPUTS, 4: OUT_OF_RANGE})
    before = Says("v1", {3: MISSING_INPUTS})
    rules = Says("rules", {0: "never seen"})
    answers = FallbackChain([newest, before, rules]).answer(5)
    assert [rung.asked for rung in (newest, before, rules)] == [[[0, 1, 2, 3, 4]], [[1, 3, 4]], [[3]]]
    assert answers.rung.tolist() == [0, 1, 0, 2, 1]
    assert values(answers) == {
        0: "v2 says 0",
        1: "v1 says 1",
        2: "v2 says 2",
        3: "rules says 3",
        4: "v1 says 4",
    }


def test_a_row_keeps_the_reason_why_the_first_did_not_answer_it() -> None:
    newest, before = Says("v2", {1: OUT_OF_RANGE, 2: OUT_OF_RANGE}), Says("v1", {2: MISSING_INPUTS})
    answers = FallbackChain([newest, before]).answer(3)
    assert answers.reasons.tolist() == [None, OUT_OF_RANGE, OUT_OF_RANGE]
    assert answers.rung.tolist() == [0, 1, -1]


def test_what_a_rung_raises_is_the_reason_and_is_told() -> None:
    answers = FallbackChain([Says("v2", fails=RuntimeError("no such node")), Says("rules")]).answer(2)
    assert answers.reasons.tolist() == [ERROR, ERROR]
    assert answers.rung.tolist() == [1, 1]
    assert answers.troubles == ("v2: no such node",)
    assert answers.degraded.all()


def test_where_nobody_answers_the_rows_say_so() -> None:
    answers = FallbackChain([Says("v2", fails=TargetLate("too late.", next_step="")), Says("v1", fails=OSError())])
    told = answers.answer(2)
    assert told.rung.tolist() == [-1, -1]
    assert told.reasons.tolist() == [DEADLINE, DEADLINE]
    assert [t.partition(":")[0] for t in told.troubles] == ["v2", "v1"]


def test_being_told_to_end_is_no_reason_to_go_on() -> None:
    rules = Says("rules")
    with pytest.raises(KeyboardInterrupt):
        FallbackChain([Says("model", fails=KeyboardInterrupt()), rules]).answer(1)
    assert rules.asked == []


def test_no_rows_ask_nobody() -> None:
    model = Says("model")
    assert len(FallbackChain([model]).answer(0).rung) == 0
    assert model.asked == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unanswered(OUT_OF_RANGE, "too hot."), OUT_OF_RANGE),
        (NotCommissioned("nothing yet.", next_step=""), NO_RELEASE),
        (TargetLate("too late.", next_step=""), DEADLINE),
        (TargetFailed("it died.", next_step=""), ERROR),
        (IntegrityError("changed.", next_step=""), UNVERIFIED),
        (nowhere(later=True), BREAKER_OPEN),
        (nowhere(later=True, history=("box: it died",)), ERROR),
        (nowhere(later=False), ERROR),
        (ValueError("odd"), ERROR),
    ],
)
def test_every_error_has_its_reason(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Says], int]:
    n = draw(st.integers(0, 8))
    failures: st.SearchStrategy[BaseException | None] = st.sampled_from(
        [None, None, None, RuntimeError("broken"), TargetLate("late.", next_step=""), Unanswered(UNVERIFIED, "no.")]
    )
    reasons = st.dictionaries(st.integers(0, 7), st.sampled_from([OUT_OF_RANGE, MISSING_INPUTS]), max_size=8)
    return [Says(f"r{i}", draw(reasons), draw(failures)) for i in range(draw(st.integers(1, 4)))], n


@given(chains())
def test_every_row_has_exactly_one_answer_or_none_at_all(case: tuple[list[Says], int]) -> None:
    rungs, n = case
    answers = FallbackChain(rungs).answer(n)
    for row in range(n):
        able = [i for i, rung in enumerate(rungs) if rung.fails is None and row not in rung.reasons]
        assert answers.rung[row] == (able[0] if able else -1)
        assert (answers.reasons[row] is None) == (answers.rung[row] == 0)
        given_by = [
            p.rung for p in answers.parts for at, did in zip(p.rows, p.answered, strict=True) if did and at == row
        ]
        assert given_by == able[:1], "answered twice, or by another than it says"
        assert sum(row in rows for rung in rungs for rows in rung.asked) == (able[0] + 1 if able else len(rungs))
    assert values(answers) == {
        row: f"{rungs[rung].name} says {row}" for row, rung in enumerate(answers.rung.tolist()) if rung >= 0
    }


# Behind a breaker.


class Clock:
    """Passes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Slow:
    """A rung that takes its time."""

    rung: Says
    clock: Clock
    seconds: float

    @property
    def name(self) -> str:
        return self.rung.name

    def answer(self, rows: np.ndarray) -> RungAnswer:
        self.clock.seconds += self.seconds
        return self.rung.answer(rows)


class OneBreaker:
    """The breaker of this package, for one process; permits that are out are counted."""

    def __init__(self, clock: Clock, **settings: Any) -> None:
        self.settings, self.clock, self.state = BreakerSettings(**settings), clock, BreakerState()
        self.open_permits = 0
        self._tokens = iter(range(1000))

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.clock.seconds)

    def ask(self) -> Any:
        self.state, answer = pure.ask(self.state, self.settings, self.now, str(next(self._tokens)))
        if isinstance(answer, Refusal):
            return answer
        self.open_permits += 1
        return OnePermit(self, answer)


@dataclass
class OnePermit:
    breaker: OneBreaker
    permit: pure.Permit

    def _settle(self, failed: bool, seconds: float) -> None:
        b = self.breaker
        b.open_permits -= 1
        b.state = pure.settle(b.state, b.settings, self.permit, b.now, failed=failed, seconds=seconds)

    def succeeded(self, seconds: float) -> None:
        self._settle(False, seconds)

    def failed(self, why: str, seconds: float) -> None:
        assert why, "whoever reads the history wants to know"
        self._settle(True, seconds)

    def released(self) -> None:
        self.breaker.open_permits -= 1
        self.breaker.state = pure.release(self.breaker.state, self.permit)


def test_failures_open_it_and_then_the_rung_is_left_alone() -> None:
    clock = Clock()
    breaker = OneBreaker(clock, minimum=3, open_s=30)
    model = Says("model", fails=RuntimeError("out of memory"))
    chain = FallbackChain([Guarded(model, breaker, clock.monotonic), Says("rules")])
    reasons = [chain.answer(1).reasons[0] for _ in range(5)]
    assert reasons == [ERROR] * 3 + [BREAKER_OPEN] * 2
    assert len(model.asked) == 3
    assert "open until 00:00:30 UTC" in chain.answer(1).troubles[0]
    clock.seconds += 31
    model.fails = None
    healed = chain.answer(1)
    assert healed.rung.tolist() == [0]
    assert breaker.state.mode == "closed"
    assert breaker.open_permits == 0


def test_slowness_opens_it_although_every_answer_came() -> None:
    clock = Clock()
    breaker = OneBreaker(clock, minimum=3, slow_s=1.0)
    chain = FallbackChain([Guarded(Slow(Says("model"), clock, 2.0), breaker, clock.monotonic), Says("rules")])
    assert [int(chain.answer(1).rung[0]) for _ in range(4)] == [0, 0, 0, 1]


def test_rows_it_abstains_from_are_no_failure() -> None:
    clock = Clock()
    breaker = OneBreaker(clock, minimum=1)
    chain = FallbackChain([Guarded(Says("model", {0: OUT_OF_RANGE}), breaker, clock.monotonic)])
    for _ in range(5):
        assert chain.answer(1).reasons.tolist() == [OUT_OF_RANGE]
    assert breaker.state.mode == "closed"


@pytest.mark.parametrize("error", [nowhere(later=True), KeyboardInterrupt()])
def test_what_says_nothing_about_the_model_gives_the_permit_back(error: BaseException) -> None:
    """Half open, with the one probe there is: were it kept, nobody could ask for as long as its lease lasts."""
    clock = Clock()
    breaker = OneBreaker(clock, minimum=1, open_s=1, probe_lease_s=3600)
    model = Says("model", fails=RuntimeError("once"))
    guarded = Guarded(model, breaker, clock.monotonic)
    with pytest.raises(RuntimeError):
        guarded.answer(np.arange(1))
    clock.seconds += 2
    model.fails = error
    with pytest.raises(type(error)):
        guarded.answer(np.arange(1))
    assert (breaker.state.mode, breaker.open_permits) == ("half_open", 0)
    model.fails = None
    assert guarded.answer(np.arange(1)).reasons is None
    assert breaker.state.mode == "closed"


def test_what_one_answer_says_no_other_changes() -> None:
    """What is said of rows that the first rung answers all of is kept, and shared."""
    before = FallbackChain([Says("model")]).answer(3)
    mixed = FallbackChain([Says("model", {1: OUT_OF_RANGE}), Says("rules")]).answer(3)
    late = FallbackChain([Says("model", fails=RuntimeError("broken")), Says("rules")]).answer(3)
    after = FallbackChain([Says("model")]).answer(3)
    assert [a.rung.tolist() for a in (before, mixed, late, after)] == [[0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert mixed.reasons.tolist() == [None, OUT_OF_RANGE, None]
    assert late.reasons.tolist() == [ERROR] * 3
    for answers in (before, after):
        assert not answers.degraded.any()
        assert answers.reasons.tolist() == [None] * 3
        for shared in (answers.rung, answers.reasons, answers.parts[0].rows, answers.parts[0].answered):
            with pytest.raises(ValueError, match="read-only"):
                shared[0] = 1


# Within a deadline.


@dataclass
class Held:
    """A rung that does not answer before it is let go."""

    go: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    name: str = "model"

    def answer(self, rows: np.ndarray) -> RungAnswer:
        assert self.go.wait(PATIENCE_S)
        self.done.set()
        return RungAnswer(["late"] * len(rows))


def test_one_that_does_not_answer_in_time_is_passed_over_and_what_it_says_later_is_dropped() -> None:
    held = Held()
    answers = FallbackChain([Within(held, 0.02), Says("rules")]).answer(2)
    assert answers.reasons.tolist() == [DEADLINE, DEADLINE]
    assert "within 0.02 s" in answers.troubles[0]
    held.go.set()
    assert held.done.wait(PATIENCE_S)
    assert values(answers) == {0: "rules says 0", 1: "rules says 1"}


def test_one_that_answers_in_time_is_as_it_is_without_a_deadline() -> None:
    answers = FallbackChain([Within(Says("model", {1: OUT_OF_RANGE}), PATIENCE_S)]).answer(2)
    assert answers.names == ("model",)
    assert answers.reasons.tolist() == [None, OUT_OF_RANGE]
    assert values(answers) == {0: "model says 0"}


@pytest.mark.parametrize("error", [IntegrityError("changed.", next_step=""), RuntimeError("broken")])
def test_what_fails_in_time_fails_as_it_would(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        Within(Says("model", fails=error), PATIENCE_S).answer(np.arange(1))


def test_a_time_out_of_the_rungs_own_is_not_its_deadline() -> None:
    answers = FallbackChain([Within(Says("model", fails=TimeoutError("no route")), PATIENCE_S)]).answer(1)
    assert answers.reasons.tolist() == [ERROR]


def test_a_missed_deadline_counts_against_the_model() -> None:
    clock = Clock()
    breaker = OneBreaker(clock, minimum=1)
    held = Held()
    chain = FallbackChain([Guarded(Within(held, 0.01), breaker, clock.monotonic), Says("rules")])
    assert [chain.answer(1).reasons[0] for _ in range(2)] == [DEADLINE, BREAKER_OPEN]
    held.go.set()
    assert held.done.wait(PATIENCE_S)


def test_reasons_are_errors_with_a_way_out() -> None:
    """They are shown to people as troubles."""
    makers: list[Callable[[], HybridError]] = [lambda: Unanswered(ERROR, "It is gone."), lambda: nowhere(later=True)]
    assert all(maker().next_step for maker in makers)
