"""Ask a release about the newest reading of each machine; reads the inputs `features` and `release`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from hybrid_assets.feature_tables import features_from_arrow
from hybrid_assets.prognosis_tables import answer_to_arrow
from hybrid_assets.workers.session import Job, run_worker
from hybrid_assets.workers.training_files import CONTRACT, MANIFEST, MODEL
from maintenance.equipment_class import equipment_class_from_contract
from maintenance.features import Features
from maintenance.prognosis import Prognoses, Scorer, prognose
from resources.catalog.contracts import read_contract

FEATURES, PROGNOSES = "features.parquet", "prognoses.parquet"


def work(job: Job) -> Mapping[str, Any]:
    """The record: how many rows were answered, and what drives the most urgent machine of the newest window."""
    folder, release = job.input("features"), job.input("release")
    cls = equipment_class_from_contract(read_contract(folder / CONTRACT))
    rows = pq.read_table(folder / FEATURES)
    features = features_from_arrow(cls, rows, dtype=np.float32)
    scorer = _scorer(release)
    baseline = rows["baseline"][0].as_py() if rows.num_rows else scorer.baseline
    answers = prognose(cls, scorer, features, baseline=baseline)
    pq.write_table(answer_to_arrow(cls, answers), job.folder / PROGNOSES)
    return {
        "rows": len(answers),
        "answered": int((answers.abstained == None).sum()),  # noqa: E711 - elementwise
        "urgent": _urgent(scorer, features, answers),
    }


def _scorer(release: Path) -> Scorer:
    manifest = json.loads((release / MANIFEST).read_text(encoding="utf-8"))
    return Scorer((release / MODEL).read_bytes(), manifest)


def _urgent(scorer: Scorer, features: Features, answers: Prognoses) -> dict[str, Any] | None:
    newest, urgency = answers.rows.latest, -answers.rul if answers.risk is None else answers.risk
    newest = newest[np.isfinite(urgency[newest])]
    if not len(newest):
        return None
    row = int(newest[urgency[newest].argmax()])
    harm = scorer.drivers(scorer.select(features.take(np.array([row]))))[0]
    change = -harm if answers.risk is None else harm
    machine = str(answers.rows.equipment[row])
    return {"machine": machine, "sensors": list(scorer.sensors), "change": change.round(4).tolist()}


run = partial(run_worker, work)

if __name__ == "__main__":
    run()
