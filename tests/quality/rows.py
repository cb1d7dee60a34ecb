"""Rows of telemetry, as checks of windows are given them."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa

NO_EVENTS = pa.table({"equipment_id": pa.array([], pa.string()), "ts": pa.array([], pa.timestamp("us", tz="UTC"))})
"""A fleet of which nothing has failed."""
_SCHEMA = pa.schema(
    [
        ("date", pa.date32()),
        ("equipment_id", pa.string()),
        ("ts", pa.timestamp("us", tz="UTC")),
        ("temp", pa.float64()),
    ]
)


def at(day: date, hour: float) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(hours=hour)


def telemetry(readings: Iterable[tuple[str, datetime, float]]) -> pa.Table:
    """One row for each machine, time and temperature, in the window of its day."""
    rows = [{"date": ts.date(), "equipment_id": machine, "ts": ts, "temp": temp} for machine, ts, temp in readings]
    return pa.Table.from_pylist(rows, _SCHEMA)
