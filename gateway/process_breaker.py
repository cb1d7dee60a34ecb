"""A circuit breaker of one process: the rules of `backbone.breaker` on a state that nobody else has."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from backbone.breaker import SUCCEEDED, BreakerSettings, BreakerState, Permit, Refusal, ask, release, settle


class ProcessBreaker:
    """Asked before each call; see `backbone.fallback.Breaker`. For any number of threads.

    Args:
        now: the wall clock, with a time zone.
    """

    def __init__(self, settings: BreakerSettings, now: Callable[[], datetime]) -> None:
        self._settings, self._now = settings, now
        self._lock, self._tokens = threading.Lock(), itertools.count()
        self.state = BreakerState()
        self._content = BreakerState(calls=SUCCEEDED * settings.window)
        self._slow_s = settings.slow_s

    def ask(self) -> _Leave | Refusal:
        with self._lock:
            self.state, given = ask(self.state, self._settings, self._now(), str(next(self._tokens)))
        return given if isinstance(given, Refusal) else _Leave(self, given)

    def settled(self, permit: Permit, *, failed: bool, seconds: float) -> None:
        with self._lock:
            if not failed and self.state == self._content and (self._slow_s is None or seconds <= self._slow_s):
                return  # one more success says nothing new
            self.state = settle(self.state, self._settings, permit, self._now(), failed=failed, seconds=seconds)

    def given_back(self, permit: Permit) -> None:
        with self._lock:
            self.state = release(self.state, permit)


@dataclass(frozen=True, slots=True)
class _Leave:
    breaker: ProcessBreaker
    permit: Permit

    def succeeded(self, seconds: float) -> None:
        self.breaker.settled(self.permit, failed=False, seconds=seconds)

    def failed(self, why: str, seconds: float) -> None:  # noqa: ARG002 - the port's
        self.breaker.settled(self.permit, failed=True, seconds=seconds)

    def released(self) -> None:
        self.breaker.given_back(self.permit)
