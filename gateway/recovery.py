"""What the spool holds, read again: at start for what was kept before, later for features against another baseline."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from gateway.decoding import Reading, Sent, decode, digest_of
from gateway.known_machines import machine_of
from gateway.ports import Message
from gateway.records import Record
from gateway.writer import MOST_AT_ONCE

if TYPE_CHECKING:
    from gateway.edge_features import EdgeFeatures
    from gateway.fleets import Fleet
    from gateway.intake import Judge
    from gateway.known_letters import KnownLetters
    from gateway.known_machines import KnownMachines
    from gateway.sequences import Sequences, Snapshot
    from gateway.spool import Spool

_A_TURN = 32
"""Readings that are read again between two pauses: a millisecond."""
_PAUSE = 2.0
"""How many times as long as the turn before a pause is. Where the loop takes turns and never waits, the thread that
scores does not get the interpreter."""


class SpoolHistory:
    """The spool's readings, as today's contracts have them.

    Args:
        fleet_of: the fleet of a machine.
    """

    def __init__(self, spool: Spool, judge: Judge, fleet_of: Callable[[str], str | None]) -> None:
        self._spool, self._judge, self._fleet_of = spool, judge, fleet_of

    def recover(self, known: Snapshot, letters: KnownLetters, machines: KnownMachines, fleets: Sequence[Fleet]) -> None:
        """Know again which ids and dead letters were kept, which machines there are, and where they stand, from
        snapshots and from what the spool holds.

        Reading a record again changes nothing: its id is known then, and it is not newer than its machine's newest.
        """
        anew = [fleet.recover() for fleet in fleets]
        for fleet in fleets:
            if fleet.scoring.features is not None:
                machines.know(fleet.name, fleet.scoring.features.machines)
        self._know(machines, map(machine_of, known.sequences.sources()))  # features there may not be yet
        machines.know_senders(known.sequences.sources())
        whole = any(anew) or known.spool != self._spool.id
        begin = self._spool.begin if whole else max(known.position, self._spool.begin)

        def remember(record: Record) -> None:
            if record.reason is not None:
                letters.keep(record.source, record.digest or digest_of(record.raw))
            else:
                _remember(known.sequences, record)
                # Whatever the bound is by now, it was acknowledged.
                self._know(machines, [record.equipment])
                machines.know_senders([record.source])

        for readings in self._readings(begin, self._spool.end, remember):
            for fleet in fleets:
                if fleet.scoring.features is not None:
                    fleet.scoring.features.take(self._of(fleet.name, readings), again=True)

    def _know(self, machines: KnownMachines, names: Iterable[str]) -> None:
        for name in names:
            if (fleet := self._fleet_of(name)) is not None:
                machines.know(fleet, [name])

    async def bring_up_to_date(self, features: EdgeFeatures, fleet: str, kept: Callable[[], int]) -> None:
        """Have features take in what the spool holds up to where it is kept; what comes meanwhile as well."""
        reached, time = self._spool.begin, asyncio.get_running_loop().time
        while reached < (end := kept()):
            began = time()
            for readings in self._readings(reached, end, at_once=_A_TURN):
                features.take(self._of(fleet, readings), again=True)
                await asyncio.sleep((time() - began) * _PAUSE)
                began = time()
            reached = end

    def _of(self, fleet: str, readings: Sequence[Reading]) -> list[Reading]:
        return [r for r in readings if self._fleet_of(r.equipment) == fleet]

    def _readings(
        self, begin: int, end: int, also: Callable[[Record], None] = lambda _: None, at_once: int = MOST_AT_ONCE
    ) -> Iterator[list[Reading]]:
        """Some at a time; `also` is given every record."""
        records = (Record.from_bytes(data) for _, data in self._spool.read(begin, end))
        while some := list(itertools.islice(records, at_once)):
            for record in some:
                also(record)
            messages = [Message(r.source, r.equipment, r.raw, r.received_us) for r in some if r.reason is None]
            yield [judged for judged in map(self._judge.judge, messages) if isinstance(judged, Reading)]


def _remember(sequences: Sequences, record: Record) -> None:
    """Know a record's id, whatever today's contract says of it."""
    if isinstance(sent := decode(record.raw), Sent):
        sequences.kept(record.source, sent.session, sent.seq, digest_of(record.raw))
