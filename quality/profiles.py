"""Statistics of windows that Great Expectations has no expectation for, as small tables that it can then check.

Each has a row a window (`date`) and machine, sensor, or column; times are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KNOWN_DAYS = 7
"""Days before a window in which a machine that sent a reading is known, so that readings of it are due."""
DRIFT_DAYS, DRIFT_LEAST_DAYS = 28, 14
BINS = 10
_DAY = timedelta(days=1)
_LEAST_SHARE_OF_BIN = 1e-4
_FEWEST_VALUES = 3
"""A sensor of which the whole fleet shows fewer values than this says nothing, so that it cannot be stuck."""


def schema_profile(stored: pa.Schema, promised: pa.Schema, days: Sequence[date]) -> pa.Table:
    """(date, column, stored, promised): the types of the columns that are promised, `missing` where one is not stored.

    A column that is stored beside them, such as where a row came from, breaks no reader.
    """
    wanted = {field.name: str(field.type) for field in promised if field.name != "site"}
    found = {field.name: str(field.type) for field in stored}
    names = sorted(wanted)
    return pa.table(
        {
            "date": pa.array([day for day in days for _ in names], pa.date32()),
            "column": pa.array(names * len(days), pa.string()),
            "stored": pa.array([found.get(name, "missing") for name in names] * len(days), pa.string()),
            "promised": pa.array([wanted[name] for name in names] * len(days), pa.string()),
        }
    )


def shares_in_range(rows: pa.Table, bounds: Mapping[str, tuple[float | None, float | None]]) -> pa.Table:
    """(date, column, share): how many of the values that are there lie within their column's range."""
    found: list[dict[str, Any]] = []
    for name, (low, high) in bounds.items():
        value = rows[name].combine_chunks()
        inside = pa.array(np.ones(len(value), bool))
        if low is not None:
            inside = pc.and_kleene(inside, pc.greater_equal(value, low))
        if high is not None:
            inside = pc.and_kleene(inside, pc.less_equal(value, high))
        known = pa.table({"date": rows["date"], "inside": inside.cast(pa.float64())})
        means = known.group_by("date").aggregate([("inside", "mean")]).to_pylist()
        found += [
            {"date": row["date"], "column": name, "share": row["inside_mean"]}
            for row in means
            if row["inside_mean"] is not None
        ]
    schema = pa.schema([("date", pa.date32()), ("column", pa.string()), ("share", pa.float64())])
    return pa.Table.from_pylist(found, schema)


@dataclass(frozen=True, slots=True)
class Cadence:
    """What a contract promises of each machine: `least_share` of `per_day` readings a day."""

    per_day: float
    least_share: float

    def least(self, due: float) -> int:
        """Fewest readings of so many due: whole ones, and at least one where one is due."""
        return 0 if due < 1 else max(1, int(self.least_share * due + 1e-9))


COMPLETENESS = pa.schema(
    [
        ("date", pa.date32()),
        ("equipment_id", pa.string()),
        ("present", pa.int64()),
        ("due", pa.int64()),
        ("least", pa.int64()),
        ("usual_least", pa.int64()),
    ]
)


def completeness_profile(
    readings: pa.Table, events: pa.Table, days: Sequence[date], newest: datetime, cadence: Cadence
) -> pa.Table:
    """How many readings of each machine there are and how many are due, in `COMPLETENESS`.

    Due is what a machine that runs should have sent by the newest reading of the plant; a day before that one is
    over. A machine is due that was heard of in the `KNOWN_DAYS` days before, or on the day; one that failed or was
    renewed, from its next reading on.

    Args:
        readings: (equipment_id, ts), of the days and of `KNOWN_DAYS` before them.
        events: (equipment_id, ts) of failures and renewals.
        newest: the newest reading that has landed.

    Returns:
        A row a day and machine; `usual_least` counts on no more readings than the fleet has sent lately, so that a
        plant that is read less often than its contract says is told from one that has fallen silent.
    """
    heard, ended = _times(readings), _times(events)
    usual = _usual(heard, days)
    found: list[dict[str, Any]] = []
    for day in days:
        begin, end = _midnight(day), min(_midnight(day + _DAY), newest)
        if end <= begin:
            continue
        since = begin - KNOWN_DAYS * _DAY
        for machine, times in heard.items():
            before = times[(times >= _us(since)) & (times < _us(_midnight(day + _DAY)))]
            if not len(before):
                continue
            present = int(np.count_nonzero(before >= _us(begin)))
            known_since = begin if before[0] < _us(begin) else datetime.fromtimestamp(before[0] / 1e6, UTC)
            up = _up_days(max(begin, known_since), end, times, ended.get(machine, np.empty(0, np.int64)))
            due = int(up * cadence.per_day + 0.5)
            by_custom = int(up * min(cadence.per_day, usual[day]) + 0.5)
            found.append(
                {
                    "date": day,
                    "equipment_id": machine,
                    "present": present,
                    "due": due,
                    "least": cadence.least(due),
                    "usual_least": cadence.least(by_custom),
                }
            )
    return pa.Table.from_pylist(found, COMPLETENESS)


def _usual(heard: Mapping[str, np.ndarray], days: Sequence[date]) -> dict[date, float]:
    """Day → readings that a machine of the fleet sent a day before it, on the median; on the first day, of that day."""
    counted: dict[date, list[int]] = {}
    for times in heard.values():
        codes, counts = np.unique(times // 86_400_000_000, return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            counted.setdefault(date(1970, 1, 1) + timedelta(days=code), []).append(count)
    found = {}
    for day in days:
        before = [n for d, some in counted.items() if day - KNOWN_DAYS * _DAY <= d < day for n in some]
        found[day] = float(np.median(before or counted.get(day) or [0]))
    return found


def _up_days(begin: datetime, end: datetime, times: np.ndarray, ended: np.ndarray) -> float:
    """Days within [begin, end) in which a machine ran: from an end of a life to its next reading it stands still."""
    first, last = _us(begin), _us(end)
    up = max(last - first, 0)
    until = first
    for event in np.sort(ended[ended <= last]).tolist():
        after = times[times > event]
        resumed = min(int(after[0]) if len(after) else last, last)
        still_from = max(event, until)
        if resumed > still_from:
            up -= resumed - still_from
            until = resumed
    return up / 86_400_000_000


STUCK = pa.schema([("date", pa.date32()), ("equipment_id", pa.string()), ("sensor", pa.string()), ("run", pa.int64())])


def stuck_profile(readings: pa.Table, sensors: Sequence[str], days: Sequence[date]) -> pa.Table:
    """How many readings in a row each sensor of each machine has shown one value, at the most within each day.

    A run that began before the day counts from where it began. Sensors that say nothing, of which the whole fleet
    shows one value or two, are left out.

    Args:
        readings: (date, equipment_id, ts, sensors), from some days before the first.
    """
    rows = readings.sort_by([("equipment_id", "ascending"), ("ts", "ascending")])
    machine = rows["equipment_id"].combine_chunks().dictionary_encode()
    codes, names = machine.indices.to_numpy(zero_copy_only=False), machine.dictionary.to_pylist()
    day = rows["date"].combine_chunks().cast(pa.int32()).to_numpy(zero_copy_only=False)
    wanted = np.isin(day, [(d - date(1970, 1, 1)).days for d in days])
    groups, group = np.unique(np.stack([codes[wanted], day[wanted]]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    parts = []
    for sensor in sensors:
        value = rows[sensor].combine_chunks().to_numpy(zero_copy_only=False).astype(float)
        if not wanted.any() or len(np.unique(value[np.isfinite(value)])) < _FEWEST_VALUES:
            continue
        longest = np.zeros(groups.shape[1], np.int64)
        np.maximum.at(longest, group, _run_lengths(value, codes)[wanted])
        parts.append(
            pa.table(
                {
                    "date": pa.array(groups[1].astype(np.int32), pa.int32()).cast(pa.date32()),
                    "equipment_id": pa.array([names[c] for c in groups[0].tolist()], pa.string()),
                    "sensor": pa.repeat(pa.scalar(sensor), groups.shape[1]),
                    "run": pa.array(longest),
                },
                schema=STUCK,
            )
        )
    return pa.concat_tables(parts) if parts else STUCK.empty_table()


def _run_lengths(value: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(n,) how many equal values there are in a row, up to and with each, within its group; 0 where there is none.

    A value that is missing neither ends a run nor counts.
    """
    runs = np.zeros(len(value), np.int64)
    known = np.flatnonzero(np.isfinite(value))
    if not len(known):
        return runs
    v, g = value[known], group[known]
    begins = np.ones(len(known), bool)
    begins[1:] = (v[1:] != v[:-1]) | (g[1:] != g[:-1])
    at = np.arange(len(known))
    runs[known] = at - np.maximum.accumulate(np.where(begins, at, 0)) + 1
    return runs


RISING = pa.schema(
    [
        ("date", pa.date32()),
        ("equipment_id", pa.string()),
        ("ts", pa.timestamp("us", tz="UTC")),
        ("counter", pa.string()),
        ("before", pa.int64()),
        ("value", pa.int64()),
    ]
)


def rising_profile(readings: pa.Table, events: pa.Table, counters: Sequence[str], days: Sequence[date]) -> pa.Table:
    """What counters say in each reading of the days, and said in the one before it in the same life, in `RISING`.

    A counter that falls tells of a machine that started anew of which no maintenance was told, or of a reading that
    says another time; one that stays, of a reading sent again as if it were another.

    Args:
        readings: (date, equipment_id, ts, counters), from some days before the first.
        events: (equipment_id, ts) of failures and renewals; a reading at the instant of one is of the life that ends.
    """
    rows = readings.sort_by([("equipment_id", "ascending"), ("ts", "ascending")]).combine_chunks()
    ended = _times(events)
    machine = np.array(rows["equipment_id"].to_pylist(), dtype=object)
    ts = rows["ts"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    life = np.zeros(len(ts), np.int64)
    for name, times in ended.items():
        mine = machine == name
        life[mine] = np.searchsorted(times, ts[mine], side="left")
    wanted = np.isin(rows["date"].to_numpy(), np.array(list(days), dtype="datetime64[D]"))
    follows = np.zeros(len(ts), bool)
    follows[1:] = (machine[1:] == machine[:-1]) & (life[1:] == life[:-1])
    now = np.flatnonzero(wanted & follows)
    parts = [
        pa.table(
            {
                **{name: rows[name].take(pa.array(now)) for name in ("date", "equipment_id", "ts")},
                "counter": pa.repeat(pa.scalar(counter), len(now)),
                "before": rows[counter].take(pa.array(now - 1)).cast(pa.int64()),
                "value": rows[counter].take(pa.array(now)).cast(pa.int64()),
            },
            schema=RISING,
        )
        for counter in counters
    ]
    return pa.concat_tables(parts) if parts else RISING.empty_table()


DRIFT = pa.schema([("date", pa.date32()), ("column", pa.string()), ("psi", pa.float64())])


def drift_profile(
    rows: pa.Table, columns: Sequence[str], reference: Mapping[str, Sequence[float]], days: Sequence[date]
) -> pa.Table:
    """The population stability index of each column against the training set, over `DRIFT_DAYS` days up to each day.

    Σ (p − q) ln(p / q) over bins that each hold the same share of the reference. One day of a fleet differs from any
    reference, by its weather alone, so a day with less than `DRIFT_LEAST_DAYS` days to look at is not judged. What so
    many machine-days differ by on average by chance, (bins − 1) / machine-days, is taken off.

    Args:
        rows: (date, equipment_id, columns), from `DRIFT_DAYS` before the first day.
        reference: column → inner edges of its bins, see `bin_edges`.
    """
    if not rows.num_rows:
        return DRIFT.empty_table()
    codes = rows["date"].combine_chunks().cast(pa.int32()).to_numpy(zero_copy_only=False)
    origin = int(codes.min())
    at = {day: (day - date(1970, 1, 1)).days - origin for day in days}
    machine_days = np.zeros(int(codes.max()) - origin + 1, np.int64)
    for row in rows.group_by("date").aggregate([("equipment_id", "count_distinct")]).to_pylist():
        machine_days[(row["date"] - date(1970, 1, 1)).days - origin] = row["equipment_id_count_distinct"]
    found: list[dict[str, Any]] = []
    for name in columns:
        edges = np.asarray(reference.get(name, ()), float)
        if len(edges) == 0:
            continue
        value = rows[name].combine_chunks().to_numpy(zero_copy_only=False).astype(float)
        known = np.isfinite(value)
        counts = np.zeros((len(machine_days), len(edges) + 1), np.int64)
        np.add.at(counts, (codes[known] - origin, np.searchsorted(edges, value[known], side="right")), 1)
        for day, index in at.items():
            span = slice(max(index - DRIFT_DAYS + 1, 0), index + 1)
            seen = int(np.count_nonzero(machine_days[span]))
            if 0 <= index < len(counts) and seen >= DRIFT_LEAST_DAYS and counts[span].any():
                chance = len(edges) / int(machine_days[span].sum())
                psi = max(_psi(counts[span].sum(axis=0)) - chance, 0.0)
                found.append({"date": day, "column": name, "psi": psi})
    return pa.Table.from_pylist(found, DRIFT)


def bin_edges(values: np.ndarray) -> list[float]:
    """Inner edges of bins that hold the same share of the values each; none where they are too few or all alike."""
    known = values[np.isfinite(values)]
    if len(known) < 10 * BINS:
        return []
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS))
    # Where many values are alike, bins cannot hold the same share, and the index would tell of the bins.
    return edges.tolist() if len(edges) == BINS - 1 else []


def _psi(counts: np.ndarray) -> float:
    share = np.maximum(counts / counts.sum(), _LEAST_SHARE_OF_BIN)
    expected = 1 / len(counts)
    return float(np.sum((share - expected) * np.log(share / expected)))


def freshness_profile(rows: pa.Table, newest_landed: Mapping[date, datetime]) -> pa.Table:
    """(date, newest_landed, newest, lag_s): how far a product's newest row is behind what has landed for its day."""
    newest = {r["date"]: r["ts_max"] for r in rows.group_by("date").aggregate([("ts", "max")]).to_pylist()}
    found = [
        {
            "date": day,
            "newest_landed": landed,
            "newest": newest[day],
            "lag_s": max((landed - newest[day]).total_seconds(), 0.0),
        }
        for day, landed in newest_landed.items()
        if newest.get(day) is not None
    ]
    schema = pa.schema(
        [
            ("date", pa.date32()),
            ("newest_landed", pa.timestamp("us", tz="UTC")),
            ("newest", pa.timestamp("us", tz="UTC")),
            ("lag_s", pa.float64()),
        ]
    )
    return pa.Table.from_pylist(found, schema)


def reconciliation_profile(counted: Sequence[tuple[date, int, int]], days: Sequence[date]) -> pa.Table:
    """(date, accepted, kept) of those days that were ingested as they now stand."""
    schema = pa.schema([("date", pa.date32()), ("accepted", pa.int64()), ("kept", pa.int64())])
    found = [{"date": d, "accepted": accepted, "kept": kept} for d, accepted, kept in counted if d in days]
    return pa.Table.from_pylist(found, schema)


def _times(rows: pa.Table) -> dict[str, np.ndarray]:
    """Machine → its times in µs, sorted."""
    ts = rows["ts"].combine_chunks().cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    machine = rows["equipment_id"].combine_chunks().dictionary_encode()
    codes, times = machine.indices.to_numpy(zero_copy_only=False), ts.to_numpy(zero_copy_only=False)
    order = np.lexsort((times, codes))
    codes, times = codes[order], times[order]
    found = {}
    for code, name in enumerate(machine.dictionary.to_pylist()):
        first, last = np.searchsorted(codes, [code, code + 1])
        found[name] = times[first:last]
    return found


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _us(instant: datetime) -> int:
    return int((instant - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
