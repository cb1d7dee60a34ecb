"""Source `azure_pdm`: replays Microsoft's predictive maintenance data set, 100 machines over 2015 (simulated).

Telemetry by the hour is put together to one reading a machine and day, the mean from 07:00 to 06:00 on the next day.
Such a reading is known when that hour is over, and dated then: dated by the day it is of, it would tell of the failures
at 06:00 before they happen. Beside the four sensors a reading says how often each error was raised in its 24 hours, how
long ago each component was last replaced, and what machine it is; these too are as of then.

A failure ends a life. Components are also replaced at visits, two weeks apart: that renews a part, not the machine,
so it is told in a reading (`comp1_age`) and not as an event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from backbone.errors import SourceError
from backbone.settings import settings_from
from backbone.sources import Batch, RefusedBatch, Source, SourceContext, SourceSpec, Stream
from resources.dated_replay import by_day, replayed, require_columns

SENSORS = ("volt", "rotate", "pressure", "vibration")
ERRORS = tuple(f"error{k}" for k in range(1, 6))
COMPONENTS = tuple(f"comp{k}" for k in range(1, 5))
COLUMNS = (*SENSORS, *ERRORS, *(f"{c}_age" for c in COMPONENTS), "visit_age", "model", "years")
"""What a reading has, by its name in the contract."""
HOURLY, DAILY = "PdM_telemetry.csv", "PdM_telemetry_daily_mean*.parquet"
_DAY = np.timedelta64(86_400_000_000, "us")
_FROM = np.timedelta64(7 * 3_600_000_000, "us")
"""When a day of telemetry begins."""
_KNOWN = np.timedelta64(30 * 3_600_000_000 + 60_000_000, "us")
"""When a day's mean is known, after its midnight: the hour of 06:00 on the next day is then over, and who failed at
06:00 has failed."""
_GET_IT = "Give the folder with Microsoft's PdM_*.csv files."


def read_readings(directory: Path) -> pa.Table:
    """One reading a machine and whole day, `equipment_id`, `ts` and `COLUMNS`, by machine, then time.

    Raises:
        SourceError: a file is missing or cannot be read.
    """
    daily = _daily_means(directory)
    machine, day = daily["machineID"].to_numpy(), _us(daily["date"])
    ts = day + _KNOWN
    errors, replaced = (_events(directory, part) for part in ("errors", "maint"))
    machines = _csv(directory, "machines", {"machineID": pa.int64(), "model": pa.string(), "age": pa.float64()})
    columns: dict[str, np.ndarray] = {s: daily[s].to_numpy().astype(float) for s in SENSORS}
    for error in ERRORS:
        raised = errors.of(error)
        columns[error] = (raised.until(machine, ts) - raised.until(machine, ts - _DAY)).astype(float)
    for component in COMPONENTS:
        columns[f"{component}_age"] = replaced.of(component).days_since(machine, ts)
    columns["visit_age"] = replaced.days_since(machine, ts)
    described = {m["machineID"]: (float(m["model"].removeprefix("model")), m["age"]) for m in machines.to_pylist()}
    unknown = sorted(set(machine.tolist()) - set(described))
    if unknown:
        raise SourceError(f"PdM_machines.csv does not know machine {unknown[0]}.", next_step=_GET_IT)
    columns["model"], columns["years"] = np.array([described[m] for m in machine.tolist()], dtype=float).T
    return pa.table(
        {
            "equipment_id": pa.array([_equipment_id(m) for m in machine.tolist()], pa.string()),
            "ts": pa.array(ts).cast(pa.timestamp("us", tz="UTC")),
            **{name: pa.array(columns[name], from_pandas=True) for name in COLUMNS},
        }
    )


def read_failures(directory: Path) -> pa.Table:
    """Maintenance events, by time: each machine's failures, those of several components in one hour as one.

    Raises:
        SourceError: the file is missing or cannot be read.
    """
    types = {"datetime": pa.timestamp("us"), "machineID": pa.int64(), "failure": pa.string()}
    failures = _csv(directory, "failures", types)
    modes: dict[tuple[datetime, int], list[str]] = {}
    for row in failures.to_pylist():
        modes.setdefault((row["datetime"], row["machineID"]), []).append(row["failure"])
    order = sorted(modes)
    return pa.table(
        {
            "equipment_id": pa.array([_equipment_id(machine) for _, machine in order], pa.string()),
            "ts": pa.array([ts for ts, _ in order], pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC")),
            "event": pa.array(["failure"] * len(order), pa.string()),
            "failure_mode": pa.array([", ".join(sorted(modes[key])) for key in order], pa.string()),
        }
    )


@dataclass(frozen=True, slots=True)
class _Events:
    """What happened to machines: (n,) `kind`, and `key`, which rises with machine, then time."""

    key: np.ndarray
    kind: np.ndarray

    def of(self, kind: str) -> _Events:
        mine = self.kind == kind
        return _Events(self.key[mine], self.kind[mine])

    def until(self, machine: np.ndarray, ts: np.ndarray) -> np.ndarray:
        """(m,) how many events of a machine lie at or before ts."""
        before_machine = np.searchsorted(self.key, _key(machine, np.zeros_like(ts)), side="left")
        return np.searchsorted(self.key, _key(machine, ts), side="right") - before_machine

    def days_since(self, machine: np.ndarray, ts: np.ndarray) -> np.ndarray:
        """(m,) days since a machine's latest event at or before ts; NaN before its first."""
        days, known = np.full(len(ts), np.nan), self.until(machine, ts) > 0
        key = _key(machine, ts)[known]
        days[known] = (key - self.key[np.searchsorted(self.key, key, side="right") - 1]) / _DAY.astype(np.int64)
        return days


def _key(machine: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """Rises with machine, then ts: microseconds since 1970 take 51 bits until 2041."""
    return (machine.astype(np.int64) << 51) + ts.astype(np.int64)


def _events(directory: Path, part: str) -> _Events:
    kind = {"errors": "errorID", "maint": "comp"}[part]
    types = {"datetime": pa.timestamp("us"), "machineID": pa.int64(), kind: pa.string()}
    rows = _csv(directory, part, types).sort_by([("machineID", "ascending"), ("datetime", "ascending")])
    key = _key(rows["machineID"].to_numpy(), _us(rows["datetime"]))
    return _Events(key, np.array(rows[kind].to_pylist(), dtype=object))


def _daily_means(directory: Path) -> pa.Table:
    """`machineID`, `date` (midnight before the first hour) and the sensors, by machine, then day."""
    hourly = directory / HOURLY
    if hourly.exists():
        types = {"datetime": pa.timestamp("us"), "machineID": pa.int64(), **dict.fromkeys(SENSORS, pa.float64())}
        rows = _csv(directory, "telemetry", types)
        day = (_us(rows["datetime"]) - _FROM).astype("datetime64[D]").astype("datetime64[us]")
        rows = rows.append_column("date", pa.array(day))
        means = rows.group_by(["machineID", "date"]).aggregate([*((s, "mean") for s in SENSORS), ("datetime", "count")])
        whole = means.filter(pc.equal(means["datetime_count"], 24))
        daily = pa.table(
            {"machineID": whole["machineID"], "date": whole["date"], **{s: whole[f"{s}_mean"] for s in SENSORS}}
        )
    else:
        found = sorted(directory.glob(DAILY))
        if not found:
            raise SourceError(f"{directory} has neither {HOURLY} nor {DAILY}.", next_step=_GET_IT)
        try:
            daily = pq.read_table(found[0], columns=["machineID", "date", *SENSORS])
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"{found[0]} cannot be read: {error}.", next_step=_GET_IT) from error
    return daily.sort_by([("machineID", "ascending"), ("date", "ascending")])


def _csv(directory: Path, part: str, types: dict[str, pa.DataType]) -> pa.Table:
    path = directory / f"PdM_{part}.csv"
    options = pacsv.ConvertOptions(
        column_types=types, include_columns=list(types), timestamp_parsers=["%Y-%m-%d %H:%M:%S"]
    )
    try:
        return pacsv.read_csv(path, convert_options=options)
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise SourceError(f"{path} cannot be read: {error}.", next_step=_GET_IT) from error


def _us(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]")


def _equipment_id(machine: int) -> str:
    return f"machine-{machine:03d}"


def _digest(directory: Path) -> str:
    """Of the bytes of all files there are."""
    found = hashlib.sha256()
    for path in sorted([*directory.glob("PdM_*.csv"), *directory.glob(DAILY)]):
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


@lru_cache(maxsize=2)
def _parsed(directory: Path, digest: str) -> tuple[pa.Table, pa.Table]:  # noqa: ARG001 - tells one content from another
    """Sources are opened anew at every tick of the landing sensor, and reading takes a while: hence the cache."""
    return read_readings(directory), read_failures(directory)


@dataclass(frozen=True, slots=True)
class AzurePdmSettings:
    """The source's table in a site file: `directory` with Microsoft's files."""

    directory: str


class AzurePdmReplay:
    """The year's readings and failures, on the days on which they were known."""

    def __init__(self, context: SourceContext, settings: AzurePdmSettings) -> None:
        self._context = context
        self._directory = Path(settings.directory)

    def batches(self, position: str | None, until: datetime) -> Iterator[Batch | RefusedBatch]:
        """See `backbone.sources.Source.batches`; a position is the last day that is done.

        Raises:
            SourceError: a file is missing or cannot be read.
            ConfigurationError: readings or failures lie outside the site's calendar.
        """
        digest = _digest(self._directory)
        readings, failures = _parsed(self._directory, digest)
        streams: dict[Stream, dict[date, pa.Table]] = {"telemetry": by_day(readings), "maintenance": by_day(failures)}
        txn = f"azure_pdm:{self._context.site}:{self._context.telemetry.name}:{digest[:16]}"
        yield from replayed(self._context, streams, position, until, txn=txn, data_set="Azure PdM")

    def taken_up(self, batch: Batch | RefusedBatch) -> None:
        """Nothing to let go of: the files stay as they are."""


def _open(context: SourceContext) -> Source:
    settings = settings_from(
        AzurePdmSettings, context.settings, where=f"source azure_pdm of {context.telemetry.name} at site {context.site}"
    )
    require_columns(context, "Azure PdM", COLUMNS)
    return AzurePdmReplay(context, settings)


SPEC = SourceSpec(
    name="azure_pdm",
    summary="Replays Microsoft's predictive maintenance data set, one reading a machine and day.",
    cannot=(
        "replay on other days than those of 2015",
        "send telemetry by the hour: a reading is a day's mean, known when the day is over",
        "tell a replaced component from a renewed machine: only failures end a life",
    ),
    open=_open,
)
