"""Upkeep of Delta tables that are written to all day long: days in few files.

A table that many small commits are made to is read slower with each: every file of a day is opened, and every commit
since the last checkpoint is read by who opens the table. Files that others replaced stay on the disk for as long as
somebody may ask for the table as it was: data products are looked at version by version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import date
from pathlib import Path

import pyarrow as pa

from resources.stores.durable import alone, confirm, take_back_torn
from resources.stores.followed import latest
from resources.stores.tables import DATE, SITE, adds, storage_errors, writer_properties

MANY_FILES = 32
"""Of one day: more are merged."""
STILL_READ_H = 24
"""For how long files that were merged stay: somebody may still read them."""


def compact(path: Path, site: str, before: date) -> list[date]:
    """Have the rows of days before a day lie in few files, where they lie in many. Nothing else changes.

    Files that others replaced are removed a day later: somebody may still read them. By then the disk has those that
    took their place, even if the clock goes on by a day at once.

    Returns:
        The days whose files were merged.
    """
    if not (path / "_delta_log").is_dir():
        return []
    with storage_errors(path):
        take_back_torn(path)
        with alone(path):
            days = merge_files(path, site, before=before)
        if days:
            confirm(path)
            with alone(path):
                latest(path).vacuum(STILL_READ_H, dry_run=False, enforce_retention_duration=False)
    return days


def merge_files(
    path: Path, site: str, *, before: date | None = None, only: Collection[date] | None = None
) -> list[date]:
    """Have the rows of days lie in few files, where they lie in many. Nothing else changes.

    Args:
        before: days before this one; None: all.
        only: these days; None: all.

    Returns:
        The days whose files were merged.

    Raises:
        deltalake.exceptions.DeltaError: another writer was merging, or replacing, the same.
    """
    files = Counter(adds(path, site)["partition.date"].to_pylist())
    days = sorted(
        day
        for day, several in files.items()
        if several > MANY_FILES and (before is None or day < before) and (only is None or day in only)
    )
    if days:
        table = latest(path)
        properties = writer_properties(pa.schema(table.schema().to_arrow()))
        for day in days:
            wanted = [(SITE, "=", site), (DATE, "=", day.isoformat())]
            table.optimize.compact(wanted, max_concurrent_tasks=1, writer_properties=properties)
    return days
