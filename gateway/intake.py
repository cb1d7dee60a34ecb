"""The way of a reading from its arrival to its acknowledgement: judged, told apart from those before it, kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from backbone.errors import HybridError, StorageFull
from gateway import reasons
from gateway.counters import Counters
from gateway.decoding import Reading, Refusal, digest_of
from gateway.known_letters import KnownLetters
from gateway.ports import Fate, Message, Settled
from gateway.rates import Rates
from gateway.records import record_bytes
from gateway.sequences import Sequences, Verdict
from gateway.writer import Appends, Writer

_log = logging.getLogger("hybrid.gateway")

LONGEST_LETTER = 1 << 20
"""Bytes kept of a dead letter; of a longer one the beginning, and the digest of the whole."""
LONGEST_SHOWN = 256
"""Characters of a name that are logged: senders choose names, of up to 64 KiB."""
MOST_PENDING_BYTES = 64 << 20
RETRY_S = 1.0
"""When a refused sender may come again."""
Settle = Callable[[Settled], None]
_Id = tuple[str, str, int]
_Letter = tuple[str, bytes]
"""Who sent a dead letter, and its digest."""


class Judge(Protocol):
    """What a message is held against."""

    def judge(self, message: Message) -> Reading | Refusal:
        """The reading that it is, maybe flagged, or why it is none."""
        ...


@dataclass(slots=True)
class _DeadLetter:
    """A dead letter on its way to the disk.

    Attributes:
        again: who sent the same meanwhile.
    """

    key: _Letter
    told: Settled
    came_us: int
    again: list[Settle] = field(default_factory=list)


_OnItsWay = tuple[Reading | _DeadLetter, Settle, int]
"""What is being written, who sent it, and the bytes of its record."""


class DurableIntake:
    """The gateway's `Intake`. To be used on one event loop.

    Args:
        letters: dead letters that were kept; it learns of those that are.
        begun: told of each new reading as it goes to the disk.
        kept: told of readings as the disk has confirmed them, in that order, after their senders were.
        failed: told of those that it refused, as well.
        now_us: microseconds since 1970, UTC.
    """

    def __init__(
        self,
        spool: Appends,
        judge: Judge,
        sequences: Sequences,
        letters: KnownLetters,
        *,
        pending: int,
        rates: Rates,
        counters: Counters,
        kept: Callable[[Sequence[Reading], int], None],
        begun: Callable[[Reading], None] = lambda _: None,
        failed: Callable[[Sequence[Reading]], None] = lambda _: None,
        now_us: Callable[[], int],
    ) -> None:
        self._judge, self._sequences, self._rates, self._counters = judge, sequences, rates, counters
        self._most, self._tell, self._now_us = pending, kept, now_us
        self._tell_begun, self._tell_failed = begun, failed
        self._again: dict[_Id, list[Settle]] = {}
        """Who sent a reading again that is on its way to the disk."""
        self._letters = letters
        self._on_their_way: dict[_Letter, _DeadLetter] = {}
        """Dead letters that the disk has not confirmed."""
        self._pending = self._pending_bytes = 0
        self._draining = False
        self._writer: Writer[_OnItsWay] = Writer(spool, asyncio.get_running_loop(), self._confirmed, self._failed)

    @property
    def pending(self) -> int:
        """Records that the disk has not confirmed."""
        return self._pending

    def offer(self, message: Message, settled: Settle) -> None:
        """See `gateway.ports.Intake.offer`."""
        if (closed := self._closed(message.source)) is not None:
            self._settle(message.source, closed, settled)
            return
        judged = self._judge.judge(message)
        if isinstance(judged, Refusal):
            if judged.not_ours:
                self._settle(message.source, Settled(Fate.NOT_OURS, judged.reason), settled)
            else:
                self._keep_letter(message, judged, settled)
            return
        key = _id(judged)
        verdict = self._sequences.admit(*key, judged.digest)
        if verdict is Verdict.NEW:
            self._write(message, message.payload, None, judged, settled)
            self._tell_begun(judged)
        elif verdict is Verdict.DUPLICATE:
            if self._sequences.is_pending(*key):
                self._again.setdefault(key, []).append(settled)
                self._counters.fates[Fate.DUPLICATE, message.source] += 1
            else:
                self._settle(message.source, Settled(Fate.DUPLICATE, None, judged.session, judged.seq), settled)
        else:
            reason = reasons.CONFLICTING_DUPLICATE if verdict is Verdict.CONFLICT else reasons.TOO_OLD_TO_COMPARE
            self._keep_letter(message, Refusal(reason, session=judged.session, seq=judged.seq), settled)

    def dead_letter(
        self, source: str, equipment: str, raw: bytes, reason: str, settled: Settle, digest: bytes | None = None
    ) -> None:
        """See `gateway.ports.Intake.dead_letter`."""
        if (closed := self._closed(source)) is not None:
            self._settle(source, closed, settled)
            return
        message = Message(source, equipment, raw, self._now_us(), digest=digest)
        self._keep_letter(message, Refusal(reason), settled)

    def refused(self, source: str, reason: str, raw: bytes = b"") -> None:
        """See `gateway.ports.Intake.refused`."""
        self._counters.fates[Fate.REFUSED, source] += 1
        self._counters.reasons[Fate.REFUSED, reason] += 1
        _log.warning(
            "refused",
            extra={"told": {"source": source[:LONGEST_SHOWN], "reason": reason, "digest": digest_of(raw).hex()}},
        )

    async def drain(self) -> None:
        """Refuse what comes from now on, and wait until the disk has what came before."""
        self._draining = True
        self._writer.close()
        await asyncio.to_thread(self._writer.join)
        await asyncio.sleep(0)  # what the writer has told stands in the loop's queue before this

    def _closed(self, source: str) -> Settled | None:
        """Why nothing is taken in just now, if so."""
        if self._draining:
            return Settled(Fate.REFUSED, reasons.DRAINING, retry_after_s=RETRY_S)
        if self._pending >= self._most or self._pending_bytes >= MOST_PENDING_BYTES:
            return Settled(Fate.REFUSED, reasons.BUSY, retry_after_s=RETRY_S)
        if (wait_s := self._rates.wait_s(source)) > 0:
            return Settled(Fate.REFUSED, reasons.RATE_EXCEEDED, retry_after_s=wait_s)
        return None

    def _keep_letter(self, message: Message, refusal: Refusal, settled: Settle) -> None:
        key = (message.source, message.digest or digest_of(message.payload))
        told = Settled(Fate.DEAD_LETTER, refusal.reason, refusal.session, refusal.seq)
        if (first := self._on_their_way.get(key)) is not None:
            first.again.append(settled)
            self._counters.fates[Fate.DEAD_LETTER, message.source] += 1
            return
        if self._letters.has(*key):
            self._settle(message.source, told, settled)
            return
        letter = self._on_their_way[key] = _DeadLetter(key, told, message.received_us)
        kept = message.payload[:LONGEST_LETTER]
        whole = message.digest is None and len(kept) == len(message.payload)
        self._write(message, kept, refusal.reason, letter, settled, None if whole else key[1])
        names = {"source": message.source[:LONGEST_SHOWN], "equipment": message.equipment[:LONGEST_SHOWN]}
        why = {"reason": refusal.reason, "digest": key[1].hex(), "traceparent": message.traceparent}
        _log.warning("dead letter", extra={"told": names | why})

    def _write(
        self,
        message: Message,
        raw: bytes,
        reason: str | None,
        what: Reading | _DeadLetter,
        settled: Settle,
        digest: bytes | None = None,
    ) -> None:
        """`digest`: of all of it, where `raw` is its beginning."""
        source, equipment, trace = message.source, message.equipment, message.traceparent
        record = record_bytes(source, equipment, raw, message.received_us, reason, trace, digest)
        size = len(record)
        self._pending += 1
        self._pending_bytes += size
        self._writer.write(record, (what, settled, size))

    def _confirmed(self, batch: Sequence[_OnItsWay], position: int) -> None:
        """Tell those who sent what the disk has by now, in the order in which it came."""
        now_us = self._now_us()
        self._written(batch)
        readings = [what for what, _, _ in batch if isinstance(what, Reading)]
        self._count(readings, now_us)
        confirm, again, kept = self._sequences.confirm, self._again, Fate.KEPT
        for what, settle, _ in batch:
            if isinstance(what, Reading):
                source, session, seq = what.source, what.session, what.seq
                confirm(source, session, seq)
                _call(settle, Settled(kept, None, session, seq))
                for other in again.pop((source, session, seq), ()) if again else ():
                    _call(other, Settled(Fate.DUPLICATE, None, session, seq))
            else:
                del self._on_their_way[what.key]
                self._letters.keep(*what.key)
                self._counters.kept_after.add((now_us - what.came_us) / 1e6)
                self._settle(what.key[0], what.told, settle)
                for other in what.again:
                    _call(other, what.told)
        self._tell(readings, position)

    def _count(self, readings: Sequence[Reading], now_us: int) -> None:
        """Many come at few times."""
        counters, kept = self._counters, Fate.KEPT
        came_us, times = 0, 0
        for reading in readings:
            counters.fates[kept, reading.source] += 1
            for flag in reading.flags:
                counters.flags[flag] += 1
            if reading.received_us != came_us and times:
                counters.kept_after.add((now_us - came_us) / 1e6, times)
                times = 0
            came_us = reading.received_us
            times += 1
        if times:
            counters.kept_after.add((now_us - came_us) / 1e6, times)

    def _written(self, batch: Sequence[_OnItsWay]) -> None:
        self._pending -= len(batch)
        self._pending_bytes -= sum([size for _, _, size in batch])

    def _failed(self, batch: Sequence[_OnItsWay], error: HybridError) -> None:
        self._written(batch)
        reason = reasons.SPOOL_FULL if isinstance(error, StorageFull) else reasons.SPOOL_FAILED
        _log.error("not kept", extra={"told": {"reason": reason, "why": str(error), "records": len(batch)}})
        for what, settle, _ in batch:
            again: Sequence[Settle]
            if isinstance(what, Reading):
                self._sequences.forget(*_id(what))
                again, source = self._again.pop(_id(what), ()), what.source
                told = Settled(Fate.REFUSED, reason, what.session, what.seq, RETRY_S)
            else:
                del self._on_their_way[what.key]
                again, source = what.again, what.key[0]
                told = Settled(Fate.REFUSED, reason, what.told.session, what.told.seq, RETRY_S)
            self._settle(source, told, settle)
            for other in again:
                _call(other, told)
        self._tell_failed([what for what, _, _ in batch if isinstance(what, Reading)])

    def _settle(self, source: str, told: Settled, settled: Settle) -> None:
        self._counters.fates[told.fate, source] += 1
        if told.reason is not None:
            self._counters.reasons[told.fate, told.reason] += 1
        _call(settled, told)


def _id(reading: Reading) -> _Id:
    return reading.source, reading.session, reading.seq


def _call(settle: Settle, told: Settled) -> None:
    """Tell one who waits; what goes wrong with that is no concern of the others."""
    try:
        settle(told)
    except Exception:
        _log.exception("not told", extra={"told": {"fate": told.fate}})
