"""The table of dead letters of a site's gateways: what they kept without being able to use it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import pyarrow as pa

from resources.stores.durable import take_back_torn
from resources.stores.followed import forget, latest
from resources.stores.tables import DATE, SITE, UNINDEXED, storage_errors, writer_properties

if TYPE_CHECKING:
    from resources.plant import Plant

NAME = "dead_letters"


def dead_letters_path(plant: Plant) -> Path:
    """Where the table of a site lies."""
    return plant.root("edge") / "gateway" / plant.site.name / NAME


class DeadLetters:
    """An append-only Delta table in `gateway.porter.rows.LETTERS`, partitioned by site and date."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        return (self.path / "_delta_log").is_dir()

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
            with filelock.FileLock(self.path.with_suffix(".lock")):
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

    def take_back_torn(self, confirmed: int) -> Sequence[int]:
        """See `resources.stores.durable.take_back_torn`."""
        if not self.exists:
            return []
        with storage_errors(self.path), filelock.FileLock(self.path.with_suffix(".lock")):
            gone = take_back_torn(self.path, confirmed)
            forget(self.path)
            return gone
