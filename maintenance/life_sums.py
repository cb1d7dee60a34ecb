"""Statistics since a life began, one reading at a time, for many machines at once.

Slopes use Welford's updates of means and co-moments (Welford, Technometrics 1962): no sum grows without bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_START_SUM, _START_N, _N, _MEAN_X, _MEAN_Z, _SPREAD, _COMOMENT = range(7)
_FIXED = 7


@dataclass(frozen=True, slots=True)
class LifeSums:
    """Running sums of m machines, changed in place by `update`.

    Attributes:
        weights: exponential averages' weights of the newest reading, (a,).
        level_readings: how many values make a start level.
        values: (7 + 2a, m, inputs).
    """

    weights: np.ndarray
    level_readings: int
    values: np.ndarray

    @classmethod
    def empty(cls, machines: int, inputs: int, weights: tuple[float, ...], level_readings: int) -> LifeSums:
        shape = (_FIXED + 2 * len(weights), machines, inputs)
        return cls(np.array(weights).reshape(-1, 1, 1), level_readings, np.zeros(shape))

    def first(self, machines: int) -> LifeSums:
        """A view of the first machines' sums."""
        return LifeSums(self.weights, self.level_readings, self.values[:, :machines])

    def update(self, z: np.ndarray, age: np.ndarray) -> None:
        """Take in one reading a machine: z (m, inputs), NaN where silent; age (m,) in RUL units."""
        present = ~np.isnan(z)
        z, w, x = np.where(present, z, 0.0), present.astype(float), age[:, None]
        v, a = self.values, len(self.weights)
        counts = w * (v[_START_N] < self.level_readings)
        v[_START_SUM] += counts * z
        v[_START_N] += counts
        v[_N] += w
        share = w / np.maximum(v[_N], 1.0)
        ahead_x = x - v[_MEAN_X]
        v[_MEAN_X] += share * ahead_x
        v[_MEAN_Z] += share * (z - v[_MEAN_Z])
        v[_SPREAD] += w * ahead_x * (x - v[_MEAN_X])
        v[_COMOMENT] += w * ahead_x * (z - v[_MEAN_Z])
        v[_FIXED:] *= np.concatenate((1 - self.weights, 1 - self.weights))
        v[_FIXED : _FIXED + a] += self.weights * z
        v[_FIXED + a :] += self.weights * w

    @property
    def averages(self) -> np.ndarray:
        """(a, m, inputs) exponential averages over the weight gathered so far; NaN without a value."""
        a = len(self.weights)
        gathered = self.values[_FIXED + a :]
        return self.values[_FIXED : _FIXED + a] / np.where(gathered > 0, gathered, np.nan)

    @property
    def start(self) -> np.ndarray:
        """(m, inputs) mean of the first values; NaN without one."""
        n = self.values[_START_N]
        return self.values[_START_SUM] / np.where(n > 0, n, np.nan)

    @property
    def trend(self) -> np.ndarray:
        """(m, inputs) least-squares slope since the life began; NaN below three values or without time between."""
        spread, enough = self.values[_SPREAD], self.values[_N] > 2
        return self.values[_COMOMENT] / np.where(enough & (spread > 0), spread, np.nan)
