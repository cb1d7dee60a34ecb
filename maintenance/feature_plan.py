"""What the compiled features need to know of a class and its baseline, as arrays. Importing this imports Numba."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np

from maintenance import feature_kernel as kernel
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass, FeatureSettings
from maintenance.features import feature_names


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """Arguments that every call of the kernel has in common.

    Attributes:
        numbers: (13 + 12 spans,) uint64, by the places that `feature_kernel` names.
        weights: (a,) of the exponential averages.
        unit_us: microseconds of one RUL unit.
        centres, ranges, level, scale: of the baseline.
        state: length of one life's live state.
        features: how many there are.
    """

    numbers: np.ndarray
    weights: np.ndarray
    unit_us: float
    centres: np.ndarray
    ranges: np.ndarray
    level: np.ndarray
    scale: np.ndarray
    state: int
    features: int

    @property
    def shared(self) -> tuple:
        """The kernel's first seven arguments."""
        return self.numbers, self.weights, self.unit_us, self.centres, self.ranges, self.level, self.scale


def feature_plan(cls: EquipmentClass, baseline: OperatingBaseline) -> FeaturePlan:
    """Lay out a life's live state, and number its features in the order of `feature_list`."""
    lanes, fixed, per_span = int(kernel.LANES), int(kernel.FIXED), int(kernel.PER_SPAN)
    how, inputs = cls.features, len(cls.contract.inputs)
    spans = sorted({*how.means, *how.deviations, *how.slopes})
    numbers = np.zeros(fixed + per_span * len(spans), dtype=np.uint64)
    row = int(kernel.FIRST_ROW)
    numbers[kernel.LIFE], row = row * lanes, row + int(kernel.EMA) + 2 * len(how.averages)
    for index, span in enumerate(spans):
        row = _lay_out(numbers[fixed + per_span * index :], how, span, row, lanes)
    numbers[kernel.RING], row = row * lanes, row + how.span
    tiles = -(-inputs // lanes)
    kinds = 1 + len(how.means) + len(how.deviations) + len(how.slopes) + len(how.averages) + 3
    for place, value in (
        (kernel.INPUTS, inputs),
        (kernel.SETTINGS, len(baseline.settings)),
        (kernel.REGIMES, len(baseline.centres)),
        (kernel.TILES, tiles),
        (kernel.ROWS, row),
        (kernel.SPAN, how.span),
        (kernel.SPANS, len(spans)),
        (kernel.AVERAGES, len(how.averages)),
        (kernel.LEVEL, how.level_readings),
        (kernel.KINDS, kinds),
        # The drift is against the shortest mean: it answers fastest, and the slower ones are features already.
        (kernel.DRIFT_OF, 1),
    ):
        numbers[place] = value
    return FeaturePlan(
        numbers,
        np.array(how.averages, dtype=float),
        cls.rul.seconds * 1e6,
        np.require(baseline.centres, float, ["C", "W"]),
        np.require(baseline.ranges, float, ["C", "W"]),
        np.require(baseline.level, float, ["C", "W"]),
        np.require(baseline.scale, float, ["C", "W"]),
        state=tiles * row * lanes + how.span,
        features=len(feature_names(cls)),
    )


def _lay_out(numbers: np.ndarray, how: FeatureSettings, span: int, row: int, lanes: int) -> int:
    """Fill in one span's numbers; returns the first row after it."""
    # The fewest rows are kept when blocks are as many as they are long.
    block = span // next(n for n in range(isqrt(span), 0, -1) if span % n == 0)
    deviates, slopes = span in how.deviations, span in how.slopes
    rows = int(kernel.MOMENTS) if deviates or slopes else 2
    after_means = 1 + len(how.means)
    after_deviations = after_means + len(how.deviations)
    numbers[kernel.B], numbers[kernel.M] = block, span // block
    numbers[kernel.SPREAD] = deviates or slopes
    numbers[kernel.DEVIATES], numbers[kernel.SLOPES] = deviates, slopes
    for place, count in ((kernel.NEWEST, 1), (kernel.BLOCKS, span // block), (kernel.OLDEST, block)):
        numbers[place], row = row * lanes, row + count * rows
    numbers[kernel.MEANS] = span in how.means
    if span in how.means:
        numbers[kernel.MEAN_KIND] = 1 + how.means.index(span)
    if deviates:
        numbers[kernel.DEVIATION_KIND] = after_means + how.deviations.index(span)
    if slopes:
        numbers[kernel.SLOPE_KIND] = after_deviations + how.slopes.index(span)
    return row
