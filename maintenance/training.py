"""Train a model of a class: settle what is to answer and when it acts, fit it, export it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from backbone.errors import IntegrityError
from maintenance.answers import OutOfFold, Settled
from maintenance.cross_validation import fit
from maintenance.equipment_class import REMAINING_LIFE, EquipmentClass
from maintenance.features import feature_digest, feature_names
from maintenance.model_card import model_card
from maintenance.onnx_export import check_parity
from maintenance.plausibility import Plausibility
from maintenance.progress import Progress, silent, within
from maintenance.question import question_of, question_spec
from maintenance.training_set import TrainingSet

MANIFEST_FORMAT = 1
_LIBRARIES = ("numpy", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")
_HEALTHY_ROWS = 20


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
    """Learn to answer the class's question. The same data and seed give the same model.

    Args:
        baseline_id: of the baseline the features were taken against; the model is of no use with another.
        workers: processor cores to learn on; the result does not depend on it.

    Raises:
        NoFailuresYet: fewer failures, or machines, than the question asks for.
        IntegrityError: the data hold other features than the class, or the exported model differs from
            the trained one.
    """
    if data.names != feature_names(cls):
        raise IntegrityError(
            f"The training set does not hold the features of class {cls.name}.",
            next_step="Build the training set again.",
        )
    question, kind = question_of(cls), question_spec(cls)
    question.require_enough(data)
    used = _informative(data.X) & np.array([question.takes(name) for name in data.names])
    learnt = TrainingSet(data.rows, tuple(np.array(data.names)[used]), np.ascontiguousarray(data.X[:, used]), data.rul)
    settled = question.settle(data, learnt, seed=seed, workers=workers, progress=within(progress, 0.0, 0.8))

    progress(0.8, f"fitting {' + '.join(settled.members)}", {})
    unfitted = question.build(settled.members, seed, learnt.names)
    model = fit(cls, unfitted, learnt, question.target(learnt), np.arange(len(learnt)))
    progress(0.9, "exporting to ONNX", {})
    onnx = question.export(model, settled.members, learnt.X.shape[1])
    difference = check_parity(question.estimate(model, learnt.X), onnx, learnt.X, kind.tolerance)
    manifest = _manifest(cls, baseline_id, learnt, settled, seed)
    manifest["metrics"]["onnx_max_abs_diff"] = difference
    progress(1.0, "trained", manifest["metrics"])
    return TrainedModel(onnx, manifest, settled.out_of_fold, model_card(manifest))


def _informative(X: np.ndarray) -> np.ndarray:
    """(m,) which features take more than one value."""
    return np.nanmax(X, axis=0, initial=-np.inf) > np.nanmin(X, axis=0, initial=np.inf)


def _manifest(
    cls: EquipmentClass, baseline_id: str, learnt: TrainingSet, settled: Settled, seed: int
) -> dict[str, Any]:
    healthy = learnt.X[learnt.rul >= np.sort(learnt.rul)[-min(_HEALTHY_ROWS, len(learnt))]]
    plausible = Plausibility.fit(learnt.names, learnt.X) if question_spec(cls).in_range_only else None
    asked = {} if cls.question == REMAINING_LIFE else {"question": cls.question}
    return {
        **asked,
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
        "plausible": plausible.to_list() if plausible is not None else [],
        "healthy": np.nan_to_num(np.nanmedian(healthy, axis=0)).astype(float).tolist(),
        "model": list(settled.members),
        "candidates": [dict(candidate) for candidate in settled.candidates],
        **settled.manifest,
        "metrics": {**settled.metrics, "rows": len(learnt), "machines": len(np.unique(learnt.rows.machine))},
        "seed": seed,
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
    }
