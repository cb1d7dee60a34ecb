"""Calls that end in time, whatever those who make them think of time-outs."""

import threading

import pytest

from backbone.bounded_calls import within

PATIENCE_S = 20.0


def test_what_answers_in_time_answers() -> None:
    assert within(PATIENCE_S, lambda: 7) == 7
    assert within(PATIENCE_S, lambda: None) is None


@pytest.mark.parametrize("error", [ValueError("wrong"), TimeoutError("its own"), SystemExit(3)])
def test_what_fails_in_time_fails_as_it_would(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        within(PATIENCE_S, fail, late=RuntimeError("late"))
    assert raised.value is error


@pytest.mark.parametrize(
    ("late", "expected"),
    [(None, TimeoutError("no answer within 0.01 s")), (RuntimeError("gone"), RuntimeError("gone"))],
)
def test_what_takes_longer_goes_on_alone(late: Exception | None, expected: Exception) -> None:
    go, done = threading.Event(), threading.Event()

    def held() -> None:
        assert go.wait(PATIENCE_S)
        done.set()

    with pytest.raises(type(expected), match=str(expected)):
        within(0.01, held, late=late)
    assert not done.is_set()
    go.set()
    assert done.wait(PATIENCE_S)
