"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Progress = Callable[[float, str, Mapping[str, float]], None]
"""Called with the share done (0 to 1), what is being done, and metrics known so far."""


def silent(done: float, doing: str, metrics: Mapping[str, float]) -> None:
    """Tell nobody."""


def within(progress: Progress, first: float, last: float) -> Progress:
    """The progress of a part that goes from `first` to `last` of the whole."""

    def tell(done: float, doing: str, metrics: Mapping[str, float]) -> None:
        progress(first + done * (last - first), doing, metrics)

    return tell
