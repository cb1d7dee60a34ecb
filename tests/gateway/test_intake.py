"""A reading's way to the disk: nobody is told that it is kept before it is, and nothing is kept twice."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from backbone.errors import HybridError
from gateway import reasons
from gateway.contract_check import ContractJudge, Equipment, ReadingCheck
from gateway.counters import Counters
from gateway.decoding import Reading, digest_of
from gateway.intake import LONGEST_LETTER, DurableIntake
from gateway.known_letters import KnownLetters
from gateway.ports import Fate, Message, Settled
from gateway.rates import Rates
from gateway.records import Record
from gateway.sequences import Sequences
from gateway.settings import SpoolSettings
from gateway.spool import Spool, SpoolFailed, SpoolFull
from resources.catalog.contracts import SHIPPED, read_contracts

PUMP = read_contracts([SHIPPED])["pump"]
NOW_US = 1_790_000_000_000_000


@dataclass
class GatedSpool:
    """A spool whose disk confirms when it is told to."""

    error: Exception | None = None
    records: list[Record] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def append(self, records: Sequence[bytes]) -> int:
        assert self.gate.acquire(timeout=10)
        if self.error is not None:
            raise self.error
        self.calls.append(len(records))
        self.records += [Record.from_bytes(record) for record in records]
        return len(self.records)


@dataclass
class Door:
    """An intake, and what it has said to whom."""

    spool: Any
    intake: DurableIntake
    counters: Counters
    kept: list[Reading]
    said: list[tuple[str, Settled]] = field(default_factory=list)

    def offer(self, name: str, message: Message) -> None:
        self.intake.offer(message, lambda settled: self.said.append((name, settled)))

    @property
    def fates(self) -> list[tuple[str, Fate]]:
        return [(name, settled.fate) for name, settled in self.said]

    async def confirm(self, until: int) -> None:
        """Let the disk confirm, until so many were told."""
        async with asyncio.timeout(10):
            while len(self.said) < until:
                if isinstance(self.spool, GatedSpool):
                    self.spool.gate.release()
                await asyncio.sleep(0.001)


def at_the_door(
    what: Callable[[Door], Awaitable[None]],
    *,
    pending: int = 1000,
    per_s: float | None = None,
    spool: Spool | None = None,
    letters: KnownLetters | None = None,
) -> Door:
    """Run a test's body on an event loop, with an intake of its own."""

    async def run() -> Door:
        counters, kept = Counters(), []  # type: ignore[var-annotated]
        disk = spool if spool is not None else GatedSpool()
        check = ReadingCheck(PUMP, ahead_s=600)
        judge = ContractJudge(Equipment({"pump": ("P-*",)}), {"pump": check}, {})
        intake = DurableIntake(
            disk,
            judge,
            Sequences(),
            KnownLetters() if letters is None else letters,
            pending=pending,
            rates=Rates(per_s, lambda: 0.0),
            counters=counters,
            kept=lambda readings, _: kept.extend(readings),
            now_us=lambda: NOW_US,
        )
        door = Door(disk, intake, counters, kept)
        await what(door)
        for _ in range(100 if isinstance(disk, GatedSpool) else 0):
            disk.gate.release()
        await intake.drain()
        return door

    return asyncio.run(run())


def message(seq: int, flow: float = 41.5, *, source: str = "dev", equipment: str = "P-101") -> Message:
    payload = {"ts": "2026-09-21T12:00:00Z", "seq": seq, "values": {"flow_m3_h": flow}}
    return Message(source, equipment, orjson.dumps(payload), NOW_US)


def test_nobody_is_told_before_the_disk_has_confirmed() -> None:
    async def body(door: Door) -> None:
        door.offer("a", message(1))
        await asyncio.sleep(0.05)
        assert door.said == []
        assert door.kept == []
        await door.confirm(1)
        assert door.said == [("a", Settled(Fate.KEPT, None, "", 1))]
        assert [reading.seq for reading in door.kept] == [1]

    at_the_door(body)


def test_what_comes_while_the_disk_writes_is_written_at_once_after_it() -> None:
    async def body(door: Door) -> None:
        for seq in range(50):
            door.offer(str(seq), message(seq))
            await asyncio.sleep(0)
        await door.confirm(50)
        assert [settled.seq for _, settled in door.said] == list(range(50)), "in the order they came"
        assert len(door.spool.calls) <= 3, "the first, and all others together"

    at_the_door(body)


def test_a_reading_sent_again_is_kept_once_and_told_when_the_first_is_kept() -> None:
    async def body(door: Door) -> None:
        door.offer("first", message(1))
        door.offer("again", message(1))
        assert door.said == [], "the first is not kept yet"
        await door.confirm(2)
        door.offer("late", message(1))
        assert door.fates == [("first", Fate.KEPT), ("again", Fate.DUPLICATE), ("late", Fate.DUPLICATE)]
        assert len(door.spool.records) == 1

    at_the_door(body)


def test_the_same_id_with_another_content_is_a_dead_letter_that_keeps_what_was_sent() -> None:
    async def body(door: Door) -> None:
        door.offer("first", message(1, 40.0))
        door.offer("other", message(1, 41.0))
        await door.confirm(2)
        door.offer("other again", message(1, 41.0))
        told = dict(door.said)
        assert told["other"] == Settled(Fate.DEAD_LETTER, reasons.CONFLICTING_DUPLICATE, "", 1)
        assert told["other again"].fate is Fate.DEAD_LETTER
        good, letter = door.spool.records
        assert (good.reason, letter.reason) == (None, reasons.CONFLICTING_DUPLICATE)
        assert letter.raw == message(1, 41.0).payload

    assert at_the_door(body).counters.reasons[Fate.DEAD_LETTER, reasons.CONFLICTING_DUPLICATE] == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SpoolFull("full", next_step="wait"), reasons.SPOOL_FULL),
        (SpoolFailed("failed", next_step="wait"), reasons.SPOOL_FAILED),
    ],
)
def test_what_the_disk_does_not_take_is_refused_with_all_who_wait_for_it_and_new_when_it_comes_again(
    error: HybridError, reason: str
) -> None:
    async def body(door: Door) -> None:
        door.spool.error = error
        door.offer("first", message(1))
        door.offer("again", message(1))
        door.offer("letter", Message("dev", "P-101", b"{", NOW_US))
        await door.confirm(2)
        refused = [settled for _, settled in door.said if settled.fate is Fate.REFUSED]
        assert len(refused) >= 2
        assert {(settled.reason, settled.retry_after_s) for settled in refused} == {(reason, 1.0)}
        door.said.clear()
        door.spool.error = None
        door.offer("once more", message(1))
        await door.confirm(1)
        assert ("once more", Fate.KEPT) in door.fates

    assert [record.raw for record in at_the_door(body).spool.records].count(message(1).payload) == 1


def test_too_much_that_waits_is_refused_as_busy() -> None:
    async def body(door: Door) -> None:
        for seq in range(5):
            door.offer(str(seq), message(seq))
        assert [settled.reason for _, settled in door.said] == [reasons.BUSY] * 2
        await door.confirm(5)
        door.offer("now", message(4))
        await door.confirm(6)
        assert door.fates[-1] == ("now", Fate.KEPT)

    at_the_door(body, pending=3)


def test_a_source_that_sends_too_much_is_told_when_to_come_again_and_others_are_not_held_up() -> None:
    async def body(door: Door) -> None:
        for seq in range(4):
            door.offer(str(seq), message(seq))
        door.offer("other", message(0, source="another"))
        await door.confirm(5)
        told = dict(door.said)
        assert told["3"].reason == reasons.RATE_EXCEEDED
        assert told["3"].retry_after_s == pytest.approx(1 / 3)
        assert told["other"].fate is Fate.KEPT

    at_the_door(body, per_s=3)


def test_what_comes_after_the_end_was_asked_for_is_refused_and_what_came_before_is_kept() -> None:
    async def body(door: Door) -> None:
        door.offer("before", message(1))
        draining = asyncio.create_task(door.intake.drain())
        await asyncio.sleep(0)
        door.offer("after", message(2))
        door.spool.gate.release()
        await draining
        assert door.fates == [("after", Fate.REFUSED), ("before", Fate.KEPT)]

    at_the_door(body)


def test_a_dead_letter_sent_again_after_a_new_start_is_not_kept_again() -> None:
    async def body(door: Door) -> None:
        for sent in (b"{", b"[" + bytes(LONGEST_LETTER)):
            door.offer("sent", Message("dev", "P-101", sent, NOW_US))
        beginning = Message("dev", "P-101", b"{..", NOW_US, None, digest_of(b"{......"))
        door.offer("sent", beginning)
        await door.confirm(3)
        assert [fate for _, fate in door.fates] == [Fate.DEAD_LETTER] * 3

    letters = KnownLetters()
    first = at_the_door(body, letters=letters).spool.records
    assert [record.digest for record in first] == [None, digest_of(b"[" + bytes(LONGEST_LETTER)), digest_of(b"{......")]
    again = at_the_door(body, letters=KnownLetters.from_bytes(letters.to_bytes()))
    assert again.spool.records == []
    assert again.counters.reasons[Fate.DEAD_LETTER, reasons.TOO_LARGE] == 2


def test_a_sources_own_dead_letter_is_kept_with_its_reason() -> None:
    async def body(door: Door) -> None:
        door.intake.dead_letter(
            "node", "P-101", b"\x00", reasons.INVALID_PROTOBUF, lambda settled: door.said.append(("it", settled))
        )
        await door.confirm(1)

    (record,) = at_the_door(body).spool.records
    assert (record.source, record.raw, record.reason) == ("node", b"\x00", reasons.INVALID_PROTOBUF)


def test_what_is_logged_of_a_name_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async def body(door: Door) -> None:
        door.offer("it", Message("s" * 60_000, "P" * 60_000, b"{", NOW_US))
        door.intake.refused("r" * 60_000, reasons.BUSY)
        await door.confirm(1)

    at_the_door(body)
    assert len(caplog.records) == 2
    assert max(len(str(record.__dict__["told"])) for record in caplog.records) < 1000


def test_a_letter_of_any_size_costs_no_other_its_place(tmp_path: Path) -> None:
    huge = Message("dev", "P-101", b"{" + b"x" * (20 << 20), NOW_US)
    with Spool(tmp_path / "spool", SpoolSettings()) as spool:

        async def body(door: Door) -> None:
            door.offer("huge", huge)
            door.offer("good", message(1))
            await door.confirm(2)
            assert dict(door.fates) == {"huge": Fate.DEAD_LETTER, "good": Fate.KEPT}

        at_the_door(body, spool=spool)
        kept = [Record.from_bytes(data) for _, data in spool.read(0, spool.end)]
    assert [len(record.raw) for record in kept] == [LONGEST_LETTER, len(message(1).payload)]


def test_whatever_a_sender_calls_itself_its_reading_is_kept_and_sent_again_known() -> None:
    async def body(door: Door) -> None:
        strange = replace(message(1), traceparent="\udcff" * 40_000)
        door.offer("strange", strange)
        door.offer("long name", replace(message(2), equipment="P-" + "x" * 70_000))
        await door.confirm(2)
        door.offer("again", message(1))
        assert dict(door.fates) == {
            "strange": Fate.KEPT,
            "long name": Fate.DEAD_LETTER,
            "again": Fate.DUPLICATE,
        }

    at_the_door(body)


def test_one_who_fails_to_be_told_costs_the_others_nothing() -> None:
    async def body(door: Door) -> None:
        def failing(_: Settled) -> None:
            raise ZeroDivisionError

        door.intake.offer(message(1), failing)
        door.offer("second", message(2))
        await door.confirm(1)
        assert door.fates == [("second", Fate.KEPT)]
        assert [reading.seq for reading in door.kept] == [1, 2]

    at_the_door(body)


def test_a_spool_that_fails_in_no_way_it_should_is_refused_and_the_next_reading_is_kept() -> None:
    async def body(door: Door) -> None:
        door.spool.error = MemoryError("no room for it")
        door.offer("first", message(1))
        await door.confirm(1)
        assert door.said[0][1].reason == reasons.SPOOL_FAILED
        door.spool.error = None
        door.offer("first again", message(1))
        await door.confirm(2)
        assert door.fates[-1] == ("first again", Fate.KEPT)

    at_the_door(body)
