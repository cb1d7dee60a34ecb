"""Which content each window of a table has, without reading it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import date

from resources.stores.answers import EPOCH
from resources.stores.tables import WindowTable, adds


def fingerprint(table: WindowTable, site: str) -> str | None:
    """A digest of all that a site's rows lie in; None where it has none."""
    held = fingerprints(table, site)
    told = "\n".join(f"{day} {digest}" for day, digest in sorted(held.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:16] if held else None


def fingerprints(table: WindowTable, site: str) -> dict[date, str]:
    """Day → a digest of what its rows are known by; it changes whenever the day is written. Reads the log only.

    Of answers, which are only ever added, the newest epoch: which files they lie in changes with merging them. Of all
    else the files.
    """
    if not table.exists:
        return {}
    held = adds(table.path, site)
    epochs = f"max.{EPOCH}"
    known_by = held[epochs].to_pylist() if epochs in held.column_names else [None] * held.num_rows
    newest: dict[date, int] = {}
    paths: defaultdict[date, list[str]] = defaultdict(list)
    for day, path, epoch in zip(held["partition.date"].to_pylist(), held["path"].to_pylist(), known_by, strict=True):
        if epoch is None:
            paths[day].append(path)
        else:
            newest[day] = max(epoch, newest.get(day, 0))
    told = {
        day: [*sorted(paths[day]), *([f"epoch {newest[day]}"] if day in newest else [])] for day in {*paths, *newest}
    }
    return {day: hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16] for day, parts in told.items()}
