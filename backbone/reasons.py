"""Why somebody did not answer, so that another did: the words of `fallback_reason` and `abstained`."""

from __future__ import annotations

DEADLINE, BREAKER_OPEN, ERROR = "deadline", "breaker_open", "error"
BLOCKED = "blocked"
"""A check forbade what the answer would have rested on."""
NO_RELEASE, UNVERIFIED = "no_release", "unverified"
OUT_OF_RANGE, MISSING_INPUTS, IMPLAUSIBLE = "out_of_range", "missing_inputs", "implausible"
BASELINE_MISMATCH, FEATURES_MISMATCH = "baseline_mismatch", "features_mismatch"

INHERENT = frozenset({OUT_OF_RANGE, MISSING_INPUTS, IMPLAUSIBLE})
"""Reasons that lie in the readings themselves: asking again brings the same answer. All others can pass."""
