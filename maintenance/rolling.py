"""Sums over the last N rows of many lives at once, exact to the last few bits.

The usual trick, differences of one long cumulative sum, loses digits as the sum grows and makes a value
depend on everything before it. Here a sum over N rows is put together from sums over fewer rows, so it
depends on its own N rows only: a life computed whole and one computed window by window agree bit for bit.
"""

from __future__ import annotations

import numpy as np

_FLAT = 1e-12
"""Below this share of its terms a variance is rounding, not spread."""


class RollingSums:
    """Sums over trailing rows of one array.

    Args:
        values: (rows, k), or (rows, 1) for what all k columns share. Each life is preceded by as many
            rows of zeros (or of its own past) as the longest sum looks back on, so that no sum
            reaches into the life before.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._sums = {1: values}

    def over(self, rows: int) -> np.ndarray:
        """(rows, k) sum of each row and the `rows - 1` before it; keep it unchanged."""
        if rows not in self._sums:
            near = self._part(rows)
            recent, earlier = self.over(near), self.over(rows - near)
            total = recent.copy()
            total[near:] += earlier[:-near]
            self._sums[rows] = total
        return self._sums[rows]

    def _part(self, rows: int) -> int:
        """How many of the newest rows to take first: what is there already, if that is enough, else half."""
        for near in sorted(self._sums, reverse=True):
            if near < rows and rows - near in self._sums:
                return near
        return rows - rows // 2


class RollingStatistics:
    """Means, deviations and slopes over trailing rows.

    Args:
        z: (rows, k), 0 where silent or padding.
        present: (rows, k), or (rows, 1) if no sensor was silent: 1 where z counts, else 0.
        age: (rows, 1) time, any value where nothing is present.
    """

    def __init__(self, z: np.ndarray, present: np.ndarray, age: np.ndarray) -> None:
        x = age * present
        self._n, self._z, self._zz = RollingSums(present), RollingSums(z), RollingSums(z * z)
        self._x, self._xx, self._xz = RollingSums(x), RollingSums(x * age), RollingSums(z * age)

    def mean(self, rows: int) -> np.ndarray:
        """NaN without a value."""
        n = self._n.over(rows)
        return self._z.over(rows) / np.where(n > 0, n, np.nan)

    def deviation(self, rows: int) -> np.ndarray:
        """Sample standard deviation; NaN with fewer than two values."""
        n, squares = self._n.over(rows), self._zz.over(rows)
        about_mean = squares - self._z.over(rows) ** 2 / np.maximum(n, 1)
        about_mean[about_mean < _FLAT * squares] = 0.0
        return np.sqrt(about_mean / np.where(n > 1, n - 1, np.nan))

    def slope(self, rows: int) -> np.ndarray:
        """Least squares; NaN with fewer than three values or no time between them."""
        n, x = self._n.over(rows), self._x.over(rows)
        mean_x = x / np.maximum(n, 1)
        spread = self._xx.over(rows) - x * mean_x
        enough = (n > 2) & (spread > _FLAT * self._xx.over(rows))
        return (self._xz.over(rows) - self._z.over(rows) * mean_x) / np.where(enough, spread, np.nan)
