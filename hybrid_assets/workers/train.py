"""Train a model where it is told to: reads `INPUT_TRAINING_SET`, writes `bundle/` in its working folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster_pipes import PipesContext

from backbone.errors import TargetFailed
from hybrid_assets.workers.session import input_folder, run_worker
from hybrid_assets.workers.training_files import read_training_folder, write_bundle
from maintenance.evaluation import split
from maintenance.training import train

_MOST_POINTS = 2000
"""Points of the picture of predicted against true; more would only be drawn over one another."""


def work(pipes: PipesContext) -> Mapping[str, Any]:
    """The completion record: the bundle, its manifest and card, and points for a picture."""
    folder = input_folder("training_set")
    if folder is None:
        raise TargetFailed("The worker was given no training set.", next_step="Pass it as the input training_set.")
    received = read_training_folder(folder)
    rows, held_out = split(received.equipment_class, received.rows)
    pipes.log.info(f"{len(rows)} rows of {rows.failures} failed lives; {held_out.failures} lives are held out")

    def tell(done: float, doing: str, metrics: Mapping[str, float]) -> None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        pipes.log.info(f"{done:4.0%} {doing}{': ' + figures if figures else ''}")

    started = time.perf_counter()
    model = train(
        received.equipment_class, received.baseline.id, rows, seed=int(pipes.get_extra("seed")), progress=tell
    )
    bundle = Path("bundle").resolve()
    write_bundle(bundle, onnx=model.onnx, baseline=received.baseline, card=model.card, manifest=model.manifest)
    step = max(1, len(rows) // _MOST_POINTS)
    return {
        "bundle": str(bundle),
        "manifest": model.manifest,
        "card": model.card,
        "train_seconds": round(time.perf_counter() - started, 2),
        "points": {
            "true": rows.rul[::step].round(3).tolist(),
            "predicted": model.out_of_fold.predicted[::step].astype(float).round(3).tolist(),
        },
    }


if __name__ == "__main__":
    run_worker(work)
