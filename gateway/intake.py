"""The way of a reading from its arrival to its acknowledgement: judged, told apart from those before it, kept."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from backbone.errors import HybridError, StorageFull
from gateway import reasons
from gateway.counters import Counters
from gateway.decoding import Reading, Refusal, digest_of
from gateway.ports import Fate, Message, Settled
from gateway.rates import Rates
from gateway.records import Record
from gateway.sequences import Sequences, Verdict
from gateway.writer import Appends, Writer

_log = logging.getLogger("hybrid.gateway")

LETTERS_REMEMBERED = 50_000
"""Dead letters whose repetition is known for one: a sender that was not acknowledged sends again."""
LONGEST_LETTER = 1 << 20
"""Bytes kept of a dead letter; of a longer one the beginning, and the digest of the whole in the log."""
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
class _Kept:
    """A record on its way to the disk, and all who wait for it."""

    settled: Settled
    source: str
    came_us: int
    waiting: list[Settle]
    size: int
    reading: Reading | None = None
    letter: _Letter | None = None


class DurableIntake:
    """The gateway's `Intake`. To be used on one event loop.

    Args:
        kept: told of readings as the disk has confirmed them, in that order, after their senders were.
        now_us: microseconds since 1970, UTC.
    """

    def __init__(
        self,
        spool: Appends,
        judge: Judge,
        sequences: Sequences,
        *,
        pending: int,
        rates: Rates,
        counters: Counters,
        kept: Callable[[Sequence[Reading], int], None],
        now_us: Callable[[], int],
    ) -> None:
        self._judge, self._sequences, self._rates, self._counters = judge, sequences, rates, counters
        self._most, self._tell, self._now_us = pending, kept, now_us
        self._readings: dict[_Id, _Kept] = {}
        """On their way to the disk, by id."""
        self._letters: OrderedDict[_Letter, _Kept | None] = OrderedDict()
        """Dead letters; None: the disk has confirmed it."""
        self._pending = self._pending_bytes = 0
        self._draining = False
        self._writer: Writer[_Kept] = Writer(spool, asyncio.get_running_loop(), self._confirmed, self._failed)

    @property
    def pending(self) -> int:
        """Records that the disk has not confirmed."""
        return self._pending

    def remember_letter(self, source: str, digest: bytes) -> None:
        """Of a dead letter that was kept before this process began."""
        self._note_letter((source, digest), None)

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
        verdict = self._sequences.check(*key, judged.digest)
        if verdict is Verdict.NEW:
            record = _record(message, None)
            told = Settled(Fate.KEPT, None, judged.session, judged.seq)
            kept = _Kept(told, message.source, message.received_us, [settled], len(record), reading=judged)
            self._sequences.add(*key, judged.digest)
            self._readings[key] = kept
            self._write(record, kept)
        elif verdict is Verdict.DUPLICATE:
            known = Settled(Fate.DUPLICATE, None, judged.session, judged.seq)
            if (first := self._readings.get(key)) is not None:
                first.waiting.append(lambda was: settled(known if was.fate is Fate.KEPT else was))
                self._counters.fates[Fate.DUPLICATE, message.source] += 1
            else:
                self._settle(message.source, known, settled)
        else:
            reason = reasons.CONFLICTING_DUPLICATE if verdict is Verdict.CONFLICT else reasons.TOO_OLD_TO_COMPARE
            self._keep_letter(message, Refusal(reason, session=judged.session, seq=judged.seq), settled)

    def dead_letter(self, source: str, equipment: str, raw: bytes, reason: str, settled: Settle) -> None:
        """See `gateway.ports.Intake.dead_letter`."""
        if (closed := self._closed(source)) is not None:
            self._settle(source, closed, settled)
            return
        self._keep_letter(Message(source, equipment, raw, self._now_us()), Refusal(reason), settled)

    def refused(self, source: str, reason: str, raw: bytes = b"") -> None:
        """See `gateway.ports.Intake.refused`."""
        self._counters.fates[Fate.REFUSED, source] += 1
        self._counters.reasons[Fate.REFUSED, reason] += 1
        _log.warning("refused", extra={"told": {"source": source, "reason": reason, "digest": digest_of(raw).hex()}})

    async def drain(self) -> None:
        """Refuse what comes from now on, and wait until the disk has what came before."""
        self._draining = True
        await asyncio.to_thread(self._writer.close)
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
        key = (message.source, digest_of(message.payload))
        told = Settled(Fate.DEAD_LETTER, refusal.reason, refusal.session, refusal.seq)
        if key in self._letters:
            self._letters.move_to_end(key)
            if (first := self._letters[key]) is not None:
                first.waiting.append(settled)
                self._counters.fates[Fate.DEAD_LETTER, message.source] += 1
            else:
                self._settle(message.source, told, settled)
            return
        record = _record(message, refusal.reason)
        kept = _Kept(told, message.source, message.received_us, [settled], len(record), letter=key)
        self._note_letter(key, kept)
        self._write(record, kept)
        trouble = {"source": message.source, "equipment": message.equipment, "reason": refusal.reason}
        _log.warning(
            "dead letter",
            extra={"told": trouble | {"digest": key[1].hex(), "traceparent": message.traceparent}},
        )

    def _note_letter(self, key: tuple[str, bytes], kept: _Kept | None) -> None:
        self._letters[key] = kept
        while len(self._letters) > LETTERS_REMEMBERED:
            self._letters.popitem(last=False)

    def _write(self, record: bytes, kept: _Kept) -> None:
        self._pending += 1
        self._pending_bytes += kept.size
        self._writer.write(record, kept)

    def _confirmed(self, batch: Sequence[_Kept], position: int) -> None:
        now = self._now_us()
        readings: list[Reading] = []
        self._settled(batch)
        for kept in batch:
            if (reading := kept.reading) is not None:
                self._sequences.confirm(*_id(reading))
                del self._readings[_id(reading)]
                readings.append(reading)
                for flag in reading.flags:
                    self._counters.flags[flag] += 1
            elif kept.letter is not None and kept.letter in self._letters:
                self._letters[kept.letter] = None
            self._counters.kept_after.add((now - kept.came_us) / 1e6)
            self._told(kept)
        self._tell(readings, position)

    def _settled(self, batch: Sequence[_Kept]) -> None:
        self._pending -= len(batch)
        self._pending_bytes -= sum(kept.size for kept in batch)

    def _failed(self, batch: Sequence[_Kept], error: HybridError) -> None:
        self._settled(batch)
        reason = reasons.SPOOL_FULL if isinstance(error, StorageFull) else reasons.SPOOL_FAILED
        _log.error("not kept", extra={"told": {"reason": reason, "why": str(error), "records": len(batch)}})
        for kept in batch:
            if (reading := kept.reading) is not None:
                self._sequences.forget(*_id(reading))
                del self._readings[_id(reading)]
            elif kept.letter is not None:
                self._letters.pop(kept.letter, None)
            kept.settled = Settled(Fate.REFUSED, reason, kept.settled.session, kept.settled.seq, RETRY_S)
            self._told(kept)

    def _told(self, kept: _Kept) -> None:
        first, *others = kept.waiting
        self._settle(kept.source, kept.settled, first)
        for settle in others:
            _call(settle, kept.settled)

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


def _record(message: Message, reason: str | None) -> bytes:
    raw = message.payload if reason is None else message.payload[:LONGEST_LETTER]
    return Record(message.source, message.equipment, raw, message.received_us, reason, message.traceparent).to_bytes()
