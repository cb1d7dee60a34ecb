"""From a window landing to its verdict: files dropped one day after the other at a plant under `hybrid up`.

What is timed begins when a day's file is in the drop folder and ends when the verdict on that day's telemetry is in the
shared database: the landing sensor, the run that stores and answers the day, the quality sensor, and the run that
judges, each a process of its own. Takes five to ten minutes, and at most fifteen.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._fed_plant import FLEET, SITE, fed_plant, landings
from benchmarks.measure import Benchmark

if TYPE_CHECKING:
    from tests.scenarios.installation import Installation

LANDINGS = 13
"""The first of them is not counted: the quality worker starts with it."""
MOST_S = 900.0
_POLL_S = 0.1


def _rows() -> Iterator[str]:
    from tests.browser.demo_plant import hybrid_up

    with tempfile.TemporaryDirectory() as folder:
        installation = fed_plant(Path(folder) / "home", LANDINGS)
        with hybrid_up(installation.home.root):
            took = _landings(installation)
    counted = sorted(took[1:])
    p95 = statistics.quantiles(counted, n=20, method="inclusive")[-1] if len(counted) > 1 else counted[0]
    yield f"| from a window landing to its verdict, p50 of {len(counted)} | {statistics.median(counted):.1f} s | | | |"
    yield f"| from a window landing to its verdict, p95 of {len(counted)} | {p95:.1f} s | | | |"


def _landings(installation: Installation) -> list[float]:
    """Seconds from each landing to its verdict.

    Raises:
        TimeoutError: fewer than twelve were judged within `MOST_S`.
    """
    verdicts = installation.plant(SITE).verdicts(FLEET)
    deadline, took = time.monotonic() + MOST_S, list[float]()
    for day in landings(installation, LANDINGS):
        landed = time.monotonic()
        while ("telemetry", day) not in verdicts.all():
            if time.monotonic() > deadline:
                if len(took) < LANDINGS - 1:
                    raise TimeoutError(f"{len(took)} of {LANDINGS} windows were judged in {MOST_S:g} s.")
                return took
            time.sleep(_POLL_S)
        took.append(time.monotonic() - landed)
    return took


SPEC = Benchmark("window_verdict", _rows)
