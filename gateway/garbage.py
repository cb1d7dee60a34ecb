"""What becomes of memory that is no longer used, in a process that has little of it and whose readings are many."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

_FRESH, _YOUNG, _OLD = 50_000, 20, 100
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Of glibc's `mallopt`."""
_LARGE = 1 << 20


def keep_memory_together() -> None:
    """Threads share a heap, and what is large, such as a checkpoint on its way to the disk, is in none of them.

    Otherwise each thread's heap keeps the most that it ever held. Before there are threads; glibc only.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            library = ctypes.CDLL(None)
            library.mallopt(_ARENA_MAX, 1)
            library.mallopt(_MMAP_THRESHOLD, _LARGE)


def collect_nothing() -> None:
    """Until `collect_rarely`: what is imported and read at start stays, and is not to be looked through for garbage."""
    gc.disable()


def give_memory_back() -> None:
    """Of what was freed, have the system have what it can: after what took much of it for once. Milliseconds."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


def collect_rarely() -> None:
    """Look for cycles of garbage rarely. What is there now is never looked through again, and what comes seldom.

    By default Python looks after every 700 new objects, of which each reading under way has about twenty: a tenth of
    what a reading costs, and pauses of 20 ms when it looks at everything. What is in no cycle is freed at once as ever.
    """
    gc.collect()
    gc.freeze()
    give_memory_back()
    gc.set_threshold(_FRESH, _YOUNG, _OLD)
    gc.enable()
