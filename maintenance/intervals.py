"""Prediction intervals from what earlier predictions missed by, split by how much life was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_BINS = 10


@dataclass(frozen=True, slots=True)
class Intervals:
    """How far the truth lies from a prediction, at most, in `coverage` of all cases.

    Attributes:
        centres: rising predictions, RUL units; in between, offsets are interpolated.
        low, high: offsets to add at each centre.
        cap: intervals are cut to [0, cap], since labels were.
    """

    coverage: float
    centres: np.ndarray
    low: np.ndarray
    high: np.ndarray
    cap: float

    def around(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (n,) each; they hold the prediction, cut to [0, cap] as they are."""
        low = predicted + np.interp(predicted, self.centres, self.low)
        high = predicted + np.interp(predicted, self.centres, self.high)
        cap = self.cap  # `clip` of a few numbers takes longer than all of this
        return (
            np.minimum(np.maximum(np.minimum(low, predicted), 0.0), cap),
            np.minimum(np.maximum(np.maximum(high, predicted), 0.0), cap),
        )

    def to_dict(self) -> dict[str, Any]:
        arrays = {name: np.round(getattr(self, name), 4).tolist() for name in ("centres", "low", "high")}
        return {"coverage": self.coverage, "cap": self.cap, **arrays}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Intervals:
        arrays = {name: np.array(document[name], dtype=float) for name in ("centres", "low", "high")}
        return cls(coverage=float(document["coverage"]), cap=float(document["cap"]), **arrays)


def bands_of(predicted: np.ndarray) -> np.ndarray:
    """(n,) which band of predictions each is in, numbered by rising prediction: ten of as many rows each, or fewer
    where many predictions are alike."""
    if not len(predicted):
        return np.empty(0, np.intp)
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, _BINS + 1)))
    which: np.ndarray = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, max(len(edges) - 2, 0))
    return which


def fit_intervals(
    predicted: np.ndarray, true: np.ndarray, life: np.ndarray, *, coverage: float, cap: float
) -> Intervals:
    """Split-conformal intervals (Papadopoulos et al. 2002; Lei et al., JASA 2018), one for each range of predictions.

    Predictions must be of machines their model did not learn from. Readings of one life err alike, so the
    finite-sample correction counts lives, not readings: quantiles are taken at (m + 1) / m of their level.

    Args:
        life: (n,) which life each prediction is of.
    """
    which = bands_of(predicted)
    centres: list[float] = []
    lows: list[float] = []
    highs: list[float] = []
    for index in np.unique(which):
        inside = which == index
        lives = len(np.unique(life[inside]))
        tail = (1 - coverage) / 2
        upper = min((1 - tail) * (lives + 1) / lives, 1.0)
        residual = true[inside] - predicted[inside]
        centres.append(float(predicted[inside].mean()))
        lows.append(float(np.quantile(residual, 1 - upper)))
        highs.append(float(np.quantile(residual, upper)))
    return Intervals(coverage, np.array(centres), np.array(lows), np.array(highs), cap)
