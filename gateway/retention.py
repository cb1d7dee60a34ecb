"""How far the gateway has come with what it kept: written down, landed, and so no longer needed in the spool."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol, TypeVar

from gateway.garbage import give_memory_back
from gateway.known_letters import write_letters
from gateway.sequences import Sequences, Snapshot, write_snapshot

if TYPE_CHECKING:
    from gateway.exchange import FleetState, Folders
    from gateway.fleets import Fleet
    from gateway.known_letters import KnownLetters
    from gateway.spool import Spool

_log = logging.getLogger("hybrid.gateway")
_T = TypeVar("_T")

SNAPSHOT_S, SNAPSHOT_RECORDS = 60.0, 100_000
"""When, or after how many records, what is known of ids and features is written; a new start reads on from there."""
HELD_S = 5.0
"""The same where the spool holds what has landed: it may be full."""


class UnderWay(Protocol):
    """Readings that are not settled yet."""

    def take_all(self) -> None:
        """Have features hold all readings that there were so far."""
        ...

    async def all_settled(self) -> bool:
        """Wait until the disk has what features hold by now; False: it refused some of it."""
        ...


class Retention:
    """Positions in the spool, and what follows of them. To be used on the event loop.

    Args:
        under_way: readings that come while this writes.

    The spool lets go of what has landed and stands in snapshots: in the last but one, so that a snapshot that the disk
    damages later costs no ids.

    Attributes:
        kept: the disk has confirmed what is before it.
        landed: as far as the porter says.
    """

    def __init__(
        self,
        spool: Spool,
        sequences: Sequences,
        letters: KnownLetters,
        fleets: Iterable[Fleet],
        folders: Folders,
        known: Snapshot,
        under_way: UnderWay,
    ) -> None:
        self._letters = letters
        self._spool, self._sequences, self._fleets, self._folders = spool, sequences, tuple(fleets), folders
        self._under_way = under_way
        self.kept, self.landed = spool.end, 0
        self._snapped = known.position if known.spool == spool.id else spool.begin
        self._releasable = self._released = 0
        self._snapped_at = time.monotonic()
        self._snapping = asyncio.Lock()

    async def snapshot(self, *, last: bool = False) -> None:
        """Write what the next process would else have to read the spool for, where that has become much.

        Also where nothing comes any more, for a full spool say, but what has landed could be let go of.
        """
        async with self._snapping:
            since, now = self.kept - self._snapped, time.monotonic()
            held = min(self.landed, self.kept) > self._releasable
            old_s = now - self._snapped_at
            due = since >= SNAPSHOT_RECORDS or old_s >= (HELD_S if held else SNAPSHOT_S)
            if (since or held) and (last or due):
                await self._write(now)

    async def release(self) -> None:
        """Let the spool go of what has landed and is in the snapshots."""
        if (position := min(self.landed, self._releasable)) > self._released:
            await asyncio.to_thread(self._spool.release, position)
            self._released = position

    def _all_on_disk(self, fleet: Fleet, loop: asyncio.AbstractEventLoop) -> Iterator[FleetState] | None:
        """The parts of a checkpoint, with no end to them until the disk has every reading that they hold; None: there
        are none."""
        of, parts = fleet.scoring.features, fleet.checkpoint()

        def all_of(parts: Iterator[FleetState]) -> Iterator[FleetState]:
            yield from _taken_on(loop, parts)
            settled = asyncio.run_coroutine_threadsafe(self._under_way.all_settled(), loop).result()
            if not settled or fleet.doubted or fleet.scoring.features is not of:
                raise _InDoubt  # others may have taken the place of those that were doubted

        return None if parts is None else all_of(parts)

    async def _write(self, now: float) -> None:
        if any(fleet.doubted for fleet in self._fleets):
            return
        position, loop, letters = self.kept, asyncio.get_running_loop(), self._letters.to_bytes()
        sequences = _taken_on(loop, self._sequences.to_parts(self._spool.id, position))
        self._under_way.take_all()
        states = [(fleet, self._all_on_disk(fleet, loop)) for fleet in self._fleets]

        def write() -> None:
            for fleet, state in states:
                if state is not None:
                    fleet.write(state)
            write_letters(self._folders.letters, letters)  # before the spool is read from there only
            write_snapshot(self._folders.sequences, sequences)
            give_memory_back()

        try:
            await asyncio.to_thread(write)
        except _InDoubt:
            return  # it is written once features are built anew
        except OSError as error:  # a full disk: the spool keeps what this would have stood for
            _log.error("no snapshot", extra={"told": {"why": str(error)}})
            self._releasable = self._snapped  # the last one is on the disk, and room is what it lacks
            return
        self._releasable, self._snapped, self._snapped_at = self._snapped, position, now


class _InDoubt(Exception):
    """Features hold what the disk refused."""


def _taken_on(loop: asyncio.AbstractEventLoop, items: Iterator[_T]) -> Iterator[_T]:
    """For another thread: each item is made on the loop, whose own they are made of, in between what else it does."""

    def take(taken: Future[list[_T]]) -> None:
        try:
            taken.set_result(list(itertools.islice(items, 1)))
        except BaseException as error:  # it is the other thread's
            taken.set_exception(error)

    while True:
        taken: Future[list[_T]] = Future()
        loop.call_soon_threadsafe(take, taken)
        if not (found := taken.result()):
            return
        yield from found
