import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backbone.breaker import (
    BreakerOpen,
    BreakerSettings,
    BreakerState,
    Permit,
    Refusal,
    ask,
    reason,
    refusal,
    release,
    settle,
)
from backbone.errors import ConfigurationError, IntegrityError, Transient
from backbone.settings import settings_from

START = datetime(2026, 1, 1, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def after_calls(outcomes: str, given: BreakerSettings, state: BreakerState | None = None) -> BreakerState:
    """`.` a success, `x` a failure, `s` a success that took ten seconds."""
    state = state or BreakerState()
    for outcome in outcomes:
        seconds = 10.0 if outcome == "s" else 0.1
        state = settle(state, given, Permit(state.period), START, failed=outcome == "x", seconds=seconds)
    return state


def probe(state: BreakerState, given: BreakerSettings, now: datetime, token: str) -> tuple[BreakerState, Permit]:
    state, answer = ask(state, given, now, token)
    assert isinstance(answer, Permit)
    return state, answer


@pytest.mark.parametrize(
    ("outcomes", "mode"),
    [
        ("xxxx", "closed"),
        ("xxxxx", "open"),
        ("....xxx", "closed"),
        ("....xxxx", "open"),
        ("x" * 4 + ".", "open"),
        ("." * 30 + "x" * 9, "closed"),
        ("." * 30 + "x" * 10, "open"),
        ("." * 11 + "s" * 9, "closed"),
        ("." * 10 + "s" * 5 + "x" * 5, "open"),
    ],
)
def test_it_opens_by_the_share_of_the_last_twenty_once_five_are_known(outcomes: str, mode: str) -> None:
    assert after_calls(outcomes, BreakerSettings(slow_s=5.0)).mode == mode


def test_a_smaller_share_of_slow_calls_may_suffice() -> None:
    given = BreakerSettings(slow_s=5.0, slow_share=0.2)
    assert after_calls("....s", given).mode == "open"
    assert after_calls("....x", given).mode == "closed"


def test_nothing_passes_until_the_open_time_is_over_then_one_probe() -> None:
    given = BreakerSettings(open_s=30)
    state = after_calls("xxxxx", given)
    assert ask(state, given, later(29.9), "a")[1] == Refusal(later(30))
    state, _ = probe(state, given, later(30), "a")
    assert state.mode == "half_open"
    assert ask(state, given, later(31), "b")[1] == Refusal(later(90))


def test_a_good_probe_closes_it_and_forgets_what_was() -> None:
    given = BreakerSettings()
    state, permit = probe(after_calls("xxxxx", given), given, later(30), "a")
    state = settle(state, given, permit, later(31), failed=False, seconds=1)
    assert (state.mode, state.failure_share) == ("closed", 0)
    assert after_calls("xxxx", given, state).mode == "closed"


def test_a_slow_probe_opens_it_again() -> None:
    given = BreakerSettings(slow_s=5)
    state, permit = probe(after_calls("xxxxx", given), given, later(30), "a")
    assert settle(state, given, permit, later(40), failed=False, seconds=6).mode == "open"


def test_several_probes_must_succeed_where_that_is_asked() -> None:
    given = BreakerSettings(probes=2, successes_to_close=3)
    state = after_calls("xxxxx", given)
    for number, mode in enumerate(["half_open", "half_open", "closed"]):
        state, permit = probe(state, given, later(30 + number), str(number))
        state = settle(state, given, permit, later(30 + number), failed=False, seconds=1)
        assert state.mode == mode


def test_a_probe_whose_process_died_gives_its_place_back_and_is_not_heard_later() -> None:
    given = BreakerSettings(probe_lease_s=60)
    state, dead = probe(after_calls("xxxxx", given), given, later(30), "dead")
    state, alive = probe(state, given, later(90), "alive")
    assert settle(state, given, dead, later(91), failed=False, seconds=61) == state
    assert settle(state, given, alive, later(91), failed=False, seconds=1).mode == "closed"


def test_a_place_is_held_by_a_probe_of_an_earlier_period() -> None:
    given = BreakerSettings(probes=2, open_s=10, probe_lease_s=60)
    state = after_calls("xxxxx", given)
    state, first = probe(state, given, later(10), "first")
    state, hanging = probe(state, given, later(10), "hanging")
    state = settle(state, given, first, later(11), failed=True, seconds=1)
    state, _ = probe(state, given, later(31), "third")
    assert isinstance(ask(state, given, later(32), "fourth")[1], Refusal)
    assert settle(state, given, hanging, later(33), failed=False, seconds=23).mode == "half_open"


def test_a_call_that_began_before_it_opened_does_not_close_it() -> None:
    given = BreakerSettings()
    before = Permit(BreakerState().period)
    state = after_calls("xxxxx", given)
    assert settle(state, given, before, later(1), failed=False, seconds=1) == state
    state, _ = probe(state, given, later(30), "a")
    assert settle(state, given, before, later(31), failed=False, seconds=31) == state


def test_a_call_given_back_says_nothing() -> None:
    given = BreakerSettings()
    state, permit = probe(after_calls("xxxxx", given), given, later(30), "a")
    state = release(state, permit)
    assert state.mode == "half_open"
    probe(state, given, later(30), "b")


def test_each_return_that_fails_doubles_the_open_time_until_it_has_recovered() -> None:
    given = BreakerSettings(open_s=30, open_max_s=100)
    state, now, waits = after_calls("xxxxx", given), START, []
    for turn in range(4):
        assert state.retry_at is not None
        waits.append((state.retry_at - now).total_seconds())
        now = state.retry_at
        state, permit = probe(state, given, now, str(turn))
        state = settle(state, given, permit, now, failed=True, seconds=1)
    assert waits == [30, 60, 100, 100]

    assert state.retry_at is not None
    state, permit = probe(state, given, state.retry_at, "good")
    closed = settle(state, given, permit, START, failed=False, seconds=1)
    flapping = after_calls("xxxxx", given, closed)
    assert flapping.retry_at == later(100)
    recovered = after_calls("." * 20 + "x" * 10, given, closed)
    assert recovered.retry_at == later(30)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_step_of_an_hour_keeps_it_open_no_longer_than_the_open_time(hours: int) -> None:
    given = BreakerSettings(open_s=30)
    stepped = later(3600 * hours + 5)
    state, answer = ask(after_calls("xxxxx", given), given, stepped, "a")
    if hours > 0:
        assert isinstance(answer, Permit)
    else:
        assert answer == Refusal(stepped + timedelta(seconds=30))
        probe(state, given, stepped + timedelta(seconds=30), "b")


def test_a_step_back_ends_a_lease_no_later_than_a_lease_from_then() -> None:
    given = BreakerSettings(probe_lease_s=60)
    state, _ = probe(after_calls("xxxxx", given), given, later(30), "a")
    assert refusal(state, given, later(-3600)) == Refusal(later(-3540))


def test_the_history_says_what_was_seen() -> None:
    given = BreakerSettings(slow_s=5)
    nearly = after_calls("..xxs", given)
    assert (
        reason(BreakerState(), nearly, "took 10 s")
        == "3 of the last 5 calls failed, 1 for being slow; the last: took 10 s"
    )


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"minimum": 21}, "minimum is 21, but its window holds 20"),
    ({"window": 3}, "minimum is 5, but its window holds 3"),
    ({"probes": 30}, "probes is 30"),
    ({"successes_to_close": 21}, "successes_to_close is 21"),
    ({"slow_share": 0.3}, "nothing says which calls are slow"),
    ({"slow_share": 0.5, "slow_s": 1}, "never decides"),
    ({"slow_s": 60}, "ends before slow_s"),
    ({"open_s": 700}, "open_max_s of 600 is less"),
    ({"window": 0}, "greater than or equal to 1"),
    ({"failure_share": 0}, "greater than 0"),
    ({"failure_share": 1.1}, "less than or equal to 1"),
    ({"failure_share": float("nan")}, "failure_share"),
    ({"open_s": -1}, "greater than 0"),
    ({"open_s": float("inf")}, "open_s"),
    ({"probes": 0}, "greater than or equal to 1"),
    ({"probes": 1.5}, "valid integer"),
    ({"slow_s": "fast"}, "valid number"),
    ({"treshold": 1}, "treshold.*known: .*failure_share"),
]


@pytest.mark.parametrize(("given", "message"), IMPOSSIBLE)
def test_impossible_settings_are_refused_and_say_why(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        settings_from(BreakerSettings, given, where="target big-ray, table breaker")
    assert "target big-ray" in str(refused.value)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"mode": "ajar"},
        {"mode": "open"},
        {"calls": "..?"},
        {"period": -1},
        {"mode": "open", "opened_at": "2026-01-01T00:00:00", "retry_at": "2026-01-01T00:00:00Z"},
        {"mode": "half_open", "opened_at": "2026-01-01T00:00:00Z", "probes": [{"token": "a"}]},
    ],
)
def test_a_document_that_is_no_state_is_refused(document: object) -> None:
    with pytest.raises(IntegrityError, match="cannot be read"):
        BreakerState.from_dict(document)


def test_a_refused_call_may_be_tried_again_and_says_when() -> None:
    error = BreakerOpen("target/big-ray", later(30))
    assert isinstance(error, Transient)
    assert "target/big-ray" in str(error)
    assert "2026-01-01T00:00:30+00:00" in error.next_step


@st.composite
def possible_settings(draw: st.DrawFn) -> BreakerSettings:
    window = draw(st.integers(1, 8))
    within = st.integers(1, window)
    open_s = draw(st.sampled_from([1.0, 30.0]))
    return BreakerSettings(
        window=window,
        minimum=draw(within),
        failure_share=draw(st.sampled_from([0.1, 0.5, 1.0])),
        slow_s=draw(st.sampled_from([None, 5.0])),
        open_s=open_s,
        open_max_s=open_s * draw(st.sampled_from([1, 4])),
        probes=draw(within),
        probe_lease_s=draw(st.sampled_from([10.0, 100.0])),
        successes_to_close=draw(within),
    )


class BreakerMachine(RuleBasedStateMachine):
    """Any order of asking, answering, forgetting and clock steps, beside a model that counts for itself."""

    @initialize(given=possible_settings())
    def begin(self, given: BreakerSettings) -> None:
        self.given, self.state, self.now = given, BreakerState(), START
        self.permits: list[Permit] = []
        self.held: dict[str, datetime] = {}
        self.seen: list[bool] = []
        self.tokens = 0

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def looked_at(self) -> None:
        """What time has done to the leases is noticed when the breaker is used, not when the clock moves."""
        lease = timedelta(seconds=self.given.probe_lease_s)
        self.held = {t: min(end, self.now + lease) for t, end in self.held.items() if end > self.now}

    def asked(self) -> Permit | Refusal:
        self.tokens += 1
        self.looked_at()
        was = self.state
        self.state, answer = ask(self.state, self.given, self.now, f"t{self.tokens}")
        if isinstance(answer, Refusal):
            assert was.mode != "closed"
            assert answer.retry_at > self.now
            longest = max(self.given.open_max_s, self.given.probe_lease_s)
            assert answer.retry_at - self.now <= timedelta(seconds=longest)
            assert self.state.mode == was.mode
            return answer
        assert (answer.token != "") == (was.mode != "closed")
        assert self.state.mode == ("closed" if was.mode == "closed" else "half_open")
        if answer.token:
            self.held[answer.token] = self.now + timedelta(seconds=self.given.probe_lease_s)
        self.permits.append(answer)
        return answer

    @rule()
    def ask_for_a_permit(self) -> None:
        self.asked()

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0, 31.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(seconds=st.sampled_from([-3600.0, 3600.0, -1.0]))
    def clock_steps(self, seconds: float) -> None:
        self.pass_time(seconds)
        if isinstance(answer := refusal(self.state, self.given, self.now), Refusal) and self.state.mode == "open":
            assert answer.retry_at - self.now <= timedelta(seconds=self.given.open_max_s)

    @rule()
    def wait_until_told(self) -> None:
        answer = self.asked()
        if isinstance(answer, Refusal):
            self.pass_time((answer.retry_at - self.now).total_seconds())
            assert isinstance(self.asked(), Permit)

    @rule(data=st.data(), failed=st.booleans(), seconds=st.sampled_from([0.1, 6.0]))
    def hear_of_a_call(self, data: st.DataObject, failed: bool, seconds: float) -> None:
        """Of any permit ever given: in time, late, twice, or one nobody gave."""
        permit = data.draw(st.sampled_from([*self.permits[-12:], Permit(self.state.period, "foreign"), Permit(999)]))
        was = self.state
        self.looked_at()
        live = permit.token in self.held
        self.held.pop(permit.token, None)
        self.state = settle(self.state, self.given, permit, self.now, failed=failed, seconds=seconds)
        bad = failed or (self.given.slow_s is not None and seconds > self.given.slow_s)
        if was.mode == "closed":
            if permit == Permit(was.period):
                self.seen = [*self.seen, bad][-self.given.window :]
            share = sum(self.seen) / max(len(self.seen), 1)
            opens = len(self.seen) >= self.given.minimum and share >= self.given.failure_share
            assert self.state.mode == ("open" if opens else "closed")
        elif was.mode == "open":
            assert self.state.mode == "open"
        elif not live or permit.period != was.period:
            assert self.state.mode == "half_open"
        else:
            assert (self.state.mode == "open") == bad
        if self.state.mode != was.mode:
            self.seen = []

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.permits:
            permit = data.draw(st.sampled_from(self.permits))
            self.held.pop(permit.token, None)
            mode = self.state.mode
            self.state = release(self.state, permit)
            assert self.state.mode == mode

    @invariant()
    def no_more_probes_than_allowed(self) -> None:
        assert len(self.held) <= self.given.probes

    @invariant()
    def open_lets_nothing_through_before_its_time(self) -> None:
        if self.state.retry_at is not None and self.now < self.state.retry_at:
            assert isinstance(ask(self.state, self.given, self.now, "peek")[1], Refusal)

    @invariant()
    def looking_and_asking_agree(self) -> None:
        looked = refusal(self.state, self.given, self.now)
        answer = ask(self.state, self.given, self.now, "peek")[1]
        assert answer == looked if looked else isinstance(answer, Permit)

    @invariant()
    def it_is_stored_as_it_is(self) -> None:
        assert BreakerState.from_dict(json.loads(json.dumps(self.state.to_dict()))) == self.state


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.text(alphabet=".xs", max_size=60), possible_settings())
def test_the_window_never_outgrows_its_setting(outcomes: str, given: BreakerSettings) -> None:
    assert len(after_calls(outcomes, given).calls) <= given.window


def test_unknown_keys_of_a_newer_release_are_passed_over() -> None:
    state = replace(BreakerState(), calls="..f")
    assert BreakerState.from_dict({**state.to_dict(), "mood": "good"}) == state
