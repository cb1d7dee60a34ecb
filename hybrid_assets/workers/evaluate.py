"""Judge a trained model on held-out machines.

Reads the inputs `training_set`, `candidate` and, if there is one, `incumbent`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from backbone.errors import IntegrityError
from hybrid_assets.workers.session import Job, run_worker
from hybrid_assets.workers.training_files import MANIFEST, MODEL, read_incumbent_rows, read_training_folder
from maintenance.evaluation import compare, split
from maintenance.prognosis import Scorer
from maintenance.question import question_of


def work(job: Job) -> Mapping[str, Any]:
    """The record: whether the model earned its release, why, and the figures."""
    training_set = job.input("training_set")
    received = read_training_folder(training_set)
    cls = received.equipment_class
    _, held_out = split(cls, received.rows)
    candidate = _scorer(job.input("candidate"))
    incumbent = None
    if "incumbent" in job.inputs:
        rows = read_incumbent_rows(training_set)
        incumbent = _scorer(job.input("incumbent")), held_out if rows is None else split(cls, rows)[1]
    evaluation = compare(cls, held_out, candidate, incumbent)
    for reason in evaluation.reasons:
        job.pipes.log.info(reason)
    predicted = candidate.predict(candidate.select(held_out.features)) if len(held_out) else held_out.rul
    low, high = candidate.interval(predicted)
    return {
        "passed": evaluation.passed,
        "reasons": list(evaluation.reasons),
        "metrics": evaluation.metrics,
        "points": {"true": held_out.rul.round(3).tolist(), "predicted": predicted.round(3).tolist()},
        "reliability": question_of(cls).reliability(held_out, predicted, low, high).to_dict(),
    }


def _scorer(bundle: Path) -> Scorer:
    try:
        manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        return Scorer((bundle / MODEL).read_bytes(), manifest)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{bundle} holds no readable model: {error}.", next_step="Train again.") from error


run = partial(run_worker, work)

if __name__ == "__main__":
    run()
