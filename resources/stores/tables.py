"""Delta tables partitioned by site and date (https://delta.io/specifications).

Replacing a partition is one atomic commit; the table's version is the data set's version.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import stamina

from backbone.errors import StorageFull, StoreBusy
from backbone.windows import WindowRange
from resources.stores.followed import latest
from resources.stores.opened import NOTHING, Size, note_read, note_written, noted

if TYPE_CHECKING:
    from deltalake import DeltaTable, WriterProperties

SITE, DATE = "site", "date"
CONFIGURATION = {"delta.checkpointInterval": "20"}
"""Whoever opens a table reads all commits since the last checkpoint: of a hundred, Delta's default, 0.3 ms each."""
UNINDEXED = CONFIGURATION | {"delta.dataSkippingNumIndexedCols": "0"}
"""Of tables that many small commits are made to: whoever opens one then has no least and greatest value of each column
of each file in memory. Days are found by their folders."""
_PARTITIONS = pa.schema([pa.field(SITE, pa.string()), pa.field(DATE, pa.date32())])
_COMMIT_ATTEMPTS = 5
_COMMITS_BACK = 20
"""How many commits of others there may be since one's own, for it to be found again."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a disk and of competing writers into ours."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except CommitFailedError as error:
        raise StoreBusy(f"{path} was changed by another writer.", next_step="Run the step again.") from error
    except (OSError, DeltaError) as error:
        # Delta's writer tells of a full disk in its text only.
        if getattr(error, "errno", None) in _FULL or os.strerror(errno.ENOSPC) in str(error):
            raise StorageFull(
                f"No room left to write {path}.", next_step="Free some space, then run the step again."
            ) from error
        raise


class WindowTable:
    """One data product's table in one location's store; rows carry their window in `site` and `date`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        return (self.path / "_delta_log").is_dir()

    @property
    def version(self) -> int | None:
        """Version of the last commit; None before the first."""
        return self._open().version() if self.exists else None

    def replace(self, windows: WindowRange, rows: pa.Table, *, run_id: str) -> int:
        """Put `rows` in place of everything the windows held.

        Args:
            rows: with a `date` column inside the windows, or with none if the range is one day.

        Returns:
            The version this commit made.

        Raises:
            StoreBusy: another writer kept winning the same partition.
            StorageFull: the disk is full; the table is as it was.
        """
        where = f"{SITE} = '{windows.site}' AND {DATE} >= '{windows.first}' AND {DATE} <= '{windows.last}'"
        if DATE not in rows.column_names:
            rows = rows.append_column(DATE, pa.repeat(pa.scalar(windows.first, pa.date32()), rows.num_rows))
        return self._write(with_site(rows, windows.site), where, run_id)

    def replace_site(self, site: str, rows: pa.Table, *, run_id: str) -> int:
        """Put `rows` (with a `date` column) in place of everything the site held."""
        return self._write(with_site(rows, site), f"{SITE} = '{site}'", run_id)

    @stamina.retry(on=StoreBusy, attempts=_COMMIT_ATTEMPTS, wait_initial=0.05, wait_max=1.0)
    def _write(self, rows: pa.Table, where: str, run_id: str) -> int:
        from deltalake import CommitProperties, write_deltalake

        with storage_errors(self.path):
            created = not self.exists
            if created:
                self.path.mkdir(parents=True, exist_ok=True)
            write_deltalake(
                str(self.path) if created else self._open(),
                rows,
                mode="overwrite",
                predicate=None if created else where,
                partition_by=[SITE, DATE],
                schema_mode=None if created else "merge",
                configuration=CONFIGURATION if created else None,
                writer_properties=writer_properties(rows.schema),
                commit_properties=CommitProperties(custom_metadata={"run_id": run_id}),
            )
            return self._committed(run_id)

    def _committed(self, run_id: str) -> int:
        """Version of the last commit of a run, and a note of what it added."""
        newest = self._open().version()
        for version in range(newest, max(newest - _COMMITS_BACK, -1), -1):
            added = _added(self.path, version, run_id)
            if added is not None:
                note_written(self.path, version, added)
                return version
        note_written(self.path, newest)
        return newest

    def read(
        self,
        site: str,
        first: date | None = None,
        last: date | None = None,
        *,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """The rows of a site from `first` to `last`, both included and either open; in no order.

        Raises:
            FileNotFoundError: the table has never been written.
        """
        if not self.exists:
            raise FileNotFoundError(self.path)
        # A table's other files need not even be looked for on the disk.
        table = self._open()
        files = adds(self.path, site, first, last, table=table)["path"].to_pylist()
        return scan(self.path, in_days(site, first, last), columns, files=files, table=table)

    def rows_by_day(self, site: str) -> dict[date, int]:
        """How many rows each day of a site holds; reads the log only."""
        if not self.exists:
            return {}
        held = adds(self.path, site)
        counts: Counter[date] = Counter()
        for day, rows in zip(held["partition.date"].to_pylist(), held["num_records"].to_pylist(), strict=True):
            counts[day] += rows
        return dict(counts)

    def _open(self) -> DeltaTable:
        return latest(self.path)


def adds(
    path: Path, site: str, first: date | None = None, last: date | None = None, *, table: DeltaTable | None = None
) -> pa.Table:
    """The files of a site's days, as the log tells of them: `path`, `num_records`, `partition.date`, and more.

    Args:
        table: as it was opened, for who asks it for more than one thing: they are of one version then.
    """
    told = pa.table((table or latest(path)).get_add_actions(flatten=True))
    mine = pc.equal(told["partition.site"].cast(pa.string()), site)
    days = told["partition.date"]
    if first is not None:
        mine = pc.and_(mine, pc.greater_equal(days, pa.scalar(first)))
    if last is not None:
        mine = pc.and_(mine, pc.less_equal(days, pa.scalar(last)))
    return told.filter(mine)


def in_days(site: str, first: date | None, last: date | None) -> pc.Expression:
    """Whether a row is of a site's days from `first` to `last`, both included and either open."""
    wanted = pc.field(SITE) == site
    if first is not None:
        wanted &= pc.field(DATE) >= pa.scalar(first)
    if last is not None:
        wanted &= pc.field(DATE) <= pa.scalar(last)
    return wanted


def scan(
    path: Path,
    wanted: pc.Expression,
    columns: Sequence[str] | None = None,
    *,
    files: Sequence[str] | None = None,
    table: DeltaTable | None = None,
) -> pa.Table:
    """Rows of a Delta table that lies in a local folder and is partitioned by site and date.

    Args:
        files: which of its files, as the log names them; None: all.
        table: as in `adds`; whoever takes `files` from it gives it, so that the version noted is theirs.

    Arrow reads the table's files itself. Through deltalake's own file system its threads would call back into
    Python, and abort a process that is just ending (seen in one of fifteen, on a busy machine).
    """
    table = table or latest(path)
    held = _held(path, table, files)
    if not held:
        note_read(path, table.version(), 0, NOTHING)
        schema = pa.schema(table.schema().to_arrow())
        return schema.empty_table().select(list(columns) if columns else schema.names)
    dataset = _dataset(path, table, held)
    rows = dataset.to_table(filter=wanted, columns=list(columns) if columns else None)
    if noted():
        opened = Size.of(Path(fragment.path) for fragment in dataset.get_fragments(wanted))
        note_read(path, table.version(), rows.num_rows, opened)
    return rows


def scan_batches(
    path: Path, wanted: pc.Expression, columns: Sequence[str], *, table: DeltaTable | None = None
) -> Iterator[pa.RecordBatch]:
    """As `scan`, some rows at a time, for what need not be in memory as a whole; nobody's notes tell of it."""
    table = table or latest(path)
    if not (held := _held(path, table, None)):
        return iter(())
    # Opened now, read later: a table that stays open goes on to its next version meanwhile.
    batches = _dataset(path, table, held).to_batches(
        filter=wanted, columns=list(columns), batch_readahead=1, fragment_readahead=1
    )
    return iter(batches)


def _held(path: Path, table: DeltaTable, files: Sequence[str] | None) -> list[str]:
    if files is None:
        return [uri.removeprefix("file://") for uri in table.file_uris()]
    return [str(path / unquote(name)) for name in files]


def _dataset(path: Path, table: DeltaTable, held: Sequence[str]) -> Any:
    import pyarrow.dataset as ds

    return ds.dataset(
        list(held),
        schema=pa.schema(table.schema().to_arrow()),
        format="parquet",
        partitioning=ds.partitioning(_PARTITIONS, flavor="hive"),
        partition_base_dir=str(path),
    )


def _added(path: Path, version: int, run_id: str) -> dict[date | None, Size] | None:
    """Sizes of the files that a commit added, by day; None where it is not the run's, or the log has it no more."""
    try:
        lines = (path / "_delta_log" / f"{version:020d}.json").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    actions = [json.loads(line) for line in lines]
    if not any(action.get("commitInfo", {}).get("run_id") == run_id for action in actions):
        return None
    sizes: dict[date | None, Size] = {}
    for added in [action["add"] for action in actions if "add" in action]:
        of_day = added["partitionValues"].get(DATE)
        day = date.fromisoformat(of_day) if of_day else None
        sizes[day] = sizes.get(day, NOTHING).plus(Size(added["size"], 1))
    return sizes


def writer_properties(schema: pa.Schema) -> WriterProperties:
    """Dictionaries for text only.

    The writer has a file open for each window, and a dictionary for each column of it: for a year of hundreds of
    features that was 10 GB of memory and sixteen times the processor time.
    """
    from deltalake import ColumnProperties, WriterProperties

    return WriterProperties(
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties={
            field.name: ColumnProperties(dictionary_enabled=True) for field in schema if pa.types.is_string(field.type)
        },
    )


def with_site(rows: pa.Table, site: str) -> pa.Table:
    """The rows with their partitions' columns first."""
    if SITE not in rows.column_names:
        rows = rows.append_column(SITE, pa.repeat(pa.scalar(site), rows.num_rows))
    keep = [n for n in rows.column_names if n not in _PARTITIONS.names]
    return rows.select([*_PARTITIONS.names, *keep])
