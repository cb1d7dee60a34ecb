"""When a connection is read late: where much comes, and only as long as its sender does not mind."""

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.read_pace import MUCH, PAUSE_S, SPAN_S, ReadPace

_TICK_S = 0.0002


class Line:
    """A broker that sends what its senders bring, as far as it may, and a reader that acknowledges a while later.

    Args:
        most: messages that the broker has under way.
        kept_s: from a message's read to its acknowledgement.
    """

    def __init__(self, *, most: int = 65_535, kept_s: float = 0.001) -> None:
        self.pace, self.now = ReadPace(), 100.0
        self.late_reads = self.reads = self.came = 0
        self._most, self._kept_s = most, kept_s
        self._waiting, self._sent, self._unread = 0.0, 0, 0
        self._to_acknowledge: deque[tuple[float, int]] = deque()
        self._read_at = 0.0

    def run(self, rate: float, seconds: float, *, cluster: int = 1) -> None:
        """`cluster`: so many come at once, at any time."""
        drawn, end = random.Random(7), self.now + seconds  # noqa: S311 - draws clusters
        self.late_reads = self.reads = self.came = 0
        while self.now < end:
            self.now += _TICK_S
            if cluster == 1:
                self._waiting += rate * _TICK_S
            elif drawn.random() < rate * _TICK_S / cluster:
                self._waiting += cluster
            while self._to_acknowledge and self._to_acknowledge[0][0] <= self.now:
                self._sent -= self._to_acknowledge.popleft()[1]
            more = min(int(self._waiting), self._most - self._sent)
            self._waiting, self._sent, self._unread = self._waiting - more, self._sent + more, self._unread + more
            if self._unread and self.now >= self._read_at:
                self._read()

    def _read(self) -> None:
        count, self._unread = self._unread, 0
        self._to_acknowledge.append((self.now + self._kept_s, count))
        pause_s = self.pace.pause_s(count, self._sent, self.now)
        assert pause_s in (0.0, PAUSE_S)
        self._read_at = self.now + pause_s
        self.came, self.reads, self.late_reads = self.came + count, self.reads + 1, self.late_reads + (pause_s > 0)


@pytest.mark.parametrize("cluster", [1, 3])
def test_what_comes_seldom_is_read_at_once(cluster: int) -> None:
    line = Line()
    line.run(MUCH / 5, 5, cluster=cluster)
    line.run(0, 5)
    line.run(MUCH / 5, 5, cluster=cluster)
    assert line.late_reads == 0


@pytest.mark.parametrize("cluster", [1, 3, 20])
@pytest.mark.parametrize("rate", [10_000, 40_000])
def test_what_comes_often_is_read_late_until_it_comes_seldom(rate: int, cluster: int) -> None:
    line = Line()
    line.run(rate, 1, cluster=cluster)
    line.run(rate, 1, cluster=cluster)
    assert line.late_reads > 0.95 * line.reads
    assert line.reads < 1.1 / PAUSE_S
    line.run(MUCH / 10, 0.1)
    line.run(MUCH / 10, 1)
    assert line.late_reads == 0


def test_machines_that_send_together_each_second_are_read_late_in_each_of_these() -> None:
    line = Line()
    for _ in range(10):
        line.run(20_000, 0.2)
        assert line.late_reads > 0.5 * 0.2 / PAUSE_S
        line.run(0, 0.8)


@pytest.mark.parametrize("kept_s", [0.0005, 0.001, 0.002, 0.0035, 0.004, 0.0045])
@pytest.mark.parametrize("most", [20, 100])
def test_a_broker_that_waits_for_acknowledgements_is_not_held_up(most: int, kept_s: float) -> None:
    line = Line(most=most, kept_s=kept_s)
    line.run(1_000_000, 10)
    at_once = most / (kept_s + _TICK_S)
    assert line.came > 0.93 * 10 * at_once


@pytest.mark.parametrize("first", [3_200, 3_600, 4_000])
@pytest.mark.parametrize("kept_s", [0.0005, 0.001, 0.002])
def test_nor_is_one_whose_load_grows_beyond_what_it_has_under_way(first: int, kept_s: float) -> None:
    line = Line(most=20, kept_s=kept_s)
    line.run(first, 0.5)
    line.run(10_000, 2)
    line.run(10_000, 10)
    assert line.came > 0.85 * 10 * min(10_000, 20 / (kept_s + _TICK_S))


@given(st.lists(st.floats(1e-6, 1.0), max_size=int(MUCH * SPAN_S) - 1), st.integers(0, 100))
def test_few_are_never_left_waiting(elapsed: list[float], silent: int) -> None:
    pace, now = ReadPace(), 0.0
    for step in elapsed:
        now += step
        assert pace.pause_s(1, 1, now) == 0.0
    for _ in range(silent):
        now += SPAN_S / 7
        assert pace.pause_s(0, 0, now) == 0.0
