"""How simulated time is handed over: past days whole, today in slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from backbone.errors import SourceError

SLICES_A_DAY = 12
_SLICE = timedelta(days=1) / SLICES_A_DAY


@dataclass(frozen=True, slots=True)
class Slice:
    """A day from `start` to `end` (UTC, `end` not included); both lie on the grid of slices."""

    day: date
    start: datetime
    end: datetime

    @property
    def whole(self) -> bool:
        return self.end - self.start == timedelta(days=1)

    @property
    def first_of_day(self) -> bool:
        return self.start.time() == time()


def slices_after(position: str | None, first_day: date, until: datetime) -> Iterator[Slice]:
    """What is still to be handed over, oldest first: a day that is over as one, else slice by slice.

    Args:
        position: the instant, in ISO format, that was reached; None before the first.
        until: nothing of a slice is handed over before the slice is over.

    Raises:
        SourceError: the position is no instant, so it was not this source that gave it.
    """
    start = midnight(first_day)
    if position is not None:
        try:
            start = max(start, datetime.fromisoformat(position))
        except (ValueError, TypeError) as error:
            raise SourceError(
                f"Position {position!r} is no instant in UTC, so another kind of source gave it.",
                next_step="Give a site whose source changed a new name; its calendar starts anew.",
            ) from error
    while True:
        next_midnight = midnight(start.date() + timedelta(days=1))
        end = next_midnight if start.time() == time() and next_midnight <= until else start + _SLICE
        if end > until:
            return
        yield Slice(start.date(), start, end)
        start = end


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
