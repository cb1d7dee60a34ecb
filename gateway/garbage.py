"""What becomes of memory that is no longer used, in a process that has little of it and whose readings are many."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_FRESH, _YOUNG, _OLD = 50_000, 20, 100
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Of glibc's `mallopt`."""
_LARGE = 1 << 20
_DONTNEED = 4
"""Of Linux's `madvise`."""
_MAPPING = re.compile(
    r"^(?P<begin>[0-9a-f]+)-(?P<end>[0-9a-f]+) r-.p [0-9a-f]+ [0-9a-f:]+ [1-9]\d* +/.*\.so[.\d]*\n(?:[A-Z]\w+: .*\n)*?"
    r"Anonymous: +(?P<own>\d+) kB$",
    re.MULTILINE,
)


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


def give_code_back() -> None:
    """Have the system have what only the start ran or read of libraries' files: a tenth of the process's memory.

    What is needed again is mapped again from the system's cache, in microseconds. Only mappings that nobody can have
    written to, and nobody has, of what is never unmapped: other threads may be about.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        for begin, end in list(_of_files(Path("/proc/self/smaps").read_text())):
            madvise(begin, end - begin, _DONTNEED)


def _of_files(smaps: str) -> Iterator[tuple[int, int]]:
    """Where libraries, which stay, are mapped to be read and run only, and have no page of the process's own."""
    for mapping in _MAPPING.finditer(smaps):
        if mapping["own"] == "0":
            yield int(mapping["begin"], 16), int(mapping["end"], 16)


def collect_rarely() -> None:
    """Look for cycles of garbage rarely. What is there now is never looked through again, and what comes seldom.

    By default Python looks after every 700 new objects, of which each reading under way has about twenty: a tenth of
    what a reading costs, and pauses of 20 ms when it looks at everything. What is in no cycle is freed at once as ever.
    """
    gc.collect()
    gc.freeze()
    give_memory_back()
    give_code_back()
    gc.set_threshold(_FRESH, _YOUNG, _OLD)
    gc.enable()
