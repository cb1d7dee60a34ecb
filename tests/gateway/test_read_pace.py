"""When a connection is read late: where much comes, and only as long as its sender does not mind."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.read_pace import MUCH, PAUSE_S, SPAN_S, ReadPace


class Line:
    """What a sender at a rate has for each read, from the moment at which the last one allowed it."""

    def __init__(self, most_under_way: int | None = None) -> None:
        self.pace, self.now, self.pauses = ReadPace(), 100.0, list[float]()
        self._most, self._sent = most_under_way, 0.0

    def read(self, rate: float, seconds: float, every_s: float = 0.001) -> None:
        """`every_s`: how soon a read that is not told to wait follows the one before."""
        end, pause_s = self.now + seconds, 0.0
        while self.now < end:
            step = max(every_s, pause_s)
            self.now += step
            self._sent += rate * step
            count = int(self._sent) if self._most is None else min(int(self._sent), self._most)
            self._sent = self._sent - count if self._most is None else 0.0
            pause_s = self.pace.pause_s(count, self.now)
            self.pauses.append(pause_s)


def test_what_comes_seldom_is_read_at_once() -> None:
    line = Line()
    line.read(1_000, 5)
    line.read(0, 5)
    line.read(0.8 * MUCH, 5)
    assert set(line.pauses) == {0.0}


def test_what_comes_often_is_read_late_until_it_comes_seldom() -> None:
    line = Line()
    line.read(10_000, 1)
    late = line.pauses[50:]
    assert set(late) == {PAUSE_S}
    line.read(1_000, 1)
    line.pauses.clear()
    line.read(1_000, 1)
    assert set(line.pauses) == {0.0}
    line.read(10_000, 1)
    assert line.pauses[-1] == PAUSE_S


def test_a_sender_that_waits_for_acknowledgements_is_not_held_up() -> None:
    line = Line(most_under_way=20)
    line.read(40_000, 10, every_s=0.0005)
    assert 0 < sum(line.pauses) < 0.03 * 10  # it is tried again each second


@given(st.lists(st.floats(1e-6, 1.0), max_size=int(MUCH * SPAN_S) - 1), st.integers(0, 100))
def test_few_are_never_left_waiting(elapsed: list[float], silent: int) -> None:
    pace, now = ReadPace(), 0.0
    for step in elapsed:
        now += step
        assert pace.pause_s(1, now) == 0.0
    for _ in range(silent):
        now += SPAN_S / 7
        assert pace.pause_s(0, now) == 0.0
