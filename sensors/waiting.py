"""Ticks that wait: a sensor that finds nothing to do looks again, within its tick, until there is something.

Dagster's daemon looks whether a sensor is due every five seconds, whatever the sensor's interval. A tick that waits has
asked for its run half a second after there is cause for it. For as long it takes a thread of the daemon and one of the
code server, so that only who starts these with threads enough may let ticks wait, as `hybrid up` does.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

TICKS_WAIT = "HYBRID_TICKS_WAIT"
"""Environment variable: a file; while it is there, ticks may wait. Without it, a tick looks once."""
LONGEST_S = 40.0
"""A tick ends after this long. Dagster gives one up after a minute unless told otherwise."""
LOOK_S = 0.5


def looks() -> Iterator[None]:
    """One look, and more of them for as long as the tick may wait."""
    ends = time.monotonic() + LONGEST_S
    yield
    named = os.environ.get(TICKS_WAIT)
    while named and Path(named).exists() and time.monotonic() < ends:
        time.sleep(LOOK_S)
        yield
