"""Dead letters: what a site's gateways acknowledged without being able to use it, as an append-only Delta table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backbone.windows import WindowRange
from resources.stores.durable import alone
from resources.stores.followed import latest
from resources.stores.opened import Size, note_read
from resources.stores.tables import (
    DATE,
    SITE,
    UNINDEXED,
    adds,
    in_days,
    scan_batches,
    storage_errors,
    writer_properties,
)
from resources.stores.upkeep import compact

NAME = "dead_letters"
LETTERS = pa.schema(
    [
        pa.field(SITE, pa.string(), nullable=False),
        pa.field(DATE, pa.date32(), nullable=False),
        pa.field("gateway", pa.string(), nullable=False),
        pa.field("spool", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("equipment", pa.string(), nullable=False),
        pa.field("equipment_class", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("traceparent", pa.string()),
    ]
)
"""`digest` is the SHA-256 of `raw`, the payload as it came; `date` is the day the gateway had it; `equipment_class` is
that of the fleet its machine is of, null where it is of none."""

TALLY = pa.schema(
    [
        (DATE, pa.date32()),
        ("gateway", pa.string()),
        ("source", pa.string()),
        ("reason", pa.string()),
        ("equipment_class", pa.string()),
        ("letters", pa.int64()),
        ("newest_at", pa.timestamp("us", tz="UTC")),
        ("equipment_id", pa.string()),
        ("digest", pa.string()),
    ]
)
"""How many letters that have the first five in common came, and the newest of them: when, machine and digest. Source
and class are `NONE` where nobody can tell them, the machine is null."""
NONE = "none"
_COMMON, _NEWEST = TALLY.names[:5], TALLY.names[6:]
_NAMES = {"received_at": "newest_at", "equipment": "equipment_id"}
"""Of columns of a letter in a tally, where they are others."""


class DeadLetters:
    """The table of a site, in the columns of `LETTERS`, partitioned by site and date."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        return (self.path / "_delta_log").is_dir()

    @property
    def version(self) -> int | None:
        """Version of the last commit; None before the first."""
        return latest(self.path).version() if self.exists else None

    def taken_up_to(self, series: str) -> int | None:
        """The highest serial of a series that was added; None: none was."""
        return latest(self.path).transaction_version(series) if self.exists else None

    def add(self, letters: pa.Table, series: str, serial: int) -> bool:
        """Add letters, unless this serial of the series, or a higher one, was added before; whether they were.

        Raises:
            StorageFull: nothing was added.
            StoreBusy: another gateway was adding; try again.
        """
        from deltalake import CommitProperties, Transaction, write_deltalake

        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with alone(self.path):
                known = self.taken_up_to(series)
                if known is not None and serial <= known:
                    return False
                there = self.exists
                write_deltalake(
                    latest(self.path) if there else str(self.path),
                    letters,
                    mode="append",
                    partition_by=[SITE, DATE],
                    schema_mode="merge" if there else None,
                    configuration=None if there else UNINDEXED,
                    writer_properties=writer_properties(letters.schema),
                    commit_properties=CommitProperties(app_transactions=[Transaction(series, serial)]),
                )
        return True

    def compact(self, site: str, before: date) -> list[date]:
        """Have the letters of days before a day lie in few files, see `resources.stores.upkeep.compact`."""
        return compact(self.path, site, before)

    def counts(self, site: str) -> dict[date, int]:
        """Letters of each day. Reads the log only."""
        counts: Counter[date] = Counter()
        if self.exists:
            held = adds(self.path, site)
            for day, rows in zip(held["partition.date"].to_pylist(), held["num_records"].to_pylist(), strict=True):
                counts[day] += rows
        return dict(counts)

    def export(self, windows: WindowRange, file: Path) -> None:
        """Pack the tally of some days, in `TALLY`, into one Parquet file for a conduit: what came stays where it is."""
        tally = self.tally(windows)
        file.parent.mkdir(parents=True, exist_ok=True)
        with storage_errors(file):
            pq.write_table(tally, file)

    def tally(self, windows: WindowRange) -> pa.Table:
        """Letters of some days by what they have in common, in `TALLY`; some at a time, however many they are."""
        if not self.exists:
            return tally_of(())
        table, days = latest(self.path), (windows.site, windows.first, windows.last)
        there = {field.name for field in table.schema().fields}
        columns = [name for name in LETTERS.names if _NAMES.get(name, name) in TALLY.names and name in there]
        held, batches = (
            adds(self.path, *days, table=table),
            scan_batches(self.path, in_days(*days), columns, table=table),
        )
        size = Size(pc.sum(held["size_bytes"]).as_py() or 0, held.num_rows)
        note_read(self.path, table.version(), pc.sum(held["num_records"]).as_py() or 0, size)
        return tally_of(batches)


def tally_of(letters: Iterable[pa.RecordBatch]) -> pa.Table:
    """The tally of letters, in `TALLY`: of each kind the newest one's particulars, in no order."""
    tally = TALLY.empty_table()
    for batch in letters:
        tally = _merged(pa.concat_tables([tally, _each(batch)]))
    return tally


def _each(letters: pa.RecordBatch) -> pa.Table:
    """Letters in `TALLY`, each for itself."""
    rows = pa.Table.from_batches([letters])
    rows = rows.rename_columns([_NAMES.get(name, name) for name in rows.column_names])
    if "equipment_class" not in rows.column_names:  # of before gateways told it
        rows = rows.append_column("equipment_class", pa.nulls(rows.num_rows, pa.string()))
    for name, otherwise in (("source", NONE), ("equipment_class", NONE), ("equipment_id", None)):
        told = pc.if_else(pc.equal(pc.fill_null(rows[name], ""), ""), pa.scalar(otherwise, pa.string()), rows[name])
        rows = rows.set_column(rows.column_names.index(name), name, told)
    rows = rows.append_column("letters", pa.repeat(pa.scalar(1, pa.int64()), rows.num_rows))
    return rows.select(TALLY.names).cast(TALLY)


def _merged(tally: pa.Table) -> pa.Table:
    """One row for all that have the same in common."""
    how = [("letters", "sum"), *((name, "first") for name in _NEWEST)]
    # In one thread: the first of each is that of the order the rows are in.
    found = tally.sort_by([("newest_at", "descending")]).group_by(_COMMON, use_threads=False).aggregate(how)
    names = [name.removesuffix("_sum").removesuffix("_first") for name in found.column_names]
    return found.rename_columns(names).select(TALLY.names).cast(TALLY)
