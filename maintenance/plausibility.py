"""Whether a machine's sensors fit together: what the others leave unexplained of each, against what was learnt from.

Wear, load and weather move sensors together; another unit, two wires exchanged or an offset move one alone. So each
sensor is told from the others by a linear fit (analytical redundancy: Frank, Automatica 1990), and what is left must be
no more than the most that was left in training, and half of the range that it had there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

_JUDGED = (".last", ".mean_")
"""Statistics that are judged, each by itself: the newest reading, and the first, shortest, of the rolling means."""
_BEYOND = 0.5
"""How far outside what training left unexplained a sensor may be, in widths of that."""
_RIDGE = 1e-3
"""Of each variance: two sensors that say the same share the telling."""
_FEWEST_SENSORS = 2
_DIGITS = 5
_ONE_CORE = 200_000
"""Multiplications up to which BLAS stays on one core; waking another takes it longer than all of them."""


@dataclass(frozen=True, slots=True)
class _Redundancy:
    """One statistic of s sensors.

    Attributes:
        features: (s,) names, as the model has them.
        weights: (s, s) values @ weights is what is unexplained of each.
        most: (s,) how far from zero that may be.
    """

    features: tuple[str, ...]
    weights: np.ndarray
    most: np.ndarray


class Plausibility:
    """Which rows of a model's features can be of one machine whose sensors all tell the truth."""

    def __init__(self, parts: Sequence[_Redundancy], features: Sequence[str]) -> None:
        self._parts = tuple(parts)
        place = {name: n for n, name in enumerate(features)}
        self._tests = [_test(part, [place[name] for name in part.features]) for part in parts]

    @classmethod
    def fit(cls, features: Sequence[str], X: np.ndarray) -> Self:
        """Learn how sensors go together.

        Args:
            features: names of the columns of X, (rows, features). A row in which a value of a statistic is missing
                tells nothing of that.
        """
        parts = []
        for kind in _JUDGED:
            at = _of_kind(features, kind)
            values = X[:, at].astype(float)
            values = values[np.isfinite(values).all(axis=1)]
            if len(at) >= _FEWEST_SENSORS and len(values) > len(at):
                parts.append(_fit(tuple(features[n] for n in at), values))
        return cls(parts, features)

    def holds(self, X: np.ndarray) -> bool:
        """Whether every row is known to be plausible; X is (n, features) float32."""
        return all(left.max() <= 1 and left.min() >= -1 for left in self._left(X))  # a NaN passes neither

    def implausible(self, X: np.ndarray) -> np.ndarray:
        """(n,) rows in which a sensor does not fit the others. Where one is silent just now, its mean is judged."""
        found = np.zeros(len(X), bool)
        row = 0
        with np.errstate(invalid="ignore"):  # infinity times nothing is as unknown as NaN
            for left in self._left(X):
                found[row : row + len(left)] |= (np.abs(left) > 1).any(axis=1)
                row = (row + len(left)) % len(X)
        return found

    def to_list(self) -> list[dict[str, Any]]:
        """As it stands in a manifest."""
        return [
            {"features": list(p.features)}
            | {name: np.round(getattr(p, name), _DIGITS).tolist() for name in ("weights", "most")}
            for p in self._parts
        ]

    @classmethod
    def from_list(cls, document: Sequence[Mapping[str, Any]], features: Sequence[str]) -> Self:
        """The inverse of `to_list`, for a model that takes `features`.

        Raises:
            KeyError, TypeError, ValueError: this is no such document, or it is about what the model does not take.
        """
        parts = []
        for given in document:
            names = tuple(given["features"])
            weights, most = (np.array(given[name], dtype=float) for name in ("weights", "most"))
            if weights.shape != (len(names), len(names)) or most.shape != (len(names),):
                raise ValueError(f"weights and bounds are not those of {len(names)} sensors")
            parts.append(_Redundancy(names, weights, most))
        return cls(parts, features)

    def _left(self, X: np.ndarray) -> Iterator[np.ndarray]:
        """What is unexplained of each sensor, in units of the most that may be: of some rows, then of the next, of one
        statistic after the other."""
        for columns, weights in self._tests:
            step = max(_ONE_CORE // weights.size, 1)
            for row in range(0, len(X), step):
                yield X[row : row + step, columns] @ weights


def _fit(names: tuple[str, ...], values: np.ndarray) -> _Redundancy:
    count = len(names)
    covariance = np.cov(values, rowvar=False)
    covariance += np.diag(_RIDGE * np.diag(covariance) + np.finfo(float).eps)
    weights = np.eye(count)
    for n in range(count):
        others = np.arange(count) != n
        weights[others, n] = -np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, n])
    left = values @ weights
    return _Redundancy(names, weights, np.abs(left).max(axis=0) + _BEYOND * np.ptp(left, axis=0))


def _test(part: _Redundancy, at: list[int]) -> tuple[slice | list[int], np.ndarray]:
    """Where the statistic is among the features, and the weights that make every bound 1."""
    neighbours = at == list(range(at[0], at[0] + len(at)))
    columns = slice(at[0], at[0] + len(at)) if neighbours else at  # a slice copies nothing
    return columns, (part.weights / np.maximum(part.most, 10.0**-_DIGITS)).astype(np.float32)


def _of_kind(features: Sequence[str], kind: str) -> list[int]:
    """Columns of a statistic; of several rolling means, of the one that comes first."""
    suffix = next((kind + name.partition(kind)[2] for name in features if kind in name), None)
    return [n for n, name in enumerate(features) if suffix is not None and name.endswith(suffix)]
