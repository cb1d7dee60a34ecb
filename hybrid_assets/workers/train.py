"""Train a model where it is told to: reads the input `training_set`, writes `bundle/` into the work's folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from hybrid_assets.workers.session import Job, run_worker
from hybrid_assets.workers.training_files import read_training_folder, write_bundle
from maintenance.evaluation import split
from maintenance.question import question_of
from maintenance.training import train

_BUNDLE = "bundle"
_MOST_POINTS = 2000
"""Points of the picture of predicted against true; more would only be drawn over one another."""


def work(job: Job) -> Mapping[str, Any]:
    """The record: where the bundle is in the work's folder, its manifest and card, and points for a picture."""
    pipes = job.pipes
    received = read_training_folder(job.input("training_set"))
    cls = received.equipment_class.on(float(pipes.get_extra("budget")))
    rows, held_out = split(cls, received.rows)
    pipes.log.info(f"{len(rows)} rows of {rows.lives} lives; {held_out.lives} lives are held out")

    def tell(done: float, doing: str, metrics: Mapping[str, float]) -> None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        pipes.log.info(f"{done:4.0%} {doing}{': ' + figures if figures else ''}")

    started = time.perf_counter()
    model = train(cls, received.baseline.id, rows, seed=int(pipes.get_extra("seed")), progress=tell)
    write_bundle(
        job.folder / _BUNDLE,
        onnx=model.onnx,
        baseline=received.baseline,
        card=model.card,
        manifest=model.manifest,
        drift_reference=received.drift_reference,
    )
    told = model.out_of_fold
    step = max(1, len(rows) // _MOST_POINTS)
    return {
        "bundle": _BUNDLE,
        "manifest": model.manifest,
        "card": model.card,
        "train_seconds": round(time.perf_counter() - started, 2),
        "points": {
            "true": rows.rul[::step].round(3).tolist(),
            "predicted": told.predicted[::step].astype(float).round(3).tolist(),
        },
        "reliability": question_of(cls).reliability(rows, told.predicted, told.low, told.high).to_dict(),
    }


run = partial(run_worker, work)

if __name__ == "__main__":
    run()
