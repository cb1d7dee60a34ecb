"""Source `skab`: replays the Skoltech Anomaly Benchmark, experiments on a water circulation testbed.

Katser & Kozitsin, "Skoltech Anomaly Benchmark (SKAB)", 2020. An experiment is one file of readings, about one a second,
with semicolons between columns. Each counts as a machine, named after its file below the directory (`valve1-0`), since
each begins with the testbed in order; when it ends the testbed is set right, which counts as preventive work. Whether
a reading was anomalous (`anomaly`) is read by the evaluation only, and never replayed.
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
import pyarrow.csv as pacsv

from backbone.errors import SourceError
from backbone.settings import settings_from
from backbone.sources import Batch, RefusedBatch, Source, SourceContext, SourceSpec, Stream
from resources.dated_replay import by_day, replayed, require_columns

COLUMNS = {
    "Accelerometer1RMS": "accelerometer_1",
    "Accelerometer2RMS": "accelerometer_2",
    "Current": "current",
    "Pressure": "pressure",
    "Temperature": "engine_temperature",
    "Thermocouple": "water_temperature",
    "Voltage": "voltage",
    "Volume Flow RateRMS": "flow",
}
"""The files' sensors by their names in the contract."""
LABEL = "anomaly"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One file: `name`, its `readings` (`equipment_id`, `ts` and the sensors, in the order of time), and which of these
    were anomalous, (n,) bool, None where the file does not say. `digest` is the SHA-256 of its bytes."""

    name: str
    readings: pa.Table
    anomalous: np.ndarray | None
    digest: str


def read_experiments(directory: Path) -> list[Experiment]:
    """Every file `*.csv` below a directory that has the benchmark's sensors, by name.

    Raises:
        SourceError: there is none, or one that has these columns cannot be read; names the file.
    """
    if not directory.is_dir():
        raise SourceError(f"{directory} is no directory.", next_step=_GET_IT)
    files = sorted(directory.rglob("*.csv"))
    found = [e for path in files if (e := _read(path, directory)) is not None]
    if not found:
        raise SourceError(f"No file below {directory} has the columns {', '.join(COLUMNS)}.", next_step=_GET_IT)
    return found


_GET_IT = "Get SKAB's `data` folder and give it, or one of those in it."


def _read(path: Path, directory: Path) -> Experiment | None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.", next_step=_GET_IT) from error
    header = content.partition(b"\n")[0].decode("utf-8", "replace").strip().split(";")
    if not {"datetime", *COLUMNS} <= set(header):
        return None
    try:
        return _parse(content, "-".join(path.relative_to(directory).with_suffix("").parts))
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise SourceError(f"{path} is no experiment: {error}.", next_step="Copy the file again.") from error


@lru_cache(maxsize=64)
def _parse(content: bytes, name: str) -> Experiment:
    """Sources are opened anew at every tick of the landing sensor, and parsing takes a while: hence the cache."""
    types = {"datetime": pa.timestamp("us"), LABEL: pa.float64(), **dict.fromkeys(COLUMNS, pa.float64())}
    table = pacsv.read_csv(
        pa.BufferReader(content),
        parse_options=pacsv.ParseOptions(delimiter=";"),
        convert_options=pacsv.ConvertOptions(column_types=types, timestamp_parsers=["%Y-%m-%d %H:%M:%S"]),
    ).sort_by("datetime")
    ts = table["datetime"].cast(pa.timestamp("us", tz="UTC"))
    sensors = {name_: table[column] for column, name_ in COLUMNS.items()}
    who = pa.array([name] * table.num_rows, pa.string())
    anomalous = table[LABEL].to_numpy() == 1 if LABEL in table.column_names else None
    readings = pa.table({"equipment_id": who, "ts": ts, **sensors})
    return Experiment(name, readings, anomalous, hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class SkabSettings:
    """The source's table in a site file: `directory` with the benchmark's files."""

    directory: str


class SkabReplay:
    """The experiments in the order in which they were made. The files are read when the first batch is asked for."""

    def __init__(self, context: SourceContext, settings: SkabSettings) -> None:
        self._context = context
        self._directory = Path(settings.directory)

    def batches(self, position: str | None, until: datetime) -> Iterator[Batch | RefusedBatch]:
        """See `backbone.sources.Source.batches`; a position is the last day that is done.

        Raises:
            SourceError: there is no experiment.
            ConfigurationError: an experiment lies outside the site's calendar.
        """
        experiments = read_experiments(self._directory)
        readings = pa.concat_tables([e.readings for e in experiments])
        ends = pa.concat_tables(
            [e.readings.select(["equipment_id", "ts"]).slice(len(e.readings) - 1) for e in experiments]
        )
        work = ends.append_column("event", pa.array(["preventive"] * len(ends)))
        work = work.append_column("failure_mode", pa.nulls(len(ends), pa.string()))
        streams: dict[Stream, dict[date, pa.Table]] = {"telemetry": by_day(readings), "maintenance": by_day(work)}
        digest = hashlib.sha256(str([(e.name, e.digest) for e in experiments]).encode()).hexdigest()[:16]
        txn = f"skab:{self._context.site}:{self._context.telemetry.name}:{digest}"
        yield from replayed(self._context, streams, position, until, txn=txn, data_set="SKAB", what="experiments")

    def taken_up(self, batch: Batch | RefusedBatch) -> None:
        """Nothing to let go of: the files stay as they are."""


def _open(context: SourceContext) -> Source:
    settings = settings_from(
        SkabSettings, context.settings, where=f"source skab of {context.telemetry.name} at site {context.site}"
    )
    require_columns(context, "SKAB", tuple(COLUMNS.values()))
    return SkabReplay(context, settings)


SPEC = SourceSpec(
    name="skab",
    summary="Replays the Skoltech Anomaly Benchmark, each experiment as a machine on the days it was made on.",
    cannot=(
        "replay on other days than those of the files",
        "say what was done to the testbed: the files' names only hint at it",
        "tell a reading that was taken twice from two: a second with two readings is sent as it is",
    ),
    open=_open,
)
