"""Positions of a source that goes by days: which day comes next, and when a day is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta

from backbone.errors import SourceError
from backbone.sources import Batch, RefusedBatch


def days_after(position: str | None, first: date, last: date) -> Iterator[date]:
    """The days still to be handed over.

    Args:
        position: ISO date of the last day that is done; None before the first.
        first: the source's first day.
        last: the last day wanted.

    Raises:
        SourceError: the position is no date, so it was not this source that gave it.
    """
    day = first
    if position is not None:
        try:
            day = max(first, date.fromisoformat(position) + timedelta(days=1))
        except ValueError as error:
            raise SourceError(
                f"Position {position!r} is no day, so another kind of source gave it.",
                next_step="Give a site whose source changed a new name; its calendar starts anew.",
            ) from error
    while day <= last:
        yield day
        day += timedelta(days=1)


def within_day(day: date, batches: Sequence[Batch | RefusedBatch]) -> Iterator[Batch | RefusedBatch]:
    """The day's batches with their positions: only the last one moves on.

    Resuming after any other hands over the whole day again, which is harmless, since a `txn` is taken up once.
    """
    before = (day - timedelta(days=1)).isoformat()
    for number, batch in enumerate(batches, start=1):
        yield replace(batch, position=day.isoformat() if number == len(batches) else before)
