"""Calls that end in time, whatever the library that makes them thinks of time-outs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """The call's answer.

    A socket's own time-out starts anew with every byte that comes, and does not hold while a name is looked up.

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

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]
