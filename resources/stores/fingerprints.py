"""Which content each window of a table has, without reading it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from resources.stores.followed import latest
from resources.stores.tables import DATE, SITE, WindowTable


def fingerprint(table: WindowTable, site: str) -> str | None:
    """A digest of all that a site's rows lie in; None where it has none."""
    held = fingerprints(table, site)
    told = "\n".join(f"{day} {digest}" for day, digest in sorted(held.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:16] if held else None


def fingerprints(table: WindowTable, site: str) -> dict[date, str]:
    """Day → a digest of the files that hold its rows; it changes whenever the day is written. Reads the log only."""
    if not table.exists:
        return {}
    adds = pa.table(latest(table.path).get_add_actions(flatten=True))
    adds = adds.filter(pc.equal(adds[f"partition.{SITE}"].cast(pa.string()), site))
    paths: defaultdict[date, list[str]] = defaultdict(list)
    for day, path in zip(adds[f"partition.{DATE}"].to_pylist(), adds["path"].to_pylist(), strict=True):
        paths[day].append(path)
    return {day: hashlib.sha256("\n".join(sorted(held)).encode()).hexdigest()[:16] for day, held in paths.items()}
