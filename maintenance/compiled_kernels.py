"""The compiled kernels, loaded by importing this.

From a library, where `make install` linked one: a few milliseconds, without Numba and LLVM. Else through Numba, which
takes half a second and 130 MB, and compiles them first where it has not yet.
"""

from __future__ import annotations

from maintenance.kernel_code import from_library, from_numba, library_path, pointer

__all__ = ["advance_lives", "advance_readings", "checkpoint", "pointer", "restore", "sum_trees"]

_path = library_path()
_entries = from_library(_path) if _path.is_file() else from_numba()
restore, checkpoint = _entries["restore"], _entries["checkpoint"]
advance_lives, advance_readings = _entries["advance_lives"], _entries["advance_readings"]
sum_trees = _entries["sum_trees"]
