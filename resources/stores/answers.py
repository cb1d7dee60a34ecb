"""Tables of answers: rows are only ever added, and those of a later epoch supersede those of an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import stamina

from backbone.errors import StoreBusy
from backbone.windows import WindowRange
from resources.stores.opened import note_written
from resources.stores.tables import (
    CONFIGURATION,
    DATE,
    WindowTable,
    adds,
    in_days,
    scan,
    storage_errors,
    with_site,
    writer_properties,
)
from resources.stores.upkeep import merge_files

if TYPE_CHECKING:
    from deltalake import DeltaTable

EPOCH = "epoch"
_COMMIT_ATTEMPTS = 5


class AnswerTable(WindowTable):
    """One data product's answers; `read` gives those that hold, `history` every one ever given."""

    def add(self, windows: WindowRange, rows: pa.Table, *, epoch: int, run_id: str) -> int:
        """Add the answers of an epoch. A window that has some of that epoch keeps those, so that a second time, or a
        run that answers for one that died after it had answered, has no effect.

        Args:
            rows: with a `date` column inside the windows.

        Returns:
            The table's version with them.

        Raises:
            StoreBusy: other writers kept winning.
            StorageFull: the disk is full; the table is as it was.
        """
        numbered = rows.append_column(EPOCH, pa.repeat(pa.scalar(epoch, pa.int64()), rows.num_rows))
        return self._append(windows, with_site(numbered, windows.site), epoch, run_id)

    @stamina.retry(on=StoreBusy, attempts=_COMMIT_ATTEMPTS, wait_initial=0.05, wait_max=1.0)
    def _append(self, windows: WindowRange, rows: pa.Table, epoch: int, run_id: str) -> int:
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import DeltaError

        with storage_errors(self.path):
            created = not self.exists
            if not created:
                answered = pc.unique(self.of_epoch(windows, epoch, columns=[DATE])[DATE])
                rows = rows.filter(pc.invert(pc.is_in(rows[DATE], value_set=answered)))
                if not rows.num_rows:
                    note_written(self.path, self._open().version(), {})
                    return self._open().version()
            self.path.mkdir(parents=True, exist_ok=True)
            write_deltalake(
                str(self.path) if created else self._open(),
                rows,
                mode="append",
                partition_by=["site", DATE],
                schema_mode=None if created else "merge",
                configuration=CONFIGURATION if created else None,
                writer_properties=writer_properties(rows.schema),
                commit_properties=CommitProperties(custom_metadata={"run_id": run_id}),
            )
            version = self._committed(run_id)
            with suppress(DeltaError):  # another writer merges them, or will
                merge_files(self.path, windows.site, only=list(windows))
            return version

    def of_epoch(self, windows: WindowRange, epoch: int, *, columns: Sequence[str] | None = None) -> pa.Table:
        """The answers of one epoch, superseded or not."""
        span, table = (windows.site, windows.first, windows.last), self._open()
        held = self._held(table, *span)
        files = [name for name, _, least, most in held if least is None or most is None or least <= epoch <= most]
        rows = self._rows(table, *span, files, columns)
        rows = rows.filter(pc.equal(rows[EPOCH], epoch))
        return rows.select(list(columns)) if columns else rows

    def read(
        self,
        site: str,
        first: date | None = None,
        last: date | None = None,
        *,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """The answers that hold: of each window, those of its latest epoch. See `WindowTable.read`."""
        if not self.exists:
            raise FileNotFoundError(self.path)
        table = self._open()
        held = self._held(table, site, first, last)
        newest: dict[date, int] = {}
        for _, day, _, most in held:
            newest[day] = max(most or 0, newest.get(day, 0))
        # A day that was served a hundred times has a hundred answers: those that are known to be superseded stay shut.
        files = [name for name, day, _, most in held if most is None or most == newest[day]]
        rows = self._rows(table, site, first, last, files, columns)
        latest = rows.group_by(DATE).aggregate([(EPOCH, "max")])
        of_row = pc.index_in(rows[DATE], value_set=latest[DATE].combine_chunks())
        kept = rows.filter(pc.equal(rows[EPOCH], latest[f"{EPOCH}_max"].combine_chunks().take(of_row.combine_chunks())))
        return kept.select(list(columns)) if columns else kept

    def history(
        self,
        site: str,
        first: date | None = None,
        last: date | None = None,
        *,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Every answer ever given, superseded ones among them."""
        return _numbered(super().read(site, first, last, columns=columns))

    def _rows(
        self,
        table: DeltaTable,
        site: str,
        first: date | None,
        last: date | None,
        files: Sequence[str],
        columns: Sequence[str] | None,
    ) -> pa.Table:
        """Rows of some of the files, with their epochs and days whatever columns are asked for."""
        wanted = list(dict.fromkeys([*columns, DATE, EPOCH])) if columns else None
        return _numbered(scan(self.path, in_days(site, first, last), wanted, files=files, table=table))

    def _held(
        self, table: DeltaTable, site: str, first: date | None, last: date | None
    ) -> list[tuple[str, date, int | None, int | None]]:
        """File, day, and lowest and highest epoch of each file of some days; None where the log does not say."""
        held = adds(self.path, site, first, last, table=table)
        unknown = pa.nulls(held.num_rows, pa.int64())
        names = ("path", "partition.date", f"min.{EPOCH}", f"max.{EPOCH}")
        columns = [(held[name] if name in held.column_names else unknown).to_pylist() for name in names]
        return list(zip(*columns, strict=True))


def _numbered(rows: pa.Table) -> pa.Table:
    """With 0 as the epoch of what was answered before answers were numbered."""
    if EPOCH not in rows.column_names:
        return rows
    return rows.set_column(rows.column_names.index(EPOCH), EPOCH, pc.fill_null(rows[EPOCH], 0))
