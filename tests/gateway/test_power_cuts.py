"""Power cuts on the whole way of a reading: intake, spool, ids and what is let go of, on a disk that loses what was not
confirmed. `kill -9` alone never shows a missing fsync."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from gateway import retention
from gateway.counters import Counters
from gateway.disk_faults import FaultyDisk, PowerCut
from gateway.exchange import Folders
from gateway.intake import DurableIntake
from gateway.known_letters import read_letters, write_letters
from gateway.known_machines import KnownMachines
from gateway.ports import Fate, Message, Settled
from gateway.rates import Rates
from gateway.records import Record
from gateway.recovery import SpoolHistory
from gateway.retention import Retention
from gateway.sequences import read_snapshot, write_snapshot
from gateway.settings import SpoolSettings
from gateway.spool import Spool, SpoolFailed
from tests.gateway.durable_intake import judge
from tests.gateway.hasty_disk import HastyDisk
from tests.gateway.nothing_under_way import NothingUnderWay

LIVES, BURSTS = 12, 8
SETTINGS = SpoolSettings(max_mib=1, segment_mib=1 / 512)
Id = tuple[str, int]


class ForgetfulDisk(FaultyDisk):
    """Confirms nothing, and says that it has."""

    def _sync(self, file: object) -> None:  # noqa: ARG002
        self._alive()


class Plant:
    """Two machines that send again what was not acknowledged, and a gateway whose power is cut again and again.

    Attributes:
        acknowledged: ids of readings and dead letters, as their senders were told.
        stored: ids in the tables, which lie on a disk that loses nothing; and how far they have come.
    """

    def __init__(self, folder: Path, seed: int, disk: FaultyDisk, *, impossible: float = 0.1) -> None:
        self.folders, self.disk, self._chance = Folders(folder), disk, random.Random(seed)  # noqa: S311
        self._impossible = impossible
        self.folders.root.mkdir(parents=True, exist_ok=True)
        self.sent = dict.fromkeys(("P-1", "P-2"), 0)
        self.payloads: dict[Id, bytes] = {}
        self.acknowledged: set[Id] = set()
        self.stored: Counter[Id] = Counter()
        self.landed = 0
        self.damaged: list[str] = []
        self.kept_again: list[Id] = []
        self.cuts = 0

    def missing(self) -> set[Id]:
        """What was acknowledged, and is nowhere."""
        with Spool(self.folders.spool, SETTINGS, self.disk, at_least=self.landed) as spool:
            return self.acknowledged - set(self.stored) - {id_of(record) for record in records(spool, spool.begin)}

    def twice(self) -> list[Id]:
        """What stands under two positions."""
        with Spool(self.folders.spool, SETTINGS, self.disk, at_least=self.landed) as spool:
            kept = self.stored + Counter(id_of(record) for record in records(spool, self.landed))
        return [name for name, count in kept.items() if count > 1]

    async def live(self) -> None:
        """From a start until the power is cut."""
        self.disk.cut_after(self._chance.randrange(60))
        try:
            await self._live()
        except (PowerCut, SpoolFailed):
            self.cuts += 1
        self.disk.power_cut()
        self.disk.power_on()

    async def _live(self) -> None:
        known = read_snapshot(self.folders.sequences, self.disk)
        self.damaged += known.damaged
        spool = Spool(self.folders.spool, SETTINGS, self.disk, at_least=max(known.position, self.landed))
        letters = read_letters(self.folders.letters, self.disk)
        SpoolHistory(spool, judge(), lambda _: "pump").recover(known, letters, KnownMachines({"pump": 10}), ())
        kept = Retention(spool, known.sequences, letters, (), self.folders, known, NothingUnderWay())
        kept.landed = self.landed
        intake = DurableIntake(
            spool,
            judge(),
            known.sequences,
            letters,
            pending=1000,
            rates=Rates(None, time.monotonic),
            counters=Counters(),
            kept=lambda _, position: setattr(kept, "kept", position),
            now_us=lambda: time.time_ns() // 1000,
        )
        try:
            for _ in range(BURSTS):
                if not await self._burst(intake):
                    raise PowerCut
                if self._chance.random() < 0.5:
                    self.stored.update(id_of(record) for record in records(spool, self.landed))
                    self.landed = kept.landed = spool.end
                    await kept.snapshot(last=True)
                    await kept.release()
        finally:
            await intake.drain()

    async def _burst(self, intake: DurableIntake) -> bool:
        """Whether all of it was taken."""
        for machine in self.sent:
            for _ in range(self._chance.randrange(6)):
                flow = 1e9 if self._chance.random() < self._impossible else self.sent[machine] % 100
                told = {"ts": "2026-01-02T00:00:00Z", "seq": self.sent[machine], "values": {"flow": flow}}
                self.payloads[machine, self.sent[machine]] = json.dumps(told).encode()
                self.sent[machine] += 1
        waiting = [name for name in self.payloads if name not in self.acknowledged]
        # Who is not sure whether an acknowledgement was meant for it sends once more.
        again = self._chance.sample(sorted(self.acknowledged), min(3, len(self.acknowledged)))
        said: dict[Id, Settled] = {}
        for name in [*waiting, *again]:
            message = Message(name[0], name[0], self.payloads[name], time.time_ns() // 1000)
            intake.offer(message, partial(said.__setitem__, name))
        async with asyncio.timeout(10):
            while len(said) < len({*waiting, *again}):
                await asyncio.sleep(0)
        self.kept_again += [name for name in again if said[name].fate is Fate.KEPT]
        taken = {name for name, settled in said.items() if settled.fate is not Fate.REFUSED}
        self.acknowledged |= taken
        return len(taken) == len(said)


def records(spool: Spool, since: int) -> Iterator[Record]:
    return (Record.from_bytes(data) for _, data in spool.read(since, spool.end))


def id_of(record: Record) -> Id:
    return record.equipment, json.loads(record.raw)["seq"]


def lived(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    monkeypatch.setattr(retention, "write_snapshot", partial(write_snapshot, disk=plant.disk))
    monkeypatch.setattr(retention, "write_letters", partial(write_letters, disk=plant.disk))
    for _ in range(LIVES):
        with suppress(PowerCut):
            asyncio.run(plant.live())
        yield plant


@pytest.mark.parametrize("seed", range(6))
def test_whenever_the_power_is_cut_what_was_acknowledged_is_there_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    disk = FaultyDisk(seed, HastyDisk())
    for plant in lived(Plant(tmp_path, seed, disk), monkeypatch):
        assert plant.missing() == set()
        assert plant.twice() == []
        assert (plant.kept_again, plant.damaged) == ([], [])
    assert plant.cuts >= 3, "in the middle of something"
    assert len(plant.acknowledged) > 50
    assert plant.landed > 0
    disk.dispose()


def test_a_disk_that_confirms_what_it_has_not_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a missing fsync would be."""
    disk = ForgetfulDisk(1, HastyDisk())
    assert any(plant.missing() for plant in lived(Plant(tmp_path, 1, disk), monkeypatch))
    disk.dispose()
