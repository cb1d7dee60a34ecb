"""Prognoses (ISO 13381-1): what a released model answers to its class's question, or a reason for no answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

import maintenance.questions
from backbone import plugins
from backbone.errors import IntegrityError, UnknownName
from backbone.reasons import BASELINE_MISMATCH, FEATURES_MISMATCH, IMPLAUSIBLE, MISSING_INPUTS, OUT_OF_RANGE
from maintenance.answers import Answer
from maintenance.equipment_class import REMAINING_LIFE, EquipmentClass
from maintenance.features import Features, feature_digest
from maintenance.intervals import Intervals
from maintenance.onnx_export import onnx_session
from maintenance.plausibility import Plausibility
from maintenance.readings import Rows
from maintenance.tree_model import TreeModel

_DRIVER_ROWS = 512
"""Rows explained at a time: each is predicted once a sensor, and memory stays bounded."""
_MANY_ROWS = 1000
"""From about here on a second thread is worth its start (one row takes microseconds)."""
_FEW_WALKS = 75_000
"""Rows times trees up to which trees answer, in about a millisecond: others wait for the interpreter as long."""
_TILE = 64
"""Rows compared at once with copies of their bounds: NumPy takes twice as long for one short row after the other."""
_BEYOND = 1.0
"""How far outside its training range a feature may lie, in widths of that range."""


class Scorer:
    """A released model, ready to answer.

    Args:
        onnx: the graph, verified before it came here.
        manifest: as training wrote it.
        alone: one thread asks about many rows, too: where others have work for the processors.

    Raises:
        IntegrityError: the graph does not load, or the manifest is not one of its kind.
    """

    def __init__(self, onnx: bytes, manifest: Mapping[str, Any], *, alone: bool = False) -> None:
        try:
            self.features: tuple[str, ...] = tuple(manifest["features"])
            self.baseline: str = manifest["baseline"]
            self.feature_digest: str = manifest["feature_digest"]
            self.question: str = manifest.get("question", REMAINING_LIFE)
            kind = plugins.load(maintenance.questions, self.question)
            self._asked: Mapping[str, Any] = manifest.get("asked", {})
            self._fits = kind.fits
            self.asks_for_risk: bool = kind.risk is not None
            """An answer is the worse the larger it is, and has no interval."""
            self.act_below, self.act_above = (
                float(manifest["policy"][name]) if self.asks_for_risk is risk else np.nan
                for name, risk in (("act_below", False), ("act_above", True))
            )
            self._top = kind.top(float(manifest["rul"]["cap"]))
            self._intervals = None if self.asks_for_risk else Intervals.from_dict(manifest["intervals"])
            low, high = (np.array(manifest["ranges"][side], dtype=np.float32) for side in ("low", "high"))
            self._healthy = np.array(manifest["healthy"], dtype=np.float32)
            self._plausibility = Plausibility.from_list(manifest.get("plausible", ()), self.features)
        except (KeyError, TypeError, ValueError, UnknownName) as error:
            raise IntegrityError(
                f"This is no manifest of a trained model ({error!r}).", next_step="Release the model again."
            ) from error
        reach = np.maximum((high - low) * _BEYOND, np.finfo(np.float32).tiny)
        if not kind.in_range_only:
            reach = np.full_like(reach, np.inf)
        self._low, self._high = low - reach, high + reach
        self._tiled = np.tile(self._low, _TILE), np.tile(self._high, _TILE)
        self._onnx = b"" if alone else onnx
        self._alone = alone
        self._reads: tuple[EquipmentClass | None, bool] = None, False
        self._single = onnx_session(onnx, threads=1)
        self._trees: TreeModel | None = None
        (graph_input,) = self._single.get_inputs()
        if graph_input.name != "features" or graph_input.shape[1] != len(self.features):
            raise IntegrityError(
                f"The model takes {graph_input.name} {graph_input.shape}, "
                f"its manifest names {len(self.features)} features.",
                next_step="Release the model again; graph and manifest are of different runs.",
            )
        self._outputs = [output.name for output in self._single.get_outputs()]
        sensors = [name.partition(".")[0] if "." in name else None for name in self.features]
        self.sensors: tuple[str, ...] = tuple(dict.fromkeys(s for s in sensors if s is not None))
        """Sensors the model looks at."""
        self._means = np.array([".mean_" in name for name in self.features])
        self._of_sensor = np.array([[s == sensor for s in sensors] for sensor in self.sensors])
        newest = {name: n for n, name in enumerate(self.features)}
        self._newest = [(n, newest[name]) for n, s in enumerate(self.sensors) if (name := f"{s}.last") in newest]

    @cached_property
    def _several(self) -> Any:
        return onnx_session(self._onnx, threads=0)

    def reads(self, cls: EquipmentClass) -> bool:
        """Whether the class's features, and its question, are those the model was trained on."""
        known, same = self._reads
        if known is not cls:  # their digest takes a walk through the contract
            same = self.feature_digest == feature_digest(cls)
            same &= self.question == cls.question and self._fits(self._asked, cls)
            self._reads = cls, same
        return same

    def comparable(self, other: Scorer) -> bool:
        """Whether another model takes the same features and answers the same question."""
        return (self.feature_digest, self.question, self._asked) == (other.feature_digest, other.question, other._asked)

    def select(self, features: Features) -> np.ndarray:
        """(n, len(self.features)) float32, the columns this model takes."""
        return np.ascontiguousarray(features.columns(self.features), dtype=np.float32)

    def take_trees(self, trees: TreeModel, rows: np.ndarray) -> None:
        """Have the graph's trees answer where few rows are asked about.

        Args:
            rows: some, as from `select`, of which they are to say what the runtime does.

        Raises:
            IntegrityError: they do not, to the last bit; the runtime goes on answering.
        """
        if trees.columns != len(self.features) or not np.array_equal(trees.predict(rows), self._run(rows)):
            raise IntegrityError("These are not the model's trees.", next_step="Make them again from the model.")
        self._trees = trees

    @property
    def by_trees(self) -> bool:
        """Whether few rows are answered without the runtime."""
        return self._trees is not None

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) answers to the question, from 0 to the largest there is: remaining life in RUL units, from 0 to the cap;
        a risk where that is asked for. X as from `select`."""
        if (trees := self._trees) is not None and len(X) * trees.trees <= _FEW_WALKS:
            answer = trees.predict(X)
        else:
            answer = self._run(X)
        rul: np.ndarray = np.minimum(np.maximum(answer, 0.0, dtype=float), self._top)
        return rul

    def _run(self, X: np.ndarray) -> np.ndarray:
        session = self._several if len(X) > _MANY_ROWS and not self._alone else self._single
        (answer,) = session.run(self._outputs, {"features": X})
        column: np.ndarray = answer[:, 0]
        return column

    def interval(self, rul: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of remaining lives, (n,) each, at the coverage the manifest says; NaN of a risk."""
        if self._intervals is None:
            return np.full_like(rul, np.nan), np.full_like(rul, np.nan)
        return self._intervals.around(rul)

    def widened(self, X: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bounds, further apart where a sensor is silent just now: what it has made of the answer so far, by its
        earlier readings, it may have made again or have taken back."""
        silent = np.zeros((len(X), len(self.sensors)), bool)
        for sensor, column in self._newest:
            silent[:, sensor] = np.isnan(X[:, column])
        rows = np.flatnonzero(silent.any(axis=1))
        if self._intervals is None or not len(rows):
            return low, high
        by = np.zeros(len(X))
        by[rows] = (np.abs(self.drivers(X[rows])) * silent[rows]).sum(axis=1)
        return np.maximum(low - by, 0.0), np.minimum(high + by, self._top)

    def usual(self, X: np.ndarray) -> bool:
        """Whether every feature of every row is there, and as in training."""
        return self._in_range(X) and self._plausibility.holds(X)

    def abstain_reasons(self, X: np.ndarray) -> np.ndarray | None:
        """(n,) None, or why the model should not be asked; None in whole: it may be asked about every row.

        `missing_inputs`: a sensor the model looks at was silent for all readings of a rolling mean.
        `out_of_range`: a feature lies further outside what was learnt from than that was wide.
        `implausible`: a sensor does not fit the machine's other sensors.
        Neither where that is what the question is after.
        """
        if self.usual(X):
            return None
        beyond = ((self._low > X) | (self._high < X)).any(axis=1)
        missing = np.isnan(X[:, self._means]).any(axis=1)
        implausible = self._plausibility.implausible(X)
        if not (beyond | missing | implausible).any():
            return None
        reasons = np.full(len(X), None, dtype=object)
        reasons[implausible] = IMPLAUSIBLE
        reasons[beyond] = OUT_OF_RANGE
        reasons[missing] = MISSING_INPUTS
        return reasons

    def _in_range(self, X: np.ndarray) -> bool:
        """Whether every feature is there and in its range."""
        whole = len(X) // _TILE * _TILE
        if whole and X.flags.c_contiguous:
            low, high = self._tiled
            tiled = X[:whole].reshape(-1, len(low))
            if not ((low <= tiled).all() and (high >= tiled).all()):
                return False
            X = X[whole:]
        return bool((self._low <= X).all() and (self._high >= X).all())  # a NaN passes neither test

    def drivers(self, X: np.ndarray) -> np.ndarray:
        """(n, len(self.sensors)) RUL units that each sensor takes off the prediction, or what it adds to a risk; below
        zero: the other way.

        Occlusion (Zeiler & Fergus, ECCV 2014): the prediction with all of one sensor's features as in
        a healthy machine, less the prediction as it is.
        """
        parts = [self._drivers(X[n : n + _DRIVER_ROWS]) for n in range(0, len(X), _DRIVER_ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.sensors)))

    def _drivers(self, X: np.ndarray) -> np.ndarray:
        variants = np.repeat(X[None], len(self.sensors) + 1, axis=0)
        for index, mine in enumerate(self._of_sensor):
            variants[index + 1][:, mine] = self._healthy[mine]
        predicted = self.predict(variants.reshape(-1, X.shape[1])).reshape(len(variants), len(X))
        taken_off = predicted[1:] - predicted[0]
        return (-taken_off if self.asks_for_risk else taken_off).T


@dataclass(frozen=True, slots=True)
class Prognoses:
    """n readings' prognoses; arrays may be read-only.

    Attributes:
        rul, low, high: (n,) RUL units, NaN where the model abstains or was asked for a risk.
        driver: (n,) the sensor that makes it worst, None where none does or the model abstains.
        driven: (n,) RUL units that it takes off, or how much risk it adds.
        abstained: (n,) None, or the reason.
        act_below: (n,) the predicted RUL at or below which the release replaces, NaN where it was asked for a risk.
        complete: the model is known to have answered every row.
        risk: (n,) what the question asks for if not remaining life, such as a probability, NaN where the model
            abstains; None where remaining life is asked for.
        act_above: (n,) the risk at or above which the release acts; None with it.
    """

    rows: Rows
    rul: np.ndarray
    low: np.ndarray
    high: np.ndarray
    driver: np.ndarray
    driven: np.ndarray
    abstained: np.ndarray
    act_below: np.ndarray
    complete: bool = False
    risk: np.ndarray | None = None
    act_above: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rul)

    def answers(self) -> list[Answer]:
        """Row by row: to pick single numbers out of arrays takes longer than to list them all."""
        of_risk = (_constant(np.nan, len(self)) if c is None else c for c in (self.risk, self.act_above))
        columns = (self.rul, self.low, self.high, self.driver, self.driven, self.act_below, *of_risk)
        return list(map(Answer, *(column.tolist() for column in columns)))


_Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""`rul`, `low`, `high`, `driver`, `driven` and `risk`, as in `Prognoses`."""


def prognose(
    cls: EquipmentClass, scorer: Scorer, features: Features, *, baseline: str, explained: bool = True
) -> Prognoses:
    """Ask a model about each row; where it should not be asked, say why instead.

    A row's answer, its driver included, is the same whatever rows are asked about with it.

    Args:
        baseline: id of the baseline the features were taken against.
        explained: also find each answer's driver, which takes one more prediction a sensor.
    """
    n = len(features)
    mismatch = None
    if scorer.baseline != baseline:
        mismatch = BASELINE_MISMATCH
    elif not scorer.reads(cls):
        mismatch = FEATURES_MISMATCH
    if mismatch is not None or not n:
        return _prognoses(scorer, features.rows, _unasked(n), np.full(n, mismatch, dtype=object))
    X = scorer.select(features)
    usual = scorer.usual(X)
    abstained = None if usual else scorer.abstain_reasons(X)
    if abstained is None:
        columns = _asked(scorer, X, explained=explained, heard=usual)
        return _prognoses(scorer, features.rows, columns, _constant(None, n), complete=True)
    columns = _unasked(n)
    asked = np.flatnonzero(abstained == None)  # noqa: E711 - elementwise
    if len(asked):
        for column, answer in zip(columns, _asked(scorer, X[asked], explained=explained, heard=False), strict=True):
            column[asked] = answer
    return _prognoses(scorer, features.rows, columns, abstained)


def drivers(scorer: Scorer, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """(n,) `driver` and `driven` of rows that the model has answered, as in `Prognoses`."""
    return _drivers(scorer, scorer.select(features))


def _prognoses(
    scorer: Scorer, rows: Rows, columns: _Columns, abstained: np.ndarray, *, complete: bool = False
) -> Prognoses:
    rul, low, high, driver, driven, risk = columns
    answer = (rul, low, high, driver, driven)
    act_below = _constant(scorer.act_below, len(rows))
    if not scorer.asks_for_risk:
        return Prognoses(rows, *answer, abstained, act_below, complete=complete)
    act_above = _constant(scorer.act_above, len(rows))
    return Prognoses(rows, *answer, abstained, act_below, complete=complete, risk=risk, act_above=act_above)


def _asked(scorer: Scorer, X: np.ndarray, *, explained: bool, heard: bool) -> _Columns:
    """The answers; `heard` says that no value is known to be missing."""
    rul, risk = scorer.predict(X), _constant(np.nan, len(X))
    if scorer.asks_for_risk:
        rul, risk = risk, rul
        low = high = rul
    else:
        low, high = scorer.interval(rul)
        if not heard:
            low, high = scorer.widened(X, low, high)
    if not explained:
        return rul, low, high, _constant(None, len(X)), _constant(np.nan, len(X)), risk
    driver, driven = _drivers(scorer, X)
    return rul, low, high, driver, driven, risk


def _drivers(scorer: Scorer, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`driver` and `driven`, as in `Prognoses`."""
    effects = scorer.drivers(X)
    most = effects.argmax(axis=1)
    driven = np.take_along_axis(effects, most[:, None], axis=1)[:, 0]
    driver = np.array(scorer.sensors, dtype=object)[most]
    driver[~(driven > 0)] = None
    return driver, driven


def _unasked(n: int) -> _Columns:
    rul, low, high, driven, risk = (np.full(n, np.nan) for _ in range(5))
    return rul, low, high, np.full(n, None, dtype=object), driven, risk


@lru_cache(maxsize=16)
def _constant(value: float | None, n: int) -> np.ndarray:
    """(n,) of one value; kept, and read-only for that: fleets are as large each time."""
    constant = np.full(n, value, dtype=object if value is None else float)
    constant.flags.writeable = False
    return constant
