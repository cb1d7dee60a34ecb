"""What a process writes down for the next one, while readings come."""

import asyncio
import hashlib
from pathlib import Path

import numpy as np
import pytest

from gateway.decoding import Reading
from gateway.fleets import open_fleet
from gateway.known_letters import KnownLetters
from gateway.retention import Retention, UnderWay
from gateway.sequences import Sequences, Snapshot, Verdict, read_snapshot
from gateway.settings import settings_of
from gateway.spool import Spool, SpoolSettings
from tests.gateway.nothing_under_way import NothingUnderWay
from tests.gateway.test_edge_scoring import Edge

MACHINES = [f"P-{n:04d}" for n in range(300)]
BEFORE, MEANWHILE = 3, 400


def served(folder: Path) -> Edge:
    """A fleet with a release."""
    edge = Edge(folder)
    edge.made.release()
    edge.look()
    return edge


def retention(spool: Spool, edge: Edge, under_way: UnderWay, ids: Sequences | None = None) -> Retention:
    """That has something to write."""
    known = Snapshot(Sequences() if ids is None else ids, None, 0, ())
    kept = Retention(spool, known.sequences, KnownLetters(), [edge.fleet], edge.made.folders, known, under_way)
    kept.kept = 1
    return kept


def test_what_is_written_while_readings_come_holds_all_that_came_before(tmp_path: Path) -> None:
    """And, where those of meanwhile are taken in again, as from the spool, ids and features are to the bit as here."""
    edge, ids = served(tmp_path), Sequences()
    fleet = edge.fleet
    taken: list[Reading] = []

    def take(number: int) -> None:
        reading = edge.reading(1 + number // len(MACHINES), MACHINES[number % len(MACHINES)])
        taken.append(reading)
        digest = hashlib.blake2b(repr(reading).encode(), digest_size=8).digest()
        ids.add(reading.equipment, reading.session, reading.seq, digest)
        ids.confirm(reading.equipment, reading.session, reading.seq)
        fleet.scoring.take([reading])

    async def run(spool: Spool) -> None:
        kept = retention(spool, edge, NothingUnderWay(), ids)
        writing = asyncio.create_task(kept.snapshot(last=True))
        while not writing.done():  # at every turn of the loop, so between any two parts
            if len(taken) < BEFORE * len(MACHINES) + MEANWHILE:
                take(len(taken))
            await asyncio.sleep(0)
        await writing

    for number in range(BEFORE * len(MACHINES)):
        take(number)
    with Spool(tmp_path / "spool", SpoolSettings()) as spool:
        asyncio.run(run(spool))
    since = taken[BEFORE * len(MACHINES) :]
    assert since
    again = open_fleet(edge.made.plant, settings_of(edge.made.plant), edge.made.folders, "pump")
    again.recover()
    assert again.scoring.features is not None
    again.scoring.features.take(since, again=True)
    probe = [edge.reading(100, name) for name in MACHINES]
    ours, theirs = fleet.scoring.take(probe), again.scoring.take(probe)
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(ours.features.matrix, theirs.features.matrix)
    assert again.told()["late"] == 0
    known = read_snapshot(edge.made.folders.sequences).sequences
    for reading in taken[: BEFORE * len(MACHINES)]:
        assert known.check(reading.equipment, reading.session, reading.seq, bytes(8)) is Verdict.CONFLICT


@pytest.mark.parametrize("taken", [True, False])
def test_a_checkpoint_is_written_when_the_disk_has_all_that_it_holds_and_not_where_it_refused_some(
    tmp_path: Path, taken: bool
) -> None:
    edge = served(tmp_path)
    fleet, written = edge.fleet, edge.made.folders.live("pump")
    fleet.scoring.take([edge.reading(1)])

    async def run(spool: Spool) -> tuple[bool, bool]:
        settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asked = asyncio.Event()

        class Waiting(NothingUnderWay):
            async def all_settled(self) -> bool:
                asked.set()
                return await settled

        kept = retention(spool, edge, Waiting())
        writing = asyncio.create_task(kept.snapshot(last=True))
        await asyncio.wait_for(asked.wait(), 10)
        before = written.exists()
        settled.set_result(taken)
        await writing
        return before, written.exists()

    with Spool(tmp_path / "spool", SpoolSettings()) as spool:
        assert asyncio.run(run(spool)) == (False, taken)
    assert (read_snapshot(edge.made.folders.sequences).spool is not None) is taken


def test_no_checkpoint_is_made_of_features_that_hold_what_the_disk_refused_though_others_take_their_place(
    tmp_path: Path,
) -> None:
    edge = served(tmp_path)
    fleet, written = edge.fleet, edge.made.folders.live("pump")
    fleet.scoring.take([edge.reading(1)])

    class TakenOver(NothingUnderWay):
        async def all_settled(self) -> bool:
            fleet.scoring.doubt()
            change = await asyncio.to_thread(fleet.prepared)
            assert change is not None
            fleet.take_over(change)
            return True

    async def run(spool: Spool) -> None:
        kept = retention(spool, edge, TakenOver())
        await kept.snapshot(last=True)

    with Spool(tmp_path / "spool", SpoolSettings()) as spool:
        asyncio.run(run(spool))
    assert not fleet.doubted
    assert not written.exists()
