"""How many readings a source may send: a bucket of one second's worth each (token bucket, as RFC 2697 has it)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

_SOURCES = 10_000
"""Buckets kept; the one that was not asked of for longest starts anew, full."""

_LONGEST_SOURCE = 256
"""Characters."""


class Rates:
    """The rates of many sources.

    Args:
        per_s: readings a second of each; None: any number.
        monotonic: seconds.
    """

    def __init__(self, per_s: float | None, monotonic: Callable[[], float]) -> None:
        self._per_s, self._monotonic = per_s, monotonic
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """When each source's bucket will be full again: one number says all there is to know of it."""

    def wait_s(self, source: str) -> float:
        """Take one reading of a source: 0, or for how long it has to wait before it is taken.

        Sources with names that are too long for a machine's share one bucket: senders choose them.
        """
        if self._per_s is None:
            return 0.0
        if len(source) > _LONGEST_SOURCE:
            source = ""
        now, one = self._monotonic(), 1.0 / self._per_s
        full_at = max(self._full_at.pop(source, now), now) + one
        over = full_at - now - max(1.0, one)
        self._full_at[source] = full_at if over <= 0 else full_at - one
        if len(self._full_at) > _SOURCES:
            self._full_at.popitem(last=False)
        return max(over, 0.0)
