"""The detector of `maintenance.models.trimmed_distance`, and its ONNX form."""

from __future__ import annotations

import numpy as np

_POWER = 4
"""Of the norm over features: 2 would drown one sensor's fault in the calm of the others."""
_KEPT = 3.0
"""Readings that score above this many medians are left out of the next step."""
_STEPS = 2
_QUANTILE = 0.99
_FACTOR = 1.75
"""Alarm above this multiple of the quantile. A normal machine wanders further than its first readings show."""
_SPREAD_WEIGHT = 0.8
_LOG_FLOOR = 0.1
"""Added to a rolling deviation before its logarithm is taken, which keeps its tail short."""
_WHITE = 2.0
"""Least scale of a feature, in sampling errors that white noise would have in its window. The scale of a long mean, of
which few independent ones lie in the first readings, is too small by chance, and normal machines wander slowly."""
_TO_DEVIATION = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""


class TrimmedDistance:
    """An outlier detector over features named `<sensor>.mean_<N>` and `<sensor>.std_<N>`.

    Attributes:
        names: of the columns.
        weights: (columns,) what a column counts.
        level, gain: (columns,) the score is the `_POWER`-norm of |feature - level| * gain, averaged; 1 is the limit.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.weights = np.empty(0)
        self.level = self.gain = np.empty(0)

    def set_params(self, *, names: tuple[str, ...], weights: np.ndarray) -> TrimmedDistance:
        """What the columns are."""
        self.names, self.weights = names, weights
        return self

    def fit(self, X: np.ndarray, y: np.ndarray) -> TrimmedDistance:
        """Learn from normal readings (n, columns); y (n,) is 1 where one surely is normal, 0 where it may not be."""
        f, sure = self._spread_apart(X), y > 0
        spans = np.array([int(name.rpartition("_")[2]) for name in self.names])
        least = _WHITE / np.sqrt(np.where(self._spreads, 2 * spans, spans))
        weights = self.weights * np.where(self._spreads, _SPREAD_WEIGHT, 1.0)
        level = np.nanmedian(f[sure], axis=0)
        scale = np.maximum(_TO_DEVIATION * np.nanmedian(np.abs(f[sure] - level), axis=0), least)
        kept = f
        for _ in range(_STEPS):
            score = _score(f, level, weights / scale)
            kept = f[score <= _KEPT * np.median(score[sure])]
            level, scale = np.nanmean(kept, axis=0), np.maximum(np.nanstd(kept, axis=0), least)
        limit = _FACTOR * float(np.quantile(_score(kept, level, weights / scale), _QUANTILE))
        self.level, self.gain = level, weights / scale / limit
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """(n,) the larger the more normal, as scikit-learn has it; -1 is the limit of alarm."""
        return -_score(self._spread_apart(X), self.level, self.gain)

    @property
    def _spreads(self) -> np.ndarray:
        return np.array([".std_" in name for name in self.names])

    def _spread_apart(self, X: np.ndarray) -> np.ndarray:
        f = X.astype(float)
        f[:, self._spreads] = np.log(f[:, self._spreads] + _LOG_FLOOR)
        return f


def _score(f: np.ndarray, level: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """(n,) a silent sensor counts as one that is as it should be."""
    away = np.nan_to_num(np.abs(f - level) * gain)
    distance: np.ndarray = np.mean(away**_POWER, axis=1) ** (1 / _POWER)
    return distance


def export(model: TrimmedDistance, columns: int) -> bytes:
    """A fitted detector as ONNX."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "spreads": model._spreads,
        "log_floor": np.float32(_LOG_FLOOR),
        "tiny": np.float32(np.finfo(np.float32).tiny),
        "level": model.level.astype(np.float32),
        "gain": model.gain.astype(np.float32),
        "nothing": np.float32(0),
        "power": np.float32(_POWER),
        "root": np.float32(1 / _POWER),
        "over_features": np.array([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Add", ["features", "log_floor"], ["raised"]),
        helper.make_node("Max", ["raised", "tiny"], ["positive"]),
        helper.make_node("Log", ["positive"], ["logs"]),
        helper.make_node("Where", ["spreads", "logs", "features"], ["apart"]),
        helper.make_node("Sub", ["apart", "level"], ["away"]),
        helper.make_node("Abs", ["away"], ["far"]),
        helper.make_node("Mul", ["far", "gain"], ["scaled"]),
        helper.make_node("IsNaN", ["features"], ["silent"]),
        helper.make_node("Where", ["silent", "nothing", "scaled"], ["counted"]),
        helper.make_node("Pow", ["counted", "power"], ["powers"]),
        helper.make_node("ReduceMean", ["powers", "over_features"], ["mean"], keepdims=1),
        helper.make_node("Pow", ["mean", "root"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "trimmed_distance",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())
