"""The thread that waits for the disk: whatever has come while it wrote is written next, all at once.

A single reading is written at once, and thousands share one `fsync`, with nothing to set.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from backbone.errors import HybridError

T = TypeVar("T")

MOST_AT_ONCE = 4096
"""Records of one write: memory and the time until the first of them is confirmed stay bounded."""


class Appends(Protocol):
    """What is needed of a spool."""

    def append(self, records: Sequence[bytes]) -> int:
        """Keep records; returns the position after the last of them once the disk has confirmed them all."""
        ...


class Writer(Generic[T]):
    """Hands records to a spool from a thread of its own, and says on the event loop what became of them.

    Args:
        kept: called with what came with the records, and the position after the last of them.
        failed: called with what came with records of which nothing was kept, and why.
    """

    def __init__(
        self,
        spool: Appends,
        loop: asyncio.AbstractEventLoop,
        kept: Callable[[Sequence[T], int], None],
        failed: Callable[[Sequence[T], HybridError], None],
    ) -> None:
        self._spool, self._loop, self._kept, self._failed = spool, loop, kept, failed
        self._fresh: list[tuple[bytes, T]] = []
        """Of this turn of the loop: to wake the thread for each of hundreds costs more than to write them."""
        self._waiting: list[tuple[bytes, T]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()

    def write(self, record: bytes, belongs: T) -> None:
        """Have a record written; never blocks. To be called on the loop, and not after `close`."""
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append((record, belongs))

    def close(self) -> None:
        """Write what is waiting, and end. Blocks."""
        with self._changed:
            self._closing = True
            self._hand_over()
        self._thread.join()

    def _hand_over(self) -> None:
        with self._changed:
            fresh, self._fresh = self._fresh, []
            self._waiting += fresh
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                taken, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            belongs = [each for _, each in taken]
            try:
                position = self._spool.append([record for record, _ in taken])
            except HybridError as error:
                self._told(self._failed, belongs, error)
            else:
                self._told(self._kept, belongs, position)

    def _told(self, who: Callable[..., None], *what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(who, *what)
        except RuntimeError:  # the loop has ended: nobody is left to acknowledge to
            return
