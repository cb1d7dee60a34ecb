"""The thread that waits for the disk: whatever has come while it wrote is written next, all at once.

A single reading is written at once, and thousands share one `fsync`, with nothing to set.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from backbone.errors import HybridError, StorageFull, Transient

T = TypeVar("T")

MOST_AT_ONCE, MOST_BYTES_AT_ONCE = 4096, 8 << 20
"""Records of one write, and their bytes: memory and the time until the first is confirmed stay bounded."""


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
        self._turns: queue.SimpleQueue[list[tuple[bytes, T]] | None] = queue.SimpleQueue()
        """None: that was all."""
        self._worker = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._worker.start()

    def write(self, record: bytes, belongs: T) -> None:
        """Have a record written; never blocks. To be called on the loop, and not after `close`."""
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append((record, belongs))

    def close(self) -> None:
        """Let the thread write what is waiting, and end. To be called on the loop; `join` waits for it."""
        self._hand_over()
        self._turns.put(None)

    def join(self) -> None:
        """Block until all is written, after `close`. For another thread than the loop's."""
        self._worker.join()

    def _hand_over(self) -> None:
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            self._turns.put(fresh)

    def _run(self) -> None:
        turns = self._turns
        while (waiting := turns.get()) is not None:
            ended = False
            while waiting:
                while not ended and len(waiting) < MOST_AT_ONCE and not turns.empty():
                    more = turns.get()
                    ended = more is None
                    waiting += more or ()
                count = _fit(waiting)
                self._keep(waiting[:count])
                del waiting[:count]
            if ended:
                return

    def _keep(self, rest: list[tuple[bytes, T]]) -> None:
        """Append records: all at once, or where the spool has no room for so many, as many as it has room for."""
        size = len(rest)
        while rest:
            some, belongs = rest[:size], [each for _, each in rest[:size]]
            try:
                position = self._spool.append([record for record, _ in some])
            except StorageFull as error:
                if size == 1:
                    self._told(self._failed, [each for _, each in rest], error)
                    return
                size = (size + 1) // 2
            except HybridError as error:
                self._told(self._failed, [each for _, each in rest], error)
                return
            except Exception as error:  # whatever it is, the thread goes on, and senders are told
                told = Transient(f"The spool failed: {error!r}.", next_step="Send again.")
                self._told(self._failed, [each for _, each in rest], told)
                return
            else:
                self._told(self._kept, belongs, position)
                rest = rest[size:]

    def _told(self, who: Callable[..., None], *what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(who, *what)
        except RuntimeError:  # the loop has ended: nobody is left to acknowledge to
            return


def _fit(waiting: Sequence[tuple[bytes, object]]) -> int:
    """How many of them are written at once: one at least."""
    size = 0
    for count, (record, _) in enumerate(waiting[:MOST_AT_ONCE]):
        size += len(record)
        if size > MOST_BYTES_AT_ONCE and count:
            return count
    return min(len(waiting), MOST_AT_ONCE)
