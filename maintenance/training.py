"""Train a model of a class: compare candidates, calibrate, choose when to act, export."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from backbone.errors import IntegrityError, NoFailuresYet
from maintenance.cross_validation import Candidate, build, choose, cross_validate, fit, folds_of
from maintenance.equipment_class import EquipmentClass
from maintenance.features import feature_digest, feature_names
from maintenance.intervals import Intervals, fit_intervals
from maintenance.metrics import act_below, best_fixed_age, coverage, nasa_score, policy_cost, rmse, width
from maintenance.model_card import model_card
from maintenance.onnx_export import check_parity, export_onnx
from maintenance.plausibility import Plausibility
from maintenance.progress import Progress, silent, within
from maintenance.training_set import TrainingSet

MANIFEST_FORMAT = 1
_LIBRARIES = ("numpy", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")
_HEALTHY_ROWS = 20


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What the chosen model said of machines it had not learnt from, row by row of the training set.

    `act` is the policy's decision, `low` and `high` the interval, each with a threshold or quantiles
    taken from the other folds.
    """

    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    act: np.ndarray


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model as files: the graph, what must be known to use it, what happened, and a card for people."""

    onnx: bytes
    manifest: dict[str, Any]
    out_of_fold: OutOfFold
    card: str


def train(
    cls: EquipmentClass,
    baseline_id: str,
    data: TrainingSet,
    *,
    seed: int = 0,
    workers: int = 2,
    progress: Progress = silent,
) -> TrainedModel:
    """Learn remaining useful life from lives that ended in failure. The same data and seed give the same model.

    Args:
        baseline_id: of the baseline the features were taken against; the model is of no use with another.
        workers: processor cores to learn on; the result does not depend on it.

    Raises:
        NoFailuresYet: fewer failed lives, or machines, than the class asks for.
        IntegrityError: the data hold other features than the class, or the exported model differs from
            the trained one.
    """
    if data.names != feature_names(cls):
        raise IntegrityError(
            f"The training set does not hold the features of class {cls.name}.",
            next_step="Build the training set again.",
        )
    require_failures(cls, data.failures, len(np.unique(data.rows.machine)))
    used = _informative(data.X)
    learnt = TrainingSet(data.rows, tuple(np.array(data.names)[used]), np.ascontiguousarray(data.X[:, used]), data.rul)
    fold = folds_of(data.rows.machine, cls.models.folds, seed)
    candidates = cross_validate(cls, learnt, fold, seed=seed, workers=workers, progress=within(progress, 0.0, 0.8))
    best, act = choose(cls, data, candidates, fold)
    low, high = _intervals_out_of_fold(cls, data, best.predicted, fold)
    out_of_fold = OutOfFold(best.predicted, low, high, act)

    progress(0.8, f"fitting {' + '.join(best.members)}", {})
    model = fit(cls, build(best.members, seed), learnt, np.arange(len(learnt)))
    progress(0.9, "exporting to ONNX", {})
    onnx = export_onnx(model, learnt.X.shape[1])
    difference = check_parity(model, onnx, learnt.X)
    manifest = _manifest(cls, baseline_id, data, learnt, candidates, best, out_of_fold, seed)
    manifest["metrics"]["onnx_max_abs_diff"] = difference
    progress(1.0, "trained", manifest["metrics"])
    return TrainedModel(onnx, manifest, out_of_fold, model_card(manifest))


def require_failures(cls: EquipmentClass, failures: int, machines: int) -> None:
    """Whether there is enough to learn from: lives that ended in failure, and machines they were of.

    Raises:
        NoFailuresYet: there is not; says how many are needed.
    """
    if failures < cls.models.minimum_failures or machines < cls.models.folds:
        raise NoFailuresYet(
            f"{failures} {cls.name} lives of {machines} machines ended in failure; "
            f"{cls.models.minimum_failures} of {cls.models.folds} machines are needed to learn from.",
            next_step="The rules serve until then; record failures in the maintenance history.",
        )


def _informative(X: np.ndarray) -> np.ndarray:
    """(m,) which features take more than one value."""
    return np.nanmax(X, axis=0, initial=-np.inf) > np.nanmin(X, axis=0, initial=np.inf)


def _intervals_out_of_fold(
    cls: EquipmentClass, data: TrainingSet, predicted: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each fold's intervals by what the other folds missed by, as a machine to come would get them."""
    low, high = np.empty(len(data)), np.empty(len(data))
    for held in np.unique(fold):
        here = fold == held
        intervals = _fit_intervals(cls, data.take(~here), predicted[~here])
        low[here], high[here] = intervals.around(predicted[here])
    return low, high


def _fit_intervals(cls: EquipmentClass, data: TrainingSet, predicted: np.ndarray) -> Intervals:
    return fit_intervals(predicted, data.rul, data.rows.number, coverage=cls.models.coverage, cap=cls.rul.cap)


def _manifest(
    cls: EquipmentClass,
    baseline_id: str,
    data: TrainingSet,
    learnt: TrainingSet,
    candidates: tuple[Candidate, ...],
    best: Candidate,
    out_of_fold: OutOfFold,
    seed: int,
) -> dict[str, Any]:
    runs = data.runs
    age, by_age = best_fixed_age(runs, cls.cost)
    policy = policy_cost(runs, out_of_fold.act, cls.cost)
    healthy = learnt.X[data.rul >= np.sort(data.rul)[-min(_HEALTHY_ROWS, len(data))]]
    return {
        "format": MANIFEST_FORMAT,
        "equipment_class": cls.name,
        "contract": {"name": cls.contract.name, "version": cls.contract.version},
        "rul": {"unit": cls.rul.unit, "seconds": cls.rul.seconds, "cap": cls.rul.cap},
        "baseline": baseline_id,
        "feature_digest": feature_digest(cls),
        "features": list(learnt.names),
        "ranges": {
            "low": np.nanmin(learnt.X, axis=0).astype(float).tolist(),
            "high": np.nanmax(learnt.X, axis=0).astype(float).tolist(),
        },
        "plausible": Plausibility.fit(learnt.names, learnt.X).to_list(),
        "healthy": np.nan_to_num(np.nanmedian(healthy, axis=0)).astype(float).tolist(),
        "model": list(best.members),
        "candidates": [{"model": list(c.members), **c.scores} for c in candidates],
        "intervals": _fit_intervals(cls, data, best.predicted).to_dict(),
        "policy": {
            "act_below": act_below(runs, best.predicted, cls.cost),
            "cost_rate": policy.rate,
            "failures": policy.failures,
            "fixed_age": age if np.isfinite(age) else None,
            "fixed_age_cost_rate": by_age.rate,
            "planned": cls.cost.planned,
            "failure": cls.cost.failure,
        },
        "metrics": {
            "rmse": rmse(data.rul, best.predicted),
            "nasa_score": nasa_score(data.rul, best.predicted),
            "coverage": coverage(data.rul, out_of_fold.low, out_of_fold.high),
            "width": width(out_of_fold.low, out_of_fold.high),
            "cost_ratio": policy.rate / by_age.rate,
            "rows": len(data),
            "failures": data.failures,
            "machines": len(np.unique(data.rows.machine)),
        },
        "seed": seed,
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
    }
