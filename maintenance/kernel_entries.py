"""Functions of a kernel that are called from outside, each compiled to a C function by its name.

Who calls them takes them from `compiled_kernels`, which may have them without Numba.
"""

from __future__ import annotations

from functools import cache

from numba import cfunc  # noqa: TID253 - imported to compile

INNER = {"error_model": "numpy"}
"""For what an entry calls, too: a division by zero is infinite, and raises nothing."""
_ENTRIES = {}


@cache  # the code is freed with the object
def compiled(name, *, kept):
    """An entry as a C function; `kept`: beside its module, from where the next process loads it."""
    signature, function = _ENTRIES[name]
    return cfunc(signature, cache=kept, **INNER)(function)


def entry(signature):
    """Make a function one, of these C types."""

    def entered(function):
        _ENTRIES[function.__name__] = (signature, function)
        return function

    return entered
