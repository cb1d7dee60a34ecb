"""Tables of answers: rows are only ever added, and those of a later epoch supersede those of an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import stamina

from backbone.errors import StoreBusy
from backbone.windows import WindowRange
from resources.stores.opened import note_written
from resources.stores.tables import DATE, WindowTable, storage_errors, with_site, writer_properties

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

        with storage_errors(self.path):
            created = not self.exists
            if not created:
                before = self.history(windows.site, windows.first, windows.last, columns=[DATE, EPOCH])
                answered = pc.unique(before.filter(pc.equal(before[EPOCH], epoch))[DATE])
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
                writer_properties=writer_properties(rows.schema),
                commit_properties=CommitProperties(custom_metadata={"run_id": run_id}),
            )
            return self._committed(run_id)

    def of_epoch(self, windows: WindowRange, epoch: int) -> pa.Table:
        """The answers of one epoch, superseded or not."""
        rows = self.history(windows.site, windows.first, windows.last)
        return rows.filter(pc.equal(rows[EPOCH], epoch))

    def read(
        self,
        site: str,
        first: date | None = None,
        last: date | None = None,
        *,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """The answers that hold: of each window, those of its latest epoch. See `WindowTable.read`."""
        wanted = list(dict.fromkeys([*columns, DATE, EPOCH])) if columns else None
        rows = self.history(site, first, last, columns=wanted)
        latest = rows.group_by(DATE).aggregate([(EPOCH, "max")])
        newest = dict(zip(latest[DATE].to_pylist(), latest[f"{EPOCH}_max"].to_pylist(), strict=True))
        holds = [
            newest[day] == epoch for day, epoch in zip(rows[DATE].to_pylist(), rows[EPOCH].to_pylist(), strict=True)
        ]
        kept = rows.filter(pa.array(holds, pa.bool_()))
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
        rows = super().read(site, first, last, columns=columns)
        if EPOCH in rows.column_names:
            numbered = pc.fill_null(rows[EPOCH], 0)
            rows = rows.set_column(rows.column_names.index(EPOCH), EPOCH, numbered)
        return rows
