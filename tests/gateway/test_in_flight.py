"""What is answered while the disk works, and what becomes of it where the disk fails."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding import Reading
from gateway.in_flight import CAREFUL_S, InFlight


def reading(seq: int) -> Reading:
    return Reading("dev", "P-101", "", seq, seq, [], (), seq, None, b"")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Told:
    """Who was told to answer what, in that order."""

    answered: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(1, 4)),
        st.tuples(st.sampled_from(("keep", "fail")), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.sampled_from((1, int(CAREFUL_S)))),
    ),
    max_size=60,
)


@given(STEPS)
def test_each_reading_is_answered_once_in_order_and_what_was_refused_is_known(steps: list[tuple[str, int]]) -> None:
    clock, told, on_their_way = Clock(), Told(), deque[Reading]()
    flight = InFlight(clock)
    count = 0
    for step, number in steps:
        if step == "wait":
            clock.now += number
        elif step == "begin":
            for count in range(count + 1, count + number + 1):  # noqa: B020
                on_their_way.append(reading(count))
                told.answered += [one.seq for one in flight.begin(on_their_way[-1])]
        else:
            some = [on_their_way.popleft() for _ in range(min(number, len(on_their_way)))]
            if step == "keep":
                told.kept += [one.seq for one in some]
                told.answered += [one.seq for one in flight.kept(some)]
            elif some:
                seen = [one.seq for one in flight.failed(some)]
                told.refused += [one.seq for one in some]
                assert all(flight.refused(one) == (one.seq in seen) for one in some)
        assert {one.seq for one in flight.answered()} == {one.seq for one in on_their_way} & set(told.answered)
        assert flight.begun - flight.settled == len(on_their_way)
    assert told.answered == sorted(set(told.answered)), "of one machine, a later one must not go before"
    assert set(told.kept) <= set(told.answered)
    assert set(told.answered) <= set(told.kept) | set(told.refused) | {one.seq for one in on_their_way}


def test_after_a_failure_readings_wait_for_the_disk_for_a_minute() -> None:
    clock = Clock()
    flight = InFlight(clock)
    first, second, third = map(reading, (1, 2, 3))
    assert flight.begin(first) == (first,)
    flight.failed([first])
    assert flight.begin(second) == ()
    clock.now += CAREFUL_S
    assert flight.begin(third) == [second, third], "under steady load, too, there is an end to it"
    assert flight.kept([second, third]) == ()


def test_what_was_refused_is_known_by_itself_and_forgotten_once_nobody_asks_any_more() -> None:
    flight, first, again = InFlight(Clock()), reading(1), reading(1)
    flight.begin(first)
    flight.failed([first])
    assert flight.refused(first)
    assert not flight.refused(again), "sent again, it may be kept"
    flight.forget_refused()
    assert not flight.any_refused


def test_who_waits_for_the_disk_hears_whether_it_took_everything() -> None:
    async def run() -> list[bool]:
        flight = InFlight(Clock())
        said = [await flight.all_settled()]
        for taken in (True, False):
            flight.begin(reading(1))
            flight.begin(reading(2))
            waiting = asyncio.ensure_future(flight.all_settled())
            flight.kept([reading(1)])
            await asyncio.sleep(0)
            assert not waiting.done()
            (flight.kept if taken else flight.failed)([reading(2)])
            said.append(await waiting)
        return said

    assert asyncio.run(run()) == [True, True, False]
