"""An answer in time, whatever the model's thread does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from backbone.fallback import DEADLINE, ERROR
from gateway.answering import Answering
from gateway.counters import Counters
from gateway.decoding import Reading
from gateway.scoring_jobs import MOST, EdgeAdvisory

DEADLINE_S = 0.05


@dataclass
class Fleet:
    """Answers when it is let; by the rules at once."""

    stuck: threading.Event | None = None
    fails: bool = False
    rules_fail: bool = False
    doubted: bool = False
    held: list[int] = field(default_factory=list)
    jobs: list[list[int]] = field(default_factory=list)
    """What it was asked about, each time."""

    def take(self, readings: Sequence[Reading]) -> Sequence[Reading] | None:
        own = [reading for reading in readings if reading.seq >= 0]
        self.held += [reading.seq for reading in own]
        return own or None

    def answer(self, asked: Sequence[Reading]) -> Sequence[EdgeAdvisory]:
        self.jobs.append([reading.seq for reading in asked])
        if self.stuck is not None:
            assert self.stuck.wait(10)
        if self.fails:
            raise ZeroDivisionError
        return self._told(asked, "model:v1", None)

    def answer_by_rules(self, asked: Sequence[Reading], reason: str) -> Sequence[EdgeAdvisory]:
        if self.rules_fail:
            raise ZeroDivisionError
        return self._told(asked, "rules", reason)

    def doubt(self) -> None:
        self.doubted = True

    @staticmethod
    def _told(asked: Sequence[Reading], who: str, why: str | None) -> Sequence[EdgeAdvisory]:
        return [EdgeAdvisory(r, who, why, str(r.seq).encode()) for r in asked]


class Published(list[EdgeAdvisory]):
    """Where advisories go."""

    fails = False

    def take(self, advisories: Sequence[EdgeAdvisory]) -> None:
        if self.fails:
            raise BrokenPipeError
        self.extend(advisories)


@dataclass
class Floor:
    answering: Answering
    counters: Counters
    published: Published

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.published) < count:
                await asyncio.sleep(0.001)

    @property
    def told(self) -> list[tuple[str, str, str | None]]:
        return [(a.payload.decode(), a.served_by, a.fallback_reason) for a in self.published]


def on_the_floor(fleet: Fleet, body: Callable[[Floor], Awaitable[None]], valves: Fleet | None = None) -> Counters:
    """Machines named P-… are of the fleet; those named V-… of the valves, if there are any."""

    async def run() -> Counters:
        counters = Counters()
        published = Published()
        answering = Answering(
            {"pump": fleet} if valves is None else {"pump": fleet, "valve": valves},
            lambda name: {"P": "pump", "V": "valve"}.get(name[0]),
            published.take,
            deadline_s=DEADLINE_S,
            counters=counters,
        )
        await body(Floor(answering, counters, published))
        if fleet.stuck is not None:
            fleet.stuck.set()
        await answering.close()
        return counters

    return asyncio.run(run())


def reading(seq: int, equipment: str = "P-101") -> Reading:
    return Reading("dev", equipment, "", seq, seq, [], (), seq, None, b"")


def test_the_model_answers_where_it_can_and_what_is_of_no_fleet_is_not_asked_about() -> None:
    async def body(floor: Floor) -> None:
        floor.answering.take([reading(1), reading(2, "V-1"), reading(3), reading(-1)])
        await floor.until(2)
        assert floor.told == [("1", "model:v1", None), ("3", "model:v1", None)]

    counters = on_the_floor(Fleet(), body)
    assert counters.served == {("model:v1", ""): 2}
    assert sum(counters.answered_after.counts) == 2


def test_the_rules_answer_in_time_for_a_model_that_is_stuck_and_its_late_answer_is_dropped() -> None:
    fleet = Fleet(stuck=threading.Event())

    async def body(floor: Floor) -> None:
        began = asyncio.get_running_loop().time()
        floor.answering.take([reading(1)])
        await floor.until(1)
        assert floor.told == [("1", "rules", DEADLINE)]
        assert asyncio.get_running_loop().time() - began >= DEADLINE_S
        assert floor.answering.late
        floor.answering.take([reading(2)])
        assert floor.told[1:] == [("2", "rules", DEADLINE)], "at once: the thread is known to be late"
        assert fleet.stuck is not None
        fleet.stuck.set()
        async with asyncio.timeout(10):
            while floor.answering.late:
                await asyncio.sleep(0.001)
        floor.answering.take([reading(3)])
        await floor.until(3)
        assert floor.told[2:] == [("3", "model:v1", None)]

    on_the_floor(fleet, body)


def test_what_comes_while_the_model_is_busy_is_asked_about_as_one_and_answered_within_its_deadline() -> None:
    fleet = Fleet(stuck=threading.Event())

    async def body(floor: Floor) -> None:
        floor.answering.take([reading(0)])
        for seq in range(1, 9):
            floor.answering.take([reading(seq)])
            await asyncio.sleep(0)
        assert fleet.stuck is not None
        fleet.stuck.set()
        await floor.until(9)
        assert fleet.jobs == [[0], list(range(1, 9))]
        assert floor.told == [(str(seq), "model:v1", None) for seq in range(9)]

    on_the_floor(fleet, body)


def test_an_answer_is_held_back_until_the_disk_has_what_it_is_for() -> None:
    fleet = Fleet()

    async def body(floor: Floor) -> None:
        for seq in (1, 2):
            floor.answering.begin(reading(seq))
            async with asyncio.timeout(10):
                while len(fleet.jobs) < seq:
                    await asyncio.sleep(0.001)
        assert floor.told == []
        assert [one.seq for one in floor.answering.in_flight("pump")] == [1, 2]
        floor.answering.kept([reading(1)])
        await floor.until(1)
        floor.answering.kept([reading(2)])
        await floor.until(2)
        assert [seq for seq, *_ in floor.told] == ["1", "2"]

    on_the_floor(fleet, body)


def test_features_can_be_made_to_hold_what_waits_and_it_is_answered_all_the_same() -> None:
    fleet = Fleet(stuck=threading.Event())

    async def body(floor: Floor) -> None:
        floor.answering.take([reading(0)])
        floor.answering.take([reading(1)])
        floor.answering.begin(reading(2))
        assert fleet.held == [0]
        floor.answering.take_all()
        assert fleet.held == [0, 1, 2]
        floor.answering.kept([reading(2)])
        assert fleet.stuck is not None
        fleet.stuck.set()
        await floor.until(3)
        assert [seq for seq, *_ in floor.told] == ["0", "1", "2"]

    on_the_floor(fleet, body)


def test_what_the_disk_refused_is_answered_by_nobody_and_the_fleet_learns_of_it() -> None:
    fleet, valves = Fleet(stuck=threading.Event()), Fleet()

    async def body(floor: Floor) -> None:
        begun = [reading(1), reading(2), reading(3, "V-1")]
        for one in begun:
            floor.answering.begin(one)
        await asyncio.sleep(0)
        floor.answering.failed(begun[:1])
        floor.answering.kept(begun[1:])
        assert (fleet.doubted, valves.doubted) == (True, False)
        assert fleet.stuck is not None
        fleet.stuck.set()
        await floor.until(2)
        floor.answering.begin(reading(4))
        await asyncio.sleep(0)
        floor.answering.kept([reading(4)])
        await floor.until(3)
        assert [seq for seq, *_ in floor.told] == ["2", "3", "4"]

    on_the_floor(fleet, body, valves)


def test_of_more_than_a_job_that_the_disk_refused_nothing_is_answered() -> None:
    fleet = Fleet(stuck=threading.Event())

    async def body(floor: Floor) -> None:
        begun = [reading(seq) for seq in range(2 * MOST + 10)]
        for one in begun:
            floor.answering.begin(one)
        await asyncio.sleep(0)
        floor.answering.kept(begun[:5])
        floor.answering.failed(begun[5:])
        assert fleet.stuck is not None
        fleet.stuck.set()
        await floor.until(5)
        again = reading(7)
        floor.answering.take([again])
        await floor.until(6)
        assert [seq for seq, *_ in floor.told] == ["0", "1", "2", "3", "4", "7"]

    on_the_floor(fleet, body)


def test_what_is_unanswered_is_answered_before_the_thread_ends() -> None:
    async def body(floor: Floor) -> None:
        for seq in range(5):
            floor.answering.take([reading(seq)])
        await floor.answering.close()
        assert [seq for seq, *_ in floor.told] == [str(seq) for seq in range(5)]

    on_the_floor(Fleet(), body)


def test_a_burst_is_not_late_as_a_whole() -> None:
    fleet = Fleet()

    async def body(floor: Floor) -> None:
        for seq in range(0, 3 * MOST, 100):
            floor.answering.take([reading(seq + n) for n in range(100)])
        await floor.until(3 * MOST // 100 * 100 + 100)
        assert max(map(len, fleet.jobs)) <= MOST

    on_the_floor(fleet, body)


def test_a_defect_in_the_chain_is_answered_by_the_rules_and_the_next_reading_is_asked_about() -> None:
    fleet = Fleet(fails=True)

    async def body(floor: Floor) -> None:
        floor.answering.take([reading(1)])
        await floor.until(1)
        fleet.fails = False
        floor.answering.take([reading(2)])
        await floor.until(2)
        assert floor.told == [("1", "rules", ERROR), ("2", "model:v1", None)]

    on_the_floor(fleet, body)


def test_a_fleet_whose_chain_fails_does_not_cost_another_its_answers() -> None:
    fleet, valves = Fleet(stuck=threading.Event()), Fleet(fails=True)

    async def body(floor: Floor) -> None:
        floor.answering.take([reading(0)])
        floor.answering.take([reading(1, "V-1"), reading(2)])  # one job, when the first is done
        assert fleet.stuck is not None
        fleet.stuck.set()
        await floor.until(3)
        assert floor.told == [("0", "model:v1", None), ("1", "rules", ERROR), ("2", "model:v1", None)]

    on_the_floor(fleet, body, valves)


def test_a_fleet_whose_rules_fail_does_not_cost_another_its_answers() -> None:
    fleet, valves = Fleet(stuck=threading.Event()), Fleet(rules_fail=True)

    async def body(floor: Floor) -> None:
        floor.answering.take([reading(0)])
        floor.answering.take([reading(1, "V-1"), reading(2)])
        await floor.until(2)
        assert floor.told == [("0", "rules", DEADLINE), ("2", "rules", DEADLINE)]

    on_the_floor(fleet, body, valves)


@pytest.mark.parametrize("fails", ["publishing", "rules"])
def test_it_ends_though_what_is_to_be_answered_fails(fails: str) -> None:
    fleet = Fleet(fails=fails == "rules", rules_fail=fails == "rules")

    async def body(floor: Floor) -> None:
        floor.published.fails = fails == "publishing"
        floor.answering.take([reading(1)])
        async with asyncio.timeout(5):
            await floor.answering.close()
        assert floor.told == []

    on_the_floor(fleet, body)


def test_it_ends_when_nothing_is_left_that_is_asked_about(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet(stuck=threading.Event())

    async def body(floor: Floor) -> None:
        floor.answering.take([reading(0)])
        floor.answering.take([reading(-1)])
        assert fleet.stuck is not None
        asyncio.get_running_loop().call_soon(fleet.stuck.set)
        await floor.answering.close()
        assert floor.told == [("0", "model:v1", None)]

    on_the_floor(fleet, body)
    assert "not all was answered before the end" not in caplog.text


def test_it_ends_though_there_is_always_more_to_be_answered() -> None:
    class Endless(Fleet):
        more: Callable[[], object]

        def answer(self, asked: Sequence[Reading]) -> Sequence[EdgeAdvisory]:
            self.more()
            return super().answer(asked)

    fleet = Endless()

    async def body(floor: Floor) -> None:
        loop, take = asyncio.get_running_loop(), floor.answering.take
        fleet.more = lambda: loop.call_soon_threadsafe(take, [reading(2)])
        take([reading(1)])
        async with asyncio.timeout(5):
            await floor.answering.close()
        assert ("2", "model:v1", None) in floor.told

    on_the_floor(fleet, body)
