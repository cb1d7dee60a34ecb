"""Sixteen pumps with a release, whose days come one after the other as files in a drop folder."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.scenarios.installation import Installation

# The name of the plant that ships: this one stands in its place.
SITE, FLEET = "riverside", "pump"
LAST = date(2025, 3, 1)
"""The last day of the plant's own history."""
_TEXT = """\
description = "Sixteen pumps that fail often"

[calendar]
first_day = 2025-01-01
last_day = {last}

[fleets.pump]
source = {source}
"""
_SIMULATED = '{ kind = "simulator", seed = 2, pumps = 16, readings_per_day = 4, mean_life_days = 12 }'
_FILES = '{ kind = "files", settle_s = 0 }'


def fed_plant(home: Path, days: int) -> Installation:
    """A plant in a new home that was served and judged up to `LAST`, and takes up to so many days as files."""
    from resources.home import Home
    from tests.scenarios.installation import Installation

    installation = Installation(Home(home).prepare())
    installation.add_site(SITE, _TEXT.format(last=LAST, source=_SIMULATED))
    with contextlib.redirect_stderr(io.StringIO()):
        installation.hybrid("run", "--site", SITE, checks=True, timeout=900)
    if not installation.plant(SITE).registry(FLEET).versions():
        raise RuntimeError("The plant has earned no release, and would be served by the rules.")
    installation.add_site(SITE, _TEXT.format(last=LAST + timedelta(days=days), source=_FILES))
    installation.home.drop_folder(SITE, FLEET).mkdir(parents=True)
    return installation


def landings(installation: Installation, days: int) -> Iterator[date]:
    """Lands a day's file each time it is asked, the readings of `LAST` again; the day has just landed."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    drop = installation.home.drop_folder(SITE, FLEET)
    told = installation.plant(SITE).table(FLEET, "telemetry").read(SITE, LAST, LAST)
    told = told.drop_columns([n for n in ("site", "date", "arrival", "batch", "offset") if n in told.column_names])
    for number in range(1, days + 1):
        day = LAST + timedelta(days=number)
        later = pc.add(told["ts"], pa.scalar(timedelta(days=number)))
        partial = drop / f".{day}"
        pq.write_table(told.set_column(told.column_names.index("ts"), "ts", later), partial)
        partial.rename(drop / f"{day}.parquet")
        yield day
