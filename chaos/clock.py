"""A clock for rehearsals: time passes when somebody waits, and its wall clock may step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta


class ChaosClock:
    """See `backbone.clock.Clock`. A wait costs no real time.

    Attributes:
        steps_s: by how many seconds the wall clock is off now; monotonic time knows nothing of it.

    Args:
        start: what the wall clock showed when monotonic time was 0.
        on_look: called at every look at the clock, after every wait.
    """

    def __init__(self, start: datetime, on_look: Callable[[], None] = lambda: None) -> None:
        self.start, self.steps_s = start, 0.0
        self._passed_s = 0.0
        self._on_look = on_look

    @property
    def passed_s(self) -> float:
        """Seconds since the start, as nobody in the plant can see them; looking has no effect."""
        return self._passed_s

    def now(self) -> datetime:
        self._on_look()
        return self.start + timedelta(seconds=self._passed_s + self.steps_s)

    def monotonic(self) -> float:
        self._on_look()
        return self._passed_s

    def sleep(self, seconds: float) -> None:
        self._passed_s += max(seconds, 0.0)
        self._on_look()

    def wait_until(self, passed_s: float) -> None:
        """Let time pass up to then; no effect where it has passed."""
        self._passed_s = max(self._passed_s, passed_s)
        self._on_look()
