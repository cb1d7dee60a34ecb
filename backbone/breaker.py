"""When to stop asking what keeps failing, and when to try it again.

The semantics are those of Resilience4j's CircuitBreaker with a count-based sliding window, with these differences: a
slow call is a failed one; a half-open breaker closes after `successes_to_close` good probes and opens at the first
bad one; a probe holds its place for a lease only, since its process may die; the open time doubles with each return
that failed.

Everything here is a function of a state and a time. Times are wall-clock, since processes that share a breaker share
no other; the wall clock may step, and then at most one open time or one lease begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from backbone.errors import ConfigurationError, IntegrityError, Transient

Mode = Literal["closed", "open", "half_open"]

SUCCEEDED, FAILED, SLOW = ".", "f", "s"

_Seconds = Annotated[float, Field(gt=0, le=86_400)]
_Threshold = Annotated[float, Field(gt=0, le=1)]


class BreakerOpen(Transient):
    """A call was refused because those before it failed.

    Args:
        name: the breaker's.
        retry_at: when to ask again at the earliest.
    """

    def __init__(self, name: str, retry_at: datetime) -> None:
        self.name, self.retry_at = name, retry_at
        super().__init__(
            f"The circuit breaker of {name} is open: too many calls failed.",
            next_step=f"Use something else until {retry_at.isoformat(timespec='seconds')}, then try again.",
        )


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """What a breaker tolerates.

    Attributes:
        window: how many of the last calls are looked at.
        minimum: how many it must have seen before it opens.
        failure_share: opens when this share of the window failed or was slow.
        slow_s: a call that took longer, in seconds, counts as failed; None: none is slow.
        slow_share: opens when this share of the window was slow, before `failure_share` is reached; 1 turns it off.
        open_s: how long it lets nothing through, in seconds, the first time.
        open_max_s: to what that grows, doubling each time it opens again before `minimum` calls have succeeded.
        probes: how many calls are let through at once to find out whether it may close.
        probe_lease_s: how long a probe holds its place if nothing is heard of it. What takes longer, is not counted.
        successes_to_close: how many probes must succeed, none failing, before it closes.
    """

    window: Annotated[int, Field(ge=1, le=1_000)] = 20
    minimum: Annotated[int, Field(ge=1, le=1_000)] = 5
    failure_share: _Threshold = 0.5
    slow_s: _Seconds | None = None
    slow_share: _Threshold = 1.0
    open_s: _Seconds = 30.0
    open_max_s: _Seconds = 600.0
    probes: Annotated[int, Field(ge=1, le=1_000)] = 1
    probe_lease_s: _Seconds = 60.0
    successes_to_close: Annotated[int, Field(ge=1, le=1_000)] = 1

    def __post_init__(self) -> None:
        for name in ("minimum", "probes", "successes_to_close"):
            if getattr(self, name) > self.window:
                raise ConfigurationError(
                    f"A breaker's {name} is {getattr(self, name)}, but its window holds {self.window} calls.",
                    next_step=f"Lower {name}, or widen the window.",
                )
        if self.open_max_s < self.open_s:
            raise ConfigurationError(
                f"A breaker's open_max_s of {self.open_max_s:g} is less than its open_s of {self.open_s:g}.",
                next_step="Raise open_max_s; as much as open_s means that the open time never grows.",
            )
        if self.slow_share < 1 and self.slow_s is None:
            raise ConfigurationError(
                f"A breaker's slow_share is {self.slow_share:g}, but nothing says which calls are slow.",
                next_step="Give slow_s, in seconds, or leave slow_share out.",
            )
        if self.failure_share <= self.slow_share < 1:
            raise ConfigurationError(
                f"A breaker's slow_share of {self.slow_share:g} never decides: a slow call is a failed one, "
                f"and failure_share is {self.failure_share:g}.",
                next_step="Give a slow_share below failure_share, or leave it out.",
            )
        if self.slow_s is not None and self.slow_s >= self.probe_lease_s:
            raise ConfigurationError(
                f"A breaker's probe_lease_s of {self.probe_lease_s:g} ends before slow_s of {self.slow_s:g} is over.",
                next_step="Raise probe_lease_s above slow_s.",
            )


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call.

    Attributes:
        period: which stay in a mode it belongs to; what is heard of it later says nothing about the next.
        token: a probe's own; empty while the breaker is closed, when permits are alike.
    """

    period: int
    token: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No leave. At `retry_at` the answer may be another; it may be so sooner where a probe is under way."""

    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Probe:
    """A permit that was handed out while half open."""

    token: str
    period: int
    expires_at: AwareDatetime


@dataclass(frozen=True, slots=True)
class BreakerState:
    """What is known of the calls made so far.

    Attributes:
        calls: the last of this period, oldest first: `.` succeeded, `f` failed, `s` was slow. While it is open,
            those that opened it.
        period: counts the changes of mode.
        openings: how often it opened without having recovered in between.
        opened_at: since when it is not closed.
        retry_at: when it lets a probe through; only while open.
        probes: under way. They hold their places into later periods, so that there are never more than allowed.
    """

    mode: Mode = "closed"
    calls: Annotated[str, Field(pattern=r"^[.fs]*$", max_length=1_000)] = ""
    period: Annotated[int, Field(ge=0)] = 0
    openings: Annotated[int, Field(ge=0)] = 0
    opened_at: AwareDatetime | None = None
    retry_at: AwareDatetime | None = None
    probes: tuple[Probe, ...] = ()

    def __post_init__(self) -> None:
        if (self.mode == "open") != (self.retry_at is not None) or (self.mode == "closed") != (self.opened_at is None):
            raise ValueError("its times do not belong to its mode")

    @property
    def failure_share(self) -> float:
        """Of `calls`, slow ones included; 0 where there were none."""
        return 1 - self.calls.count(SUCCEEDED) / len(self.calls) if self.calls else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it."""
        document: dict[str, Any] = _documents().dump_python(self, mode="json")
        return document

    @classmethod
    def from_dict(cls, document: object) -> BreakerState:
        """What `to_dict` gave; unknown keys, as a newer release may write, are passed over.

        Raises:
            IntegrityError: it is no breaker's state. Going on from a new, closed one is safe: a breaker saves useless
                calls, and it opens again after a few.
        """
        try:
            return _documents().validate_python(document)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, first["loc"])) or "the document"
            raise IntegrityError(
                f"A stored circuit breaker cannot be read: {at}: {first['msg']}.",
                next_step="Delete its row from the table breakers; it starts again closed.",
            ) from None


@cache
def _documents() -> TypeAdapter[BreakerState]:
    return TypeAdapter(BreakerState)


def ask(
    state: BreakerState, settings: BreakerSettings, now: datetime, token: str
) -> tuple[BreakerState, Permit | Refusal]:
    """Ask for leave to make a call.

    Args:
        now: the wall clock, with a time zone.
        token: never given before, in any process; it becomes the probe's, if this is to be one.
    """
    state = _in_time(state, settings, now)
    if state.mode == "closed":
        return state, Permit(state.period)
    if (refused := refusal(state, settings, now)) is not None:
        return state, refused
    if state.mode == "open":
        state = replace(state, mode="half_open", calls="", period=state.period + 1, retry_at=None)
    probe = Probe(token, state.period, now + timedelta(seconds=settings.probe_lease_s))
    return replace(state, probes=(*state.probes, probe)), Permit(state.period, token)


def refusal(state: BreakerState, settings: BreakerSettings, now: datetime) -> Refusal | None:
    """What `ask` would say if it refused; None where it would not. Nothing is taken."""
    state = _in_time(state, settings, now)
    if state.mode == "closed":
        return None
    if state.retry_at is not None and now < state.retry_at:
        return Refusal(state.retry_at)
    if len(state.probes) >= settings.probes:
        return Refusal(min(probe.expires_at for probe in state.probes))
    return None


def settle(
    state: BreakerState,
    settings: BreakerSettings,
    permit: Permit,
    now: datetime,
    *,
    failed: bool,
    seconds: float,
) -> BreakerState:
    """Say what became of a call.

    A permit of an earlier period, a probe whose lease ended and a token that is not known change no mode.

    Args:
        now: the wall clock, with a time zone.
        seconds: how long the call took, by a clock that does not step.
    """
    before = _in_time(state, settings, now)
    state = release(before, permit)
    counts = state.mode == "closed" if permit.token == "" else state.mode == "half_open" and state is not before
    if permit.period != state.period or not counts:
        return state
    slow = settings.slow_s is not None and seconds > settings.slow_s
    calls = (state.calls + (SLOW if slow else FAILED if failed else SUCCEEDED))[-settings.window :]
    state = replace(state, calls=calls)
    if state.mode == "half_open":
        if calls[-1] != SUCCEEDED:
            return _opened(state, settings, now)
        if len(calls) >= settings.successes_to_close:
            return replace(state, mode="closed", calls="", period=state.period + 1, opened_at=None)
        return state
    slow_share = calls.count(SLOW) / len(calls)
    if len(calls) >= settings.minimum and (
        state.failure_share >= settings.failure_share or (settings.slow_share < 1 and slow_share >= settings.slow_share)
    ):
        return _opened(state, settings, now)
    if state.openings and calls.count(SUCCEEDED) >= settings.minimum:
        return replace(state, openings=0)
    return state


def release(state: BreakerState, permit: Permit) -> BreakerState:
    """Give a permit back, where the call was not made or says nothing about what was called."""
    if permit.token == "" or all(probe.token != permit.token for probe in state.probes):
        return state
    return replace(state, probes=tuple(probe for probe in state.probes if probe.token != permit.token))


def reason(was: BreakerState, became: BreakerState, why: str) -> str:
    """A change of mode in words.

    Args:
        why: what the last call said of its failure.
    """
    if became.mode == "half_open":
        return f"A probe after {became.openings} opening{'s' if became.openings != 1 else ''} in a row."
    if became.mode == "closed":
        return "The probes succeeded."
    bad, slow = len(became.calls) - became.calls.count(SUCCEEDED), became.calls.count(SLOW)
    told = "A probe failed" if was.mode == "half_open" else f"{bad} of the last {len(became.calls)} calls failed"
    return f"{told}{f', {slow} for being slow' if slow else ''}{f'; the last: {why}' if why else '.'}"


def _opened(state: BreakerState, settings: BreakerSettings, now: datetime) -> BreakerState:
    # Thirty doublings pass any bound; more would leave the range of a float.
    open_s = min(settings.open_s * 2 ** min(state.openings, 30), settings.open_max_s)
    return replace(
        state,
        mode="open",
        period=state.period + 1,
        openings=state.openings + 1,
        opened_at=now,
        retry_at=now + timedelta(seconds=open_s),
    )


def _in_time(state: BreakerState, settings: BreakerSettings, now: datetime) -> BreakerState:
    """Ended leases are dropped; no wait lasts longer from now than it would have from its beginning."""
    if state.mode == "closed" and not state.probes:
        return state
    opened_at, retry_at = state.opened_at, state.retry_at
    if opened_at is not None and retry_at is not None:
        wait = min(retry_at - opened_at, timedelta(seconds=settings.open_max_s))
        retry_at = min(retry_at, now + wait)
    if opened_at is not None:
        opened_at = min(opened_at, now)
    latest = now + timedelta(seconds=settings.probe_lease_s)
    probes = tuple(
        probe if probe.expires_at <= latest else replace(probe, expires_at=latest)
        for probe in state.probes
        if now < probe.expires_at
    )
    if (opened_at, retry_at, probes) == (state.opened_at, state.retry_at, state.probes):
        return state
    return replace(state, opened_at=opened_at, retry_at=retry_at, probes=probes)
