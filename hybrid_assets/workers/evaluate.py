"""Judge a trained model on held-out machines.

Reads `INPUT_TRAINING_SET`, `INPUT_CANDIDATE` and, if there is one, `INPUT_INCUMBENT`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster_pipes import PipesContext

from backbone.errors import IntegrityError, TargetFailed
from hybrid_assets.workers.session import input_folder, run_worker
from hybrid_assets.workers.training_files import MANIFEST, MODEL, read_incumbent_rows, read_training_folder
from maintenance.evaluation import compare, split
from maintenance.prognosis import Scorer


def work(pipes: PipesContext) -> Mapping[str, Any]:
    """The completion record: whether the model earned its release, why, and the figures."""
    training_set, candidate_folder = input_folder("training_set"), input_folder("candidate")
    if training_set is None or candidate_folder is None:
        raise TargetFailed("The worker was given no training set or no candidate.", next_step="Pass both as inputs.")
    received = read_training_folder(training_set)
    cls = received.equipment_class
    _, held_out = split(cls, received.rows)
    candidate = _scorer(candidate_folder)
    incumbent_folder = input_folder("incumbent")
    incumbent = None
    if incumbent_folder is not None:
        rows = read_incumbent_rows(training_set)
        incumbent = _scorer(incumbent_folder), held_out if rows is None else split(cls, rows)[1]
    evaluation = compare(cls, held_out, candidate, incumbent)
    for reason in evaluation.reasons:
        pipes.log.info(reason)
    predicted = candidate.predict(candidate.select(held_out.features)) if len(held_out) else held_out.rul
    return {
        "passed": evaluation.passed,
        "reasons": list(evaluation.reasons),
        "metrics": evaluation.metrics,
        "points": {"true": held_out.rul.round(3).tolist(), "predicted": predicted.round(3).tolist()},
    }


def _scorer(bundle: Path) -> Scorer:
    try:
        manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        return Scorer((bundle / MODEL).read_bytes(), manifest)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{bundle} holds no readable model: {error}.", next_step="Train again.") from error


if __name__ == "__main__":
    run_worker(work)
