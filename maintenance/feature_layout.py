"""Where a plan's numbers, a life's live state and a checkpoint keep what: for the compiled code and for who calls it.

All that addresses a state is unsigned. NumPy's unsigned and Python's signed numbers do not mix in compiled code, so
these are NumPy's.
"""

from __future__ import annotations

import numpy as np

U = np.uint64
ONE, TWO, THREE, FOUR = U(1), U(2), U(3), U(4)

WIDE, NARROW = U(16), U(4)
"""Sensors of one tile of a live state: as many wide tiles as the inputs fill, rounded up to narrow ones."""

# Numbers of a plan, by place.
(
    INPUTS, SETTINGS, REGIMES, WIDE_TILES, NARROW_TILES, ROWS, SPAN, SPANS, AVERAGES, LEVEL, KINDS, LIFE, RING,
    DRIFT_OF, STATE, RANGES_AT, CENTRES_AT, LEVELS_AT, SCALES_AT,
) = (U(n) for n in range(19))  # fmt: skip
FIXED = U(19)
# Of each span, one after the other.
B, M, SPREAD, MEANS, DEVIATES, SLOPES, NEWEST, BLOCKS, OLDEST, MEAN_KIND, DEVIATION_KIND, SLOPE_KIND = (
    U(n) for n in range(12)
)
PER_SPAN = U(12)
# Of a plan's constants: microseconds of one RUL unit, then the weights of the averages, then the baseline.
UNIT_US, WEIGHTS = U(0), U(1)
# Rows of a tile: z, then room to work.
Z, WORK, REST, FIRST_ROW = U(0), U(1), U(4), U(10)
STEP = U(4)
"""Of what is left of a window's oldest block every so many steps are kept: those between them take little time."""
# Rows of moments. Since the life began, the start level and the exponential averages follow.
N, MEAN_Z, MEAN_X, SPREAD_Z, SPREAD_X, COMOMENT = (U(n) for n in range(6))
MOMENTS = U(6)
START_SUM, START_N, EMA = U(6), U(7), U(8)
# Of a life's numbers, of which there are four.
READINGS, STARTED, LATEST, LIFE_NUMBER = (U(n) for n in range(4))
