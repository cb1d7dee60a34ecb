"""Where the compiled kernels come from: a library that `make install` linked, or Numba.

A library is told by the code it was made from and the processor it was made for, so that another one is never loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backbone.errors import IntegrityError

_BYTE = ctypes.c_uint8
_ARGUMENTS: Mapping[str, Any] = {"n": ctypes.c_int64, "p": ctypes.POINTER(_BYTE)}
ENTRIES: Mapping[str, Callable] = {
    name: prototype(result, *(_ARGUMENTS[letter] for letter in arguments))
    for name, prototype, result, arguments in (
        # One letter an argument: a number, or a pointer to an array.
        ("restore", ctypes.CFUNCTYPE, None, "pppnppp"),
        ("checkpoint", ctypes.CFUNCTYPE, None, "ppppnppp"),
        ("advance_lives", ctypes.CFUNCTYPE, None, "pppppppnppppppppp"),
        # A few microseconds: whoever lets go of the interpreter for those has to wait for it much longer.
        ("advance_readings", ctypes.PYFUNCTYPE, ctypes.c_int64, "ppppppnppp"),
        ("sum_trees", ctypes.PYFUNCTYPE, None, "pppnppnnp"),
    )
}
"""The C types of the kernels' entries, by name."""

HERE = Path(__file__).parent
SOURCES = ("kernel_entries.py", "feature_layout.py", "feature_kernel.py", "tree_kernel.py")


def library_path() -> Path:
    """Where the library of this code for this processor is, or would be."""
    digest = hashlib.sha256(_processor().encode())
    for name in SOURCES:
        digest.update((HERE / name).read_bytes())
    return HERE / "__pycache__" / f"kernels-{digest.hexdigest()[:16]}.so"


def _processor() -> str:
    """What tells processors apart that do not run each other's code."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        told = []
    able = next((line for line in told if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.system()} {platform.machine()} {able}"


def from_library(path: Path) -> dict[str, Callable]:
    """The entries of a linked library."""
    library = ctypes.CDLL(str(path))
    return {name: prototype((name, library)) for name, prototype in ENTRIES.items()}


def compiled_entry(name: str, *, kept: bool) -> Any:
    """An entry of any kernel, see `kernel_entries.compiled`."""
    import maintenance.feature_kernel
    import maintenance.tree_kernel  # noqa: F401 - whose entries they are
    from maintenance.kernel_entries import compiled

    return compiled(name, kept=kept)


def from_numba() -> dict[str, Callable]:
    """The entries as Numba compiles them, or has kept them."""
    return {name: prototype(compiled_entry(name, kept=True).address) for name, prototype in ENTRIES.items()}


def pointer(array: np.ndarray, dtype: type, *shape: int) -> ctypes.c_uint8 | None:
    """An array for an entry that takes it to be of this type and shape; holds it as long as it is held itself.

    Raises:
        IntegrityError: it is not, or neither contiguous nor writable; compiled code would read or write beside it.
    """
    if array.dtype != dtype or array.shape != shape or not array.flags.carray:
        raise IntegrityError(
            f"Compiled code was given {array.dtype} {array.shape}, where a contiguous, writable "
            f"{np.dtype(dtype)} {shape} belongs.",
            next_step="Pass arrays as the documentation says.",
        )
    return _BYTE.from_buffer(array) if array.size else None  # type: ignore[arg-type]
