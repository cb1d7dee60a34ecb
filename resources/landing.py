"""Landing: where the edge keeps what sources hand over until the graph stores it, as an append-only Delta table.

Taking up is effectively once: a commit carries the `txn` of each batch in it as a Delta transaction
identifier, and a `txn` that is there already is not written again. Of batches in a series it carries the series and the
highest serial: a log that grew with every batch of a gateway would be read by all who open the table.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backbone.contracts import Contract
from backbone.errors import ContractError
from backbone.row_checks import DEFECT, RAW, decode, landed_schema
from backbone.sources import Batch, RefusedBatch, Stream
from backbone.windows import WindowRange, day_until
from resources.stores.durable import alone
from resources.stores.followed import latest
from resources.stores.tables import DATE, SITE, UNINDEXED, adds, in_days, scan, storage_errors, writer_properties
from resources.stores.upkeep import compact

ARRIVAL, BATCH, OFFSET = "arrival", "batch", "offset"
"""Where a row came from: a number that rises from batch to batch, the batch's `txn`, and the row's number in it."""
PLACE = pa.schema([(ARRIVAL, pa.int64()), (BATCH, pa.string()), (OFFSET, pa.int64())])
READING_ID, RECEIVED_AT, IS_HISTORICAL = "reading_id", "received_at", "is_historical"
"""What a gateway tells of a row: the reading's id at its sender, `source/session/seq`; when the gateway had it; and
whether it was kept for long, there or at its sender, before it landed. Null where a source does not tell."""
TOLD = pa.schema([(READING_ID, pa.string()), (RECEIVED_AT, pa.timestamp("us", tz="UTC")), (IS_HISTORICAL, pa.bool_())])
PROVENANCE = pa.unify_schemas([PLACE, TOLD])
_MOST_BATCHES_A_COMMIT = 1 << 20
AHEAD_OF_CLOCK = "ahead_of_clock"
CLOCKS_DIFFER = timedelta(minutes=10)
"""How far ahead of the plant's clock a machine's may be. A reading from further ahead would be its machine's newest for
hours, and let all others seem silent."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch. `rows` is 0 where it was known already; `note` says why it was refused."""

    rows: int
    new: bool
    note: str = ""


class Landing:
    """The landing tables of one fleet: one for each stream."""

    def __init__(
        self, path: Path, site: str, contracts: Mapping[Stream, Contract], first_day: date, last_day: date | None
    ) -> None:
        self._path, self._site, self._contracts = path, site, contracts
        self._first, self._last = first_day, last_day

    def take_up(self, batches: Sequence[Batch | RefusedBatch], *, until: datetime) -> list[Receipt]:
        """Make batches durable, with each row in the window of its own timestamp; one commit a stream.

        A row whose timestamp is missing or outside the plant's calendar lands in the batch's day, and a batch nobody
        can read lands there as one row with the reason: both end in quarantine. So does a row that is more than
        `CLOCKS_DIFFER` ahead, for which the batch's day is taken where its own has not begun.

        Args:
            until: up to when readings are due, by the plant's own clock.

        Returns:
            What became of each batch, in the order given.

        Raises:
            StorageFull: no batch of the stream was taken up; calling again with the same is safe.
        """
        receipts: dict[int, Receipt] = {}
        for stream in self._contracts:
            path = self._path / stream
            with storage_errors(path):
                path.mkdir(parents=True, exist_ok=True)
                with alone(path):
                    receipts |= self._append(path, {i: b for i, b in enumerate(batches) if b.stream == stream}, until)
        return [receipts[i] for i in range(len(batches))]

    def _append(self, path: Path, batches: Mapping[int, Batch | RefusedBatch], until: datetime) -> dict[int, Receipt]:
        from deltalake import CommitProperties, Transaction, write_deltalake

        table = latest(path) if batches and (path / "_delta_log").is_dir() else None
        commit = table.version() + 1 if table is not None else 0
        receipts: dict[int, Receipt] = {}
        fresh: dict[str, pa.Table] = {}
        taken: dict[str, int] = {}
        for index, batch in batches.items():
            series, serial = _series(batch)
            highest = taken.get(series, table.transaction_version(series) if table is not None else None)
            known = highest is not None and serial <= highest
            rows, note = self._rows(batch, until)
            receipts[index] = Receipt(rows=0 if known else rows.num_rows, new=not known, note=note)
            if not known:
                arrival = commit * _MOST_BATCHES_A_COMMIT + len(fresh)
                fresh[batch.txn] = rows.append_column(ARRIVAL, pa.repeat(pa.scalar(arrival), rows.num_rows))
                taken[series] = serial
        if fresh:
            landed = pa.concat_tables(fresh.values())
            write_deltalake(
                table if table is not None else str(path),
                landed,
                mode="append",
                partition_by=[SITE, DATE],
                schema_mode="merge" if table is not None else None,
                configuration=UNINDEXED if table is None else None,
                writer_properties=writer_properties(landed.schema),
                commit_properties=CommitProperties(app_transactions=[Transaction(*one) for one in taken.items()]),
            )
        return receipts

    def _rows(self, batch: Batch | RefusedBatch, until: datetime) -> tuple[pa.Table, str]:
        contract = self._contracts[batch.stream]
        note = ""
        if isinstance(batch, Batch):
            try:
                rows = decode(contract, batch.rows)
            except ContractError as error:
                note = error.problem
        else:
            note = batch.reason
        if note:
            rows = pa.Table.from_pylist([{DEFECT: note, RAW: batch.origin}], landed_schema(contract))
        return self._placed(rows, contract, batch, until), note

    def _placed(self, rows: pa.Table, contract: Contract, batch: Batch | RefusedBatch, until: datetime) -> pa.Table:
        ts = next(c.name for c in contract.columns if c.key and c.logical_type == "timestamp")
        rows = _ahead_of_clock(rows, ts, until + CLOCKS_DIFFER)
        day = rows[ts].cast(pa.date32(), safe=False)
        last = min(day_until(until), self._last or day_until(until))
        usable = pc.and_(pc.greater_equal(day, pa.scalar(self._first)), pc.less_equal(day, pa.scalar(last)))
        fallback = max(min(batch.day, last), self._first)
        day = pc.if_else(pc.fill_null(usable, False), day, pa.scalar(fallback))
        rows = (
            rows.append_column(BATCH, pa.repeat(pa.scalar(batch.txn), rows.num_rows))
            .append_column(SITE, pa.repeat(pa.scalar(self._site), rows.num_rows))
            .append_column(DATE, day)
        )
        return _with_told(rows, batch.provenance if isinstance(batch, Batch) else None)

    def path(self, stream: Stream) -> Path:
        """Where a stream's table lies, or will."""
        return self._path / stream

    def taken_up_to(self, stream: Stream, series: str) -> int | None:
        """The highest serial of a series that was taken up; None: none was."""
        path = self._path / stream
        return latest(path).transaction_version(series) if (path / "_delta_log").is_dir() else None

    def fingerprints(self) -> dict[date, str]:
        """Day → what has landed for it, over both streams; changes whenever something lands. Reads the logs only.

        Rows are only ever added: how many there are, and of which table, says it. Which files they lie in does not.
        """
        parts: dict[date, list[str]] = defaultdict(list)
        for stream in sorted(self._contracts):
            if counts := self.counts(stream):
                table = latest(self._path / stream).metadata().id
                for day, rows in counts.items():
                    parts[day].append(f"{stream} {table} {rows}")
        return {day: hashlib.sha256("\n".join(p).encode()).hexdigest()[:16] for day, p in parts.items()}

    def compact(self, stream: Stream, before: date) -> list[date]:
        """Have the rows of days before a day lie in few files, see `resources.stores.upkeep.compact`: a gateway lands
        every few seconds, and all files of all days are known to whoever opens the table.
        """
        return compact(self._path / stream, self._site, before)

    def counts(self, stream: Stream) -> dict[date, int]:
        """Rows accepted for each day, as the commits counted them. Reads the log only."""
        counts: Counter[date] = Counter()
        for day, rows in self._adds(stream):
            counts[day] += rows
        return dict(counts)

    def export(self, stream: Stream, windows: WindowRange, file: Path) -> int:
        """Pack the windows' landed rows, in the order they were taken up, into one Parquet file for a conduit."""
        path = self._path / stream
        if (path / "_delta_log").is_dir():
            table, days = latest(path), (self._site, windows.first, windows.last)
            files = adds(path, *days, table=table)["path"].to_pylist()
            rows = scan(path, in_days(*days), files=files, table=table)
            rows = rows.sort_by([(ARRIVAL, "ascending"), (OFFSET, "ascending")])
            for field in TOLD:  # tables of before gateways told this lack it
                if field.name not in rows.column_names:
                    rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        else:
            rows = self._empty(stream)
        file.parent.mkdir(parents=True, exist_ok=True)
        with storage_errors(file):
            pq.write_table(rows, file)
        return rows.num_rows

    def _empty(self, stream: Stream) -> pa.Table:
        partitions = pa.schema([(SITE, pa.string()), (DATE, pa.date32())])
        return pa.unify_schemas([landed_schema(self._contracts[stream]), PROVENANCE, partitions]).empty_table()

    def _adds(self, stream: Stream) -> list[tuple[date, int]]:
        """Day and number of rows of each file."""
        path = self._path / stream
        if not (path / "_delta_log").is_dir():
            return []
        held = adds(path, self._site)
        return list(zip(held["partition.date"].to_pylist(), held["num_records"].to_pylist(), strict=True))


def _series(batch: Batch | RefusedBatch) -> tuple[str, int]:
    if isinstance(batch, Batch) and batch.series is not None:
        return batch.series, batch.serial
    return batch.txn, 1


def _with_told(rows: pa.Table, told: pa.Table | None) -> pa.Table:
    """The rows with their offsets, as numbered by whoever sent them, else counted, and what else was told of them."""
    n = rows.num_rows
    if told is None or told.num_rows != n:  # a batch nobody can read is one row, whatever it held
        told = pa.table({OFFSET: pa.array(range(n), pa.int64())})
    rows = rows.append_column(OFFSET, told[OFFSET])
    for field in TOLD:
        column = told[field.name] if field.name in told.column_names else pa.nulls(n, field.type)
        rows = rows.append_column(field, column)
    return rows


def _ahead_of_clock(rows: pa.Table, ts: str, latest: datetime) -> pa.Table:
    """The rows, those among them that say a later time with this as their defect, if they have none yet."""
    ahead = pc.fill_null(pc.greater(rows[ts], pa.scalar(latest, pa.timestamp("us", tz="UTC"))), False)
    if not pc.any(ahead).as_py():
        return rows
    defect = pc.if_else(pc.and_(ahead, pc.is_null(rows[DEFECT])), AHEAD_OF_CLOCK, rows[DEFECT])
    return rows.set_column(rows.column_names.index(DEFECT), rows.schema.field(DEFECT), defect)
