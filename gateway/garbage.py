"""How often Python looks for cycles of garbage: rarely, in a process whose readings make none but are many."""

from __future__ import annotations

import gc

_FRESH, _YOUNG, _OLD = 50_000, 20, 100


def collect_rarely() -> None:
    """What is there now is never looked through again, and what comes seldom.

    By default Python looks after every 700 new objects, of which each reading under way has about twenty: a tenth of
    what a reading costs, and pauses of 20 ms when it looks at everything. What is in no cycle is freed at once as ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_FRESH, _YOUNG, _OLD)
