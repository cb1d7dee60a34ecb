"""The trace context that a reading came with, for whoever follows it from its machine to its answer."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, 3.2."""


def trace_context(told: str) -> str | None:
    """A `traceparent` that is one: whoever sends could else have any text kept, logged and sent on."""
    return told if _TRACEPARENT.fullmatch(told) else None
