"""Time as a port, so that waits can be simulated: what a plant does over a month is tested in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is, and how to wait."""

    def now(self) -> datetime:
        """The wall clock, UTC. It may step, forwards and backwards."""
        ...

    def monotonic(self) -> float:
        """Seconds since some instant; never goes back. Durations and deadlines are measured with it."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...
