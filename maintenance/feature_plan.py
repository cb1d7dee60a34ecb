"""What the compiled features need to know of a class and its baseline, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np

from maintenance import feature_layout as layout
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass, FeatureSettings
from maintenance.features import feature_names


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """Arguments that every call of the compiled features has in common.

    Attributes:
        numbers: (19 + 12 spans,) uint64, by the places that `feature_layout` names.
        constants: (c,) float64, as `feature_layout` says.
        state: length of one life's live state.
        features: how many there are.
    """

    numbers: np.ndarray
    constants: np.ndarray
    state: int
    features: int


def feature_plan(cls: EquipmentClass, baseline: OperatingBaseline) -> FeaturePlan:
    """Lay out a life's live state, and number its features in the order of `feature_list`."""
    fixed, per_span = int(layout.FIXED), int(layout.PER_SPAN)
    how, inputs = cls.features, len(cls.contract.inputs)
    spans = sorted({*how.means, *how.deviations, *how.slopes})
    numbers = np.zeros(fixed + per_span * len(spans), dtype=np.uint64)
    row = int(layout.FIRST_ROW)
    numbers[layout.LIFE], row = row, row + int(layout.EMA) + 2 * len(how.averages)
    for index, span in enumerate(spans):
        row = _lay_out(numbers[fixed + per_span * index :], how, span, row)
    numbers[layout.RING], row = row, row + how.span
    wide, narrow = int(layout.WIDE), int(layout.NARROW)
    lanes = -(-inputs // narrow) * narrow
    state = lanes * row + how.span
    kinds = 1 + len(how.means) + len(how.deviations) + len(how.slopes) + len(how.averages) + 3
    regimes, settings = baseline.centres.shape
    ranges_at = int(layout.WEIGHTS) + len(how.averages)
    centres_at = ranges_at + settings
    levels_at = centres_at + regimes * settings
    for place, value in (
        (layout.INPUTS, inputs),
        (layout.SETTINGS, settings),
        (layout.REGIMES, regimes),
        (layout.WIDE_TILES, lanes // wide),
        (layout.NARROW_TILES, lanes % wide // narrow),
        (layout.ROWS, row),
        (layout.SPAN, how.span),
        (layout.SPANS, len(spans)),
        (layout.AVERAGES, len(how.averages)),
        (layout.LEVEL, how.level_readings),
        (layout.KINDS, kinds),
        # The drift is against the shortest mean: it answers fastest, and the slower ones are features already.
        (layout.DRIFT_OF, 1),
        (layout.STATE, state),
        (layout.RANGES_AT, ranges_at),
        (layout.CENTRES_AT, centres_at),
        (layout.LEVELS_AT, levels_at),
        (layout.SCALES_AT, levels_at + regimes * inputs),
    ):
        numbers[place] = value
    parts = ([cls.rul.seconds * 1e6], how.averages, baseline.ranges, baseline.centres, baseline.level, baseline.scale)
    constants = np.concatenate([np.ravel(part).astype(float) for part in parts])
    return FeaturePlan(numbers, constants, state, len(feature_names(cls)))


def _lay_out(numbers: np.ndarray, how: FeatureSettings, span: int, row: int) -> int:
    """Fill in one span's numbers; returns the first row after it."""
    # The fewest rows are kept when blocks are as many as they are long.
    block = span // next(n for n in range(isqrt(span), 0, -1) if span % n == 0)
    deviates, slopes = span in how.deviations, span in how.slopes
    rows = int(layout.MOMENTS) if deviates or slopes else 2
    after_means = 1 + len(how.means)
    after_deviations = after_means + len(how.deviations)
    numbers[layout.B], numbers[layout.M] = block, span // block
    numbers[layout.SPREAD] = deviates or slopes
    numbers[layout.DEVIATES], numbers[layout.SLOPES] = deviates, slopes
    kept = -(-block // int(layout.STEP))
    for place, count in ((layout.NEWEST, 1), (layout.BLOCKS, span // block - 1), (layout.OLDEST, kept)):
        numbers[place], row = row, row + count * rows
    numbers[layout.MEANS] = span in how.means
    if span in how.means:
        numbers[layout.MEAN_KIND] = 1 + how.means.index(span)
    if deviates:
        numbers[layout.DEVIATION_KIND] = after_means + how.deviations.index(span)
    if slopes:
        numbers[layout.SLOPE_KIND] = after_deviations + how.slopes.index(span)
    return row
