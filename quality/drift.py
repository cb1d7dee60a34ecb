"""Whether sensors tell what they told while the training set was collected, apart from weather, wear and load.

Seasons and wear move sensors together, a sensor that drifts moves alone. So what is compared is not a sensor's value
but what the machine's other sensors leave unexplained of it (analytical redundancy), by a linear fit on the training
set; how far that differed in the months of the training set themselves is allowed on top of what the contract says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from quality.profiles import DRIFT, bin_edges, drift_profile

COMMON = 0.2
"""Where more than this share of what is unexplained is the same for all machines of a day, it is of their surroundings
(outdoor temperature, a tank they share): its weeks are few, however many machines there are, and it is not judged."""
SURROUNDINGS = 0.8
"""The same for the value itself: one that is nearly all of the surroundings follows seasons nobody has seen yet."""
_RIDGE = 1e-3
_CURRENT = ".last"
"""A sensor's current value among the features; the others of the sensor follow from it."""


@dataclass(frozen=True, slots=True)
class DriftReference:
    """What a training set says of n sensors.

    Attributes:
        columns: their names.
        mean, scale: (n,) of each.
        weights: (n, n) by which the others, in units of their scale, tell each; the diagonal is 0.
        edges: column → inner edges of bins over what is unexplained; those that cannot be judged are left out.
        usual: column → the most that a month of the training period differed by; empty where it had none.
    """

    columns: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    usual: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def fit(cls, training_set: pa.Table, inputs: Sequence[str]) -> DriftReference:
        """From the labelled rows: (date, inputs).

        Args:
            inputs: columns a model learns from; of features, the current values are taken.
        """
        current = [n for n in inputs if n.endswith(_CURRENT)] or inputs
        columns = tuple(n for n in current if n in training_set.column_names)
        values = _complete(_matrix(training_set, columns))
        if not columns or not np.isfinite(values[:, 0]).any():
            return cls()
        known = np.isfinite(values[:, 0])
        mean, scale = values[known].mean(axis=0), values[known].std(axis=0)
        scale = np.where(scale > 1e-6 * np.maximum(np.abs(mean), 1.0), scale, 1.0)
        z = (values[known] - mean) / scale
        covariance = z.T @ z / len(z)
        weights = np.zeros_like(covariance)
        for n in range(len(columns)):
            others = np.arange(len(columns)) != n
            within = covariance[np.ix_(others, others)] + _RIDGE * np.eye(int(others.sum()))
            weights[n, others] = np.linalg.solve(within, covariance[others, n])
        fitted = cls(
            columns, tuple(mean.tolist()), tuple(scale.tolist()), tuple(tuple(row) for row in weights.tolist())
        )
        left = fitted._unexplained(values)
        day = _days(training_set)
        own = [
            n
            for n in range(len(columns))
            if _common(values[:, n], day) <= SURROUNDINGS and _common(left[:, n], day) <= COMMON
        ]
        edges = {columns[n]: bin_edges(left[:, n]) for n in own}
        return replace(fitted, edges={name: some for name, some in edges.items() if some})

    def with_usual(self, rows: pa.Table, days: Sequence[date]) -> DriftReference:
        """The same, knowing how far months of the training period differed from the whole.

        Args:
            rows: the product's own, of the training period.
            days: all days of it.
        """
        usual: dict[str, float] = {}
        for row in self._index(rows, days).to_pylist():
            usual[row["column"]] = max(usual.get(row["column"], 0.0), row["psi"])
        return replace(self, usual=usual)

    def profile(self, rows: pa.Table, days: Sequence[date], psi_above: float) -> pa.Table:
        """(date, column, psi, allowed), see `drift_profile`; only of columns whose usual difference is known."""
        index = self._index(rows, days)
        at = index["column"].to_pylist()
        allowed = pa.array([psi_above + self.usual.get(name, np.inf) for name in at], pa.float64())
        told = index.append_column("allowed", allowed)
        return told.filter(pa.array([name in self.usual for name in at], pa.bool_()))

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("columns", "mean", "scale", "weights", "edges", "usual")}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> DriftReference:
        weights = tuple(tuple(row) for row in given["weights"])
        lines = {name: tuple(given[name]) for name in ("columns", "mean", "scale")}
        return cls(**lines, weights=weights, edges=given["edges"], usual=given["usual"])

    def _index(self, rows: pa.Table, days: Sequence[date]) -> pa.Table:
        if not self.edges:
            return DRIFT.empty_table()
        left = self._unexplained(_complete(_matrix(rows, self.columns)))
        table = rows.select(["date", "equipment_id"])
        for n, name in enumerate(self.columns):
            table = table.append_column(name, pa.array(left[:, n]))
        return drift_profile(table, list(self.edges), self.edges, days)

    def _unexplained(self, values: np.ndarray) -> np.ndarray:
        """(rows, n) what the others do not tell of each, in units of its scale."""
        z: np.ndarray = (values - np.array(self.mean)) / np.array(self.scale)
        left: np.ndarray = z - z @ np.array(self.weights).T
        return left


def _matrix(rows: pa.Table, columns: Sequence[str]) -> np.ndarray:
    if not columns:
        return np.empty((rows.num_rows, 0))
    return np.column_stack([rows[n].combine_chunks().to_numpy(zero_copy_only=False).astype(float) for n in columns])


def _complete(values: np.ndarray) -> np.ndarray:
    """Rows of which a value is missing are left out as a whole: the others would be told from what is not there."""
    return np.where(np.isfinite(values).all(axis=1, keepdims=True), values, np.nan)


def _days(rows: pa.Table) -> np.ndarray:
    return rows["date"].combine_chunks().cast(pa.int32()).to_numpy(zero_copy_only=False)


def _common(value: np.ndarray, day: np.ndarray) -> float:
    """The share of the variance that is between days: 1 where all machines move as one, near 0 if each moves alone."""
    known = np.isfinite(value)
    value = value[known]
    _, group = np.unique(day[known], return_inverse=True)
    total = float(np.sum((value - value.mean()) ** 2)) if len(value) else 0.0
    if total <= 0:
        return 1.0
    counts = np.bincount(group)
    means = np.bincount(group, value) / counts
    return float(np.sum(counts * (means - value.mean()) ** 2)) / total
