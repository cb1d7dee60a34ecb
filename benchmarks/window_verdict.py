"""From a window landing to its verdict: files dropped one day after the other at a plant under `hybrid up`.

What is timed begins when a day's file is in the drop folder and ends when the verdict on that day's telemetry is in the
shared database: the landing sensor, the run that stores and answers the day, the quality sensor, and the run that
judges, each a process of its own. Takes five to ten minutes, and at most fifteen.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.measure import Benchmark

LANDINGS = 13
"""The first of them is not counted: the quality worker starts with it."""
MOST_S = 900.0
_POLL_S = 0.1
_LAST = date(2025, 2, 1)
# The name of the plant that ships: this one stands in its place.
_SITE = "riverside"
_TEXT = """\
description = "Sixteen pumps that fail often"

[calendar]
first_day = 2025-01-01
last_day = {last}

[fleets.pump]
source = {source}
"""
_SIMULATED = '{ kind = "simulator", seed = 2, pumps = 16, readings_per_day = 12, mean_life_days = 12 }'
_FILES = '{ kind = "files", settle_s = 0 }'


def _rows() -> Iterator[str]:
    from resources.home import Home
    from tests.browser.demo_plant import hybrid_up
    from tests.scenarios.installation import Installation

    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Home(Path(folder) / "home").prepare())
        installation.add_site(_SITE, _TEXT.format(last=_LAST, source=_SIMULATED))
        with contextlib.redirect_stderr(io.StringIO()):
            installation.hybrid("run", "--site", _SITE, checks=True)
        last = _LAST + timedelta(days=LANDINGS)
        installation.add_site(_SITE, _TEXT.format(last=last, source=_FILES))
        installation.home.drop_folder(_SITE, "pump").mkdir(parents=True)
        with hybrid_up(installation.home.root):
            took = _landings(installation)
    counted = sorted(took[1:])
    p95 = statistics.quantiles(counted, n=20, method="inclusive")[-1] if len(counted) > 1 else counted[0]
    yield f"| from a window landing to its verdict, p50 of {len(counted)} | {statistics.median(counted):.1f} s | | | |"
    yield f"| from a window landing to its verdict, p95 of {len(counted)} | {p95:.1f} s | | | |"


def _landings(installation: Any) -> list[float]:
    """Seconds from each landing to its verdict.

    Raises:
        TimeoutError: fewer than twelve were judged within `MOST_S`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    plant, drop = installation.plant(_SITE), installation.home.drop_folder(_SITE, "pump")
    told = plant.table("pump", "telemetry").read(_SITE, _LAST, _LAST)
    told = told.drop_columns([n for n in ("site", "date", "arrival", "batch", "offset") if n in told.column_names])
    deadline, took = time.monotonic() + MOST_S, list[float]()
    for number in range(1, LANDINGS + 1):
        day = _LAST + timedelta(days=number)
        later = pc.add(told["ts"], pa.scalar(timedelta(days=number)))
        partial = drop / f".{day}"
        pq.write_table(told.set_column(told.column_names.index("ts"), "ts", later), partial)
        partial.rename(drop / f"{day}.parquet")
        landed = time.monotonic()
        while ("telemetry", day) not in plant.verdicts("pump").all():
            if time.monotonic() > deadline:
                if len(took) < LANDINGS - 1:
                    raise TimeoutError(f"{len(took)} of {LANDINGS} windows were judged in {MOST_S:g} s.")
                return took
            time.sleep(_POLL_S)
        took.append(time.monotonic() - landed)
    return took


SPEC = Benchmark("window_verdict", _rows)
