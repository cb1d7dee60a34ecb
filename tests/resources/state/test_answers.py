"""Which attempt answered each window: later ones supersede, earlier ones never come back."""

import threading
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbone.windows import WindowRange
from resources.state.answers import RETRY_MOST_S, RETRY_S, Answer, Answers
from resources.state.database import Database

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = date(2025, 12, 1)
MINUTE = timedelta(minutes=1)


def day(number: int) -> date:
    return DAY + timedelta(days=number)


def answer(of: date, epoch: int, *, mendable: int = 0, degraded: int | None = None, at: datetime = NOW) -> Answer:
    return Answer(
        day=of,
        epoch=epoch,
        rows=10,
        served_by={"rules": 10} if mendable else {"model:v1": 10},
        degraded=mendable if degraded is None else degraded,
        mendable=mendable,
        reasons={"breaker_open": mendable} if mendable else {},
        answered_at=at,
    )


def epoch(answers: Answers, run_id: str) -> int:
    return answers.epoch(run_id, WindowRange("north", DAY, DAY), "serve", NOW)


@pytest.fixture
def answers(database: Database, site: str) -> Answers:
    return Answers(database, site, "fan")


# Epochs.


def test_a_run_has_one_epoch_however_often_it_asks(answers: Answers, site: str) -> None:
    runs = [f"{site}-{n}" for n in range(3)]
    assert answers.epoch_of(runs[0]) is None
    given = [epoch(answers, run) for run in runs]
    assert given == sorted(set(given))
    assert [epoch(answers, run) for run in reversed(runs)] == given[::-1]
    assert [answers.epoch_of(run) for run in runs] == given
    (first, *_) = answers.attempts()
    assert (first.run_id, first.kind, first.first, first.last, first.began) == (runs[0], "serve", DAY, DAY, NOW)


def test_epochs_of_all_fleets_are_one_row_of_numbers(database: Database, site: str) -> None:
    fans, pumps = Answers(database, site, "fan"), Answers(database, site, "pump")
    first, second = epoch(fans, f"{site}-a"), epoch(pumps, f"{site}-b")
    assert second > first
    assert [a.run_id for a in fans.attempts()] == [f"{site}-a"]


def test_however_many_ask_at_once_no_epoch_is_given_twice(database: Database, site: str) -> None:
    threads, each = 8, 5
    start = threading.Barrier(threads)
    given: list[list[int]] = []

    def ask(number: int) -> None:
        mine = Answers(Database(database.url), site, "fan")
        start.wait()
        given.append([epoch(mine, f"{site}-{number}-{n}") for n in range(each)])

    going = [threading.Thread(target=ask, args=(n,)) for n in range(threads)]
    for thread in going:
        thread.start()
    for thread in going:
        thread.join(120)
    assert len(given) == threads
    flat = [e for one in given for e in one]
    assert len(set(flat)) == threads * each
    assert all(one == sorted(one) for one in given), "whoever asks later gets more"


def test_the_same_run_asked_for_by_two_at_once_is_one_attempt(database: Database, site: str) -> None:
    """Two steps of a run may begin at the same time."""
    threads = 8
    start = threading.Barrier(threads)
    given: list[int] = []

    def ask() -> None:
        mine = Answers(Database(database.url), site, "fan")
        start.wait()
        given.append(epoch(mine, site))

    going = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in going:
        thread.start()
    for thread in going:
        thread.join(120)
    assert len(given) == threads
    assert len(set(given)) == 1


# Answers.


def test_answers_are_kept_as_they_were_given(answers: Answers) -> None:
    given = answer(day(0), 3, mendable=2, degraded=4)
    assert answers.record({day(0): given}) == [day(0)]
    assert answers.all() == {day(0): replace(given, retry_at=NOW + timedelta(seconds=RETRY_S))}


def test_a_late_answer_of_an_earlier_attempt_changes_nothing(answers: Answers) -> None:
    answers.record({day(0): answer(day(0), 5)})
    kept = answers.record({day(n): answer(day(n), 4, mendable=10) for n in (0, 1)})
    assert kept == [day(1)]
    assert {d: a.epoch for d, a in answers.all().items()} == {day(0): 5, day(1): 4}
    assert [d for d, *_ in answers.degradations(NOW - MINUTE, NOW + MINUTE)] == [day(1)]


def test_fleets_are_kept_apart(answers: Answers, database: Database, site: str) -> None:
    answers.record({day(0): answer(day(0), 1, mendable=1)})
    other = Answers(database, site, "pump")
    assert (other.all(), other.to_mend(NOW + 9 * MINUTE, limit=9)) == ({}, [])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(
        st.dictionaries(st.integers(0, 3), st.tuples(st.integers(1, 6), st.integers(0, 2)), max_size=4), max_size=8
    )
)
def test_whatever_the_order_the_latest_attempt_holds(
    database: Database, batches: list[dict[int, tuple[int, int]]]
) -> None:
    answers = Answers(database, uuid.uuid4().hex, "fan")
    holds: dict[date, tuple[int, int]] = {}
    for batch in batches:
        due = {day(n) for n, (e, _) in batch.items() if day(n) not in holds or holds[day(n)][0] <= e}
        given = {day(n): answer(day(n), e, mendable=mendable) for n, (e, mendable) in batch.items()}
        assert set(answers.record(given)) == due
        holds |= {d: batch[(d - DAY).days] for d in due}
        assert {d: (a.epoch, a.mendable) for d, a in answers.all().items()} == holds
    to_mend = [a.day for a in answers.to_mend(NOW + timedelta(days=1), limit=99)]
    assert to_mend == sorted(d for d, (_, mendable) in holds.items() if mendable)
    still_open = {d for d, _, _, mended in answers.degradations(NOW - MINUTE, NOW + MINUTE) if mended is None}
    assert still_open == set(to_mend)


# What is to be made good.


def test_the_oldest_comes_first_and_no_more_than_asked_for(answers: Answers) -> None:
    answers.record({day(n): answer(day(n), 1, mendable=n % 2) for n in (5, 3, 1, 2, 4)})
    later = NOW + timedelta(seconds=RETRY_S)
    assert [a.day for a in answers.to_mend(later, limit=2)] == [day(1), day(3)]
    assert [a.day for a in answers.to_mend(later, limit=9)] == [day(1), day(3), day(5)]


def test_what_lies_in_the_readings_is_not_tried_again(answers: Answers) -> None:
    answers.record({day(0): answer(day(0), 1, mendable=0, degraded=4)})
    assert answers.to_mend(NOW + timedelta(days=1), limit=9) == []


def test_a_window_that_stays_degraded_is_tried_ever_more_seldom(answers: Answers) -> None:
    now, waits = NOW, []
    for number in range(1, 12):
        answers.record({day(0): answer(day(0), number, mendable=1, at=now)})
        held = answers.all()[day(0)]
        assert held.retry_at is not None
        assert answers.to_mend(held.retry_at - timedelta(seconds=1), limit=1) == []
        assert answers.to_mend(held.retry_at, limit=1) == [held]
        assert held.tries == number - 1
        waits.append((held.retry_at - now).total_seconds())
        now = held.retry_at
    assert waits[:3] == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S]
    assert waits == sorted(waits)
    assert waits[-1] == RETRY_MOST_S


def test_once_made_good_the_count_begins_anew(answers: Answers) -> None:
    for number, mendable in enumerate([1, 1, 1, 0, 1], start=1):
        answers.record({day(0): answer(day(0), number, mendable=mendable)})
    assert answers.all()[day(0)].tries == 0


def test_a_clock_that_went_back_leaves_no_window_waiting(answers: Answers) -> None:
    answers.record({day(0): answer(day(0), 1, mendable=1)})
    assert [a.day for a in answers.to_mend(NOW - timedelta(days=30), limit=9)] == [day(0)]


def test_every_degradation_stays_on_record_with_when_it_was_made_good(answers: Answers) -> None:
    times = [NOW + n * MINUTE for n in range(5)]
    for number, (at, mendable) in enumerate(zip(times, [3, 2, 0, 0, 5], strict=True), start=1):
        answers.record({day(0): answer(day(0), number, mendable=mendable, at=at)})
    assert answers.degradations(NOW, NOW + 9 * MINUTE) == [
        (day(0), 3, times[0], times[2]),
        (day(0), 5, times[4], None),
    ]
    assert [d[2] for d in answers.degradations(times[1], times[4])] == [times[0]], "it began before, and went on"
    assert answers.degradations(times[2], times[4]) == []
