"""Readings on their way to the disk, in the order in which it will have them or refuse them.

They are answered while the disk works: its wait and the model's are then one, not two in a row. What nobody may hear
before the disk has the reading is held back until then. Where the disk fails, features hold readings that were not
kept: they are built anew, and for a while readings wait for the disk before they are looked at, so that a disk that
stays full makes this happen once a minute, and not with every reading.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from gateway.decoding import Reading

CAREFUL_S = 60.0
"""After a failure of the disk, for how long readings wait for it."""


class InFlight:
    """See the module. For one event loop.

    Args:
        monotonic: seconds.

    Attributes:
        begun, settled: how many readings there were so far, and how many of them the disk has or has refused.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._readings: deque[tuple[Reading, bool]] = deque()
        """With whether it was to be answered at once."""
        self._waiting = 0
        """Of them, those that were not."""
        self._careful_until = 0.0
        self._failures = 0
        self._refused: dict[int, Reading] = {}
        """By identity: the same id may come again, and be kept."""
        self._watched: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.begun = self.settled = 0

    def begin(self, reading: Reading) -> Sequence[Reading]:
        """A reading goes to the disk; what is to be answered at once: it, or nothing, or also what came before it."""
        self.begun += 1
        if not self._careful_until:
            self._readings.append((reading, True))
            return (reading,)
        if self._monotonic() < self._careful_until:
            self._readings.append((reading, False))
            self._waiting += 1
            return ()
        waited = [one for one, at_once in self._readings if not at_once]
        self._readings = deque((one, True) for one, _ in self._readings)
        self._readings.append((reading, True))
        self._waiting, self._careful_until = 0, 0.0
        return [*waited, reading]

    def kept(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """The disk has the next readings; those that are to be answered now."""
        next_one = self._readings.popleft
        at_once = [next_one()[1] for _ in readings]
        self._settle(len(readings))
        if not self._waiting or all(at_once):
            return ()
        self._waiting -= at_once.count(False)
        return [reading for reading, answered in zip(readings, at_once, strict=True) if not answered]

    def failed(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """The disk has refused the next readings; those that were to be answered at once."""
        flown = [self._readings.popleft() for _ in readings]
        self._waiting -= sum(not at_once for _, at_once in flown)
        self._careful_until = self._monotonic() + CAREFUL_S
        self._failures += 1
        self._settle(len(readings))
        answered = [reading for reading, at_once in flown if at_once]
        self._refused.update((id(reading), reading) for reading in answered)
        return answered

    def answered(self) -> list[Reading]:
        """Those on their way that features hold already."""
        return [reading for reading, at_once in self._readings if at_once]

    @property
    def any_refused(self) -> bool:
        return bool(self._refused)

    def refused(self, reading: Reading) -> bool:
        """Whether the disk refused a reading that was to be answered at once."""
        return id(reading) in self._refused

    def forget_refused(self) -> None:
        """Nobody will ask about those that were refused so far."""
        self._refused.clear()

    async def all_settled(self) -> bool:
        """Wait until all that are on their way now are settled; whether the disk took everything meanwhile."""
        failures = self._failures
        if self._readings:
            settled = asyncio.get_running_loop().create_future()
            self._watched.append((self.begun, settled))
            await settled
        return failures == self._failures

    def _settle(self, count: int) -> None:
        self.settled += count
        while self._watched and self._watched[0][0] <= self.settled:
            _, future = self._watched.popleft()
            if not future.done():
                future.set_result(None)
