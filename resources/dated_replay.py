"""What sources share that replay a public data set on the days on which its rows are dated."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime

import numpy as np
import pyarrow as pa

from backbone.day_positions import days_after, within_day
from backbone.errors import ConfigurationError
from backbone.sources import Batch, RefusedBatch, SourceContext, Stream
from backbone.windows import day_until


def by_day(rows: pa.Table) -> dict[date, pa.Table]:
    """The rows of each day, UTC, by time, then machine."""
    rows = rows.sort_by([("ts", "ascending"), ("equipment_id", "ascending")])
    days, starts = np.unique(rows["ts"].to_numpy().astype("datetime64[D]"), return_index=True)
    ends = [*starts[1:].tolist(), rows.num_rows]
    return {d: rows.slice(s, e - s) for d, s, e in zip(days.tolist(), starts.tolist(), ends, strict=True)}


def require_columns(context: SourceContext, data_set: str, columns: Collection[str]) -> None:
    """Raises `ConfigurationError` where the contract wants a sensor or setting that a data set does not have."""
    needed = {*context.telemetry.inputs, *context.telemetry.with_role("setting")}
    if missing := sorted(needed - set(columns)):
        raise ConfigurationError(
            f"Site {context.site}: {data_set} has no {', '.join(missing)}, which the contract "
            f"{context.telemetry.name} wants.",
            next_step=f"Use a contract whose sensors are among: {', '.join(columns)}.",
        )


def batches_of_day(
    day: date, streams: Mapping[Stream, Mapping[date, pa.Table]], *, txn: str, data_set: str
) -> list[Batch | RefusedBatch]:
    """A batch of each stream that has rows on a day; positions are still to be given (`within_day`).

    Args:
        txn: what the batches' identifiers begin with.
    """
    return [
        Batch(f"{txn}:{stream}:{day}", stream, day, rows[day], data_set, position="")
        for stream, rows in streams.items()
        if day in rows
    ]


def replayed(
    context: SourceContext,
    streams: Mapping[Stream, Mapping[date, pa.Table]],
    position: str | None,
    until: datetime,
    *,
    txn: str,
    data_set: str,
    what: str = "data",
) -> Iterator[Batch | RefusedBatch]:
    """Everything after a position, day by day; a position is the last day that is done.

    Args:
        streams: by day, none of them empty as a whole.
        what: how the data set's days are called.

    Raises:
        ConfigurationError: rows lie outside the site's calendar.
    """
    days = {day for rows in streams.values() for day in rows}
    first, last = min(days), max(days)
    if first < context.first_day or (context.last_day is not None and last > context.last_day):
        raise ConfigurationError(
            f"Site {context.site} does not cover the {what} of {first} to {last}.",
            next_step=f"Set calendar.first_day = {first} and calendar.last_day = {last} in its site file.",
        )
    for day in days_after(position, context.first_day, min(day_until(until), last)):
        yield from within_day(day, batches_of_day(day, streams, txn=txn, data_set=data_set))
