"""A table as it was: Delta's time travel, as far back as its log and its files go."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from resources.stores.tables import DATE, SITE


def read_as_of(path: Path, version: int, site: str, day: date) -> pa.Table | None:
    """The rows of one window in a version of a table; None where that version is no longer kept, or never was.

    A log that was cleaned up does not lead to the version any more; a vacuumed table lacks its files.
    """
    import pyarrow.dataset as ds
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(str(path), version=version)
        uris = table.file_uris()
        schema = pa.schema(table.schema().to_arrow())
        if not uris:
            return schema.empty_table()
        partitions = pa.schema([schema.field(SITE), schema.field(DATE)])
        files = ds.dataset(
            [uri.removeprefix("file://") for uri in uris],
            schema=schema,
            format="parquet",
            partitioning=ds.partitioning(partitions, flavor="hive"),
            partition_base_dir=str(path),
        )
        return files.to_table(filter=(pc.field(SITE) == site) & (pc.field(DATE) == pa.scalar(day)))
    except (DeltaError, FileNotFoundError):
        return None
