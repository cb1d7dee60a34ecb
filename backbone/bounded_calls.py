"""Calls that end in time, whatever those who make them think of time-outs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T], *, late: Exception | None = None) -> T:
    """The call's answer.

    A socket's own time-out starts anew with every byte that comes, and does not hold while a name is looked up.

    Args:
        late: raised instead of `TimeoutError`, so that it cannot be taken for one that the call raised itself.

    Raises:
        TimeoutError: it took longer. It goes on in a thread nobody waits for, and may still have its effect.
    """
    answers: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(call())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name=f"within {seconds:g} s", daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise late or TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]
