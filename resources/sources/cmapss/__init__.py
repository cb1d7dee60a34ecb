"""Source `cmapss`: replays NASA's C-MAPSS turbofan files as if the engines flew now.

A unit is an equipment (`train-001`, `test-001`), a cycle is a reading, and every engine flies one cycle a day,
at noon UTC. Training units all start on the calendar's first day; each fails at its last reading. Test units
are aligned to their end: the last cycle of each falls on the calendar's last day, so the last window of the
replay is the benchmark's own question, and the answer is in the RUL file, which is never replayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backbone.day_positions import days_after, within_day
from backbone.errors import ConfigurationError, UnknownName
from backbone.settings import settings_from
from backbone.sources import Batch, RefusedBatch, Source, SourceContext, SourceSpec, Stream
from backbone.windows import day_until
from resources.dated_replay import batches_of_day, by_day, require_columns
from resources.sources.cmapss.text_files import (
    COLUMNS,
    SPLITS,
    SUBSETS,
    ParsedFile,
    Split,
    parsed_file,
    path_of,
    read_rul,
    read_units,
)

__all__ = [
    "SPEC",
    "CmapssReplay",
    "CmapssSettings",
    "calendar_days",
    "ending_on",
    "failures",
    "read_rul",
    "read_units",
    "starting_on",
]

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class CmapssSettings:
    """The source's table in a site file.

    Attributes:
        directory: folder with NASA's text files.
        subset: one of `SUBSETS`.
    """

    directory: str
    subset: str


def calendar_days(directory: Path, subset: str) -> int:
    """Days a replay takes: the cycles of the longest unit, trained on or tested."""
    return max(pc.max(parsed_file(directory, subset, split).units["cycle"]).as_py() for split in SPLITS)


def starting_on(units: pa.Table, first_day: date) -> pa.Table:
    """The units with their timestamps (`ts`, UTC), each one's cycle 1 on `first_day`."""
    return _dated(units, _noon(first_day) + (units["cycle"].to_numpy() - 1) * _DAY_US)


def ending_on(units: pa.Table, last_day: date) -> pa.Table:
    """The units with their timestamps (`ts`, UTC), each one's last cycle on `last_day`."""
    return _dated(units, _noon(last_day) + (units["cycle"].to_numpy() - _last_cycle(units)) * _DAY_US)


def failures(readings: pa.Table) -> pa.Table:
    """Maintenance events of units that ran to failure: each fails at its last reading.

    The files do not say what failed, so `failure_mode` is null.
    """
    ends = readings.group_by("equipment_id", use_threads=False).aggregate([("ts", "max")])
    rows = ends.num_rows
    return pa.table(
        {
            "equipment_id": ends["equipment_id"],
            "ts": ends["ts_max"],
            "event": pa.array(["failure"] * rows, pa.string()),
            "failure_mode": pa.nulls(rows, pa.string()),
        }
    ).sort_by([("ts", "ascending"), ("equipment_id", "ascending")])


class CmapssReplay:
    """One subset's replay. The files are read when the first batch is asked for."""

    def __init__(self, context: SourceContext, settings: CmapssSettings) -> None:
        self._context = context
        self._directory, self._subset = Path(settings.directory), settings.subset

    def batches(self, position: str | None, until: datetime) -> Iterator[Batch | RefusedBatch]:
        """See `backbone.sources.Source.batches`; a position is the last day that is done.

        Raises:
            SourceError: a file is missing or holds no reading at all.
            ConfigurationError: the site's calendar ends before the replay does.
        """
        first = self._context.first_day
        last = first + timedelta(days=calendar_days(self._directory, self._subset) - 1)
        if self._context.last_day is not None and self._context.last_day < last:
            raise ConfigurationError(
                f"Site {self._context.site} ends on {self._context.last_day}, the replay of {self._subset} on {last}.",
                next_step=f"Set calendar.last_day = {last} in its site file.",
            )
        files = {split: parsed_file(self._directory, self._subset, split) for split in SPLITS}
        train = starting_on(files["train"].units, first)
        streams: dict[Stream, dict[date, pa.Table]] = {
            "telemetry": by_day(pa.concat_tables([train, ending_on(files["test"].units, last)])),
            "maintenance": by_day(failures(train)),
        }
        digest = hashlib.sha256(f"{first}{''.join(f.digest for f in files.values())}".encode()).hexdigest()[:16]
        for day in days_after(position, first, min(day_until(until), last)):
            handed = self._refused(files, digest, day) if day == first else []
            txn = self._txn_prefix(digest)
            handed += batches_of_day(day, streams, txn=txn, data_set=f"C-MAPSS {self._subset}")
            yield from within_day(day, handed)

    def taken_up(self, batch: Batch | RefusedBatch) -> None:
        """Nothing to let go of: the files stay as they are."""

    def _txn_prefix(self, digest: str) -> str:
        return f"cmapss:{self._context.site}:{self._context.telemetry.name}:{self._subset}:{digest}"

    def _refused(self, files: dict[Split, ParsedFile], digest: str, day: date) -> list[Batch | RefusedBatch]:
        """Bad lines count in the first day: a line that cannot be read does not say when it flew."""
        return [
            RefusedBatch(
                txn=f"{self._txn_prefix(digest)}:{split}:line{bad.number}",
                stream="telemetry",
                day=day,
                reason=f"unreadable_line: line {bad.number}: {bad.reason}",
                origin=path_of(self._directory, split, self._subset).name,
                position="",
            )
            for split, parsed in files.items()
            for bad in parsed.bad
        ]


def _noon(day: date) -> int:
    return int(np.datetime64(day.isoformat(), "us").astype(np.int64)) + _DAY_US // 2


def _dated(units: pa.Table, ts_us: np.ndarray) -> pa.Table:
    return units.add_column(1, "ts", pa.array(ts_us.astype("datetime64[us]"), pa.timestamp("us", tz="UTC")))


def _last_cycle(units: pa.Table) -> np.ndarray:
    """The last cycle of each row's unit, (rows,) int64."""
    ids, inverse = np.unique(units["equipment_id"].to_numpy(), return_inverse=True)
    last = np.zeros(len(ids), np.int64)
    np.maximum.at(last, inverse, units["cycle"].to_numpy())
    return last[inverse]


def _open(context: SourceContext) -> Source:
    settings = settings_from(
        CmapssSettings, context.settings, where=f"source cmapss of {context.telemetry.name} at site {context.site}"
    )
    if settings.subset not in SUBSETS:
        raise UnknownName(f"C-MAPSS subset (site {context.site})", settings.subset, SUBSETS)
    require_columns(context, "C-MAPSS", COLUMNS)
    return CmapssReplay(context, settings)


SPEC = SourceSpec(
    name="cmapss",
    summary="Replays NASA's C-MAPSS run-to-failure files, one flight cycle a day.",
    cannot=(
        "say what failed on an engine: the files do not",
        "replay after its calendar: an engine flies each cycle once",
        "tell a copy of the files from the original: it checks their form, not their digest",
    ),
    open=_open,
)
