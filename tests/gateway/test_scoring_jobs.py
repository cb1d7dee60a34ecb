"""What waits becomes jobs: everything once, in its order, and no job more than the thread answers in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding import Reading
from gateway.scoring_jobs import MOST, EdgeAdvisory, Job, Waiting


@dataclass
class Features:
    """Of a fleet; every third reading only fills a gap."""

    held: list[int] = field(default_factory=list)

    def take(self, readings: Sequence[Reading]) -> Sequence[Reading] | None:
        self.held += [reading.seq for reading in readings]
        asked = [reading for reading in readings if reading.seq % 3]
        return asked or None

    def answer(self, asked: Sequence[Reading]) -> Sequence[EdgeAdvisory]:
        raise NotImplementedError

    def answer_by_rules(self, asked: Sequence[Reading], reason: str) -> Sequence[EdgeAdvisory]:
        raise NotImplementedError

    def doubt(self) -> None:
        raise NotImplementedError


def asked_about(job: Job) -> list[int]:
    return [reading.seq for _, asked in job.asked for reading in asked]  # type: ignore[attr-defined]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from((1, 2, 3, MOST, 3 * MOST))),
        st.tuples(st.just("job"), st.sampled_from((0, 3))),
        st.tuples(st.just("take all"), st.just(0)),
    ),
    max_size=30,
)


@given(STEPS)
def test_each_reading_is_held_and_asked_about_once_in_its_order(steps: list[tuple[str, int]]) -> None:
    features = Features()
    waiting = Waiting({"pump": features}, lambda name: "pump" if name == "P-101" else None)
    came: list[float] = []
    """When each reading came."""
    asked: list[int] = []
    taken_all = any(step == "take all" for step, _ in steps)

    def next_job(until: float) -> None:
        if (job := waiting.next_job(until)) is None:
            assert waiting.since > until or not waiting
            return
        numbers = asked_about(job)
        assert job.count == len(numbers) <= MOST
        assert job.since <= until  # of its oldest, which need not be asked about
        assert taken_all or all(came[number] <= until for number in numbers)
        assert job.last > numbers[-1]
        assert sum(times for _, times in job.ages(100.0)) == job.count
        assert max(age for age, _ in job.ages(100.0)) >= 100 - came[numbers[0]]
        asked.extend(numbers)

    for now, (step, number) in enumerate(steps):
        if step == "add":
            first = len(came)
            came += [float(now)] * number
            names = ("P-101", "V-1")
            some = [
                Reading("dev", n, "", seq, seq, [], (), seq, None, b"")
                for seq in range(first, len(came))
                for n in names
            ]
            waiting.add(some, float(now), len(came))
        elif step == "job":
            next_job(float(now - number))
        else:
            waiting.take_all()
            assert features.held == list(range(len(came)))
    while waiting:
        next_job(float(len(steps)))
    assert features.held == list(range(len(came)))
    assert asked == [number for number in range(len(came)) if number % 3]
