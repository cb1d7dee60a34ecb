"""The jobs of an equipment class: which assets run together, named by key."""

from typing import Any

import dagster as dg

from resources.bindings.partitions import STEP

INGEST = ("telemetry", "telemetry_quarantine", "maintenance_history")
TRAIN = ("operating_baseline", "training_set", "trained_model", "model_evaluation", "model_release")
ANSWER = ("rule_assessments", "advisories", "maintenance_plan")
SCORE = ("condition_features", "prognoses", "rule_assessments", "advisories", "maintenance_plan")

_JOBS = {
    "ingest": (INGEST, "Stores what has landed, before the plant has a baseline."),
    "train": (TRAIN, "Fits the baseline, trains, evaluates, and releases what is better."),
    "score": (SCORE, "Serves windows from stored telemetry: from their features to their maintenance plan."),
    "mend": (("prognoses", *ANSWER), "Scores degraded windows again, from the features they have."),
    "fallback": (ANSWER, "The rules answer in the place of a run that gave no answer."),
    "plan": (("maintenance_plan",), "Makes the plan of windows whose run ended before it had."),
    "serve": ((*INGEST, *SCORE), "Everything a window needs, from its telemetry to its maintenance plan."),
}


def fleet_jobs(equipment_class: str) -> dict[str, Any]:
    """The jobs of a class, by the kind of `backbone.windows.Step` each one answers."""
    return {
        kind: dg.define_asset_job(
            f"{equipment_class}_{kind}",
            selection=dg.AssetSelection.assets(*(dg.AssetKey([equipment_class, name]) for name in names)),
            description=description,
            tags={STEP: kind},
        )
        for kind, (names, description) in _JOBS.items()
    }
