"""The jobs of an equipment class: which assets run together, named by key."""

from collections.abc import Sequence
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


QUALITY = "quality"
"""The job that judges windows. It writes none of them, and is no step that serves one."""
_CHECKS = {
    "telemetry": "accepted_equals_stored_plus_quarantined",
    "advisories": "served_by_current_release",
    "operating_baseline": "holds_contract",
    "trained_model": "holds_contract",
    "model_evaluation": "holds_contract",
    "model_release": "holds_contract",
}
"""Checks that run with the asset they are of: they look at all windows or at one document, and cost next to nothing."""


def fleet_jobs(equipment_class: str, checks: Sequence[dg.AssetCheckKey] = ()) -> dict[str, Any]:
    """The jobs of a class: `quality`, and by the kind of `backbone.windows.Step` those that answer each one.

    Args:
        checks: that `quality` makes besides those of all assets that serve windows.
    """
    jobs = {
        kind: dg.define_asset_job(
            f"{equipment_class}_{kind}",
            selection=_with_checks(equipment_class, names),
            description=description,
            tags={STEP: kind},
        )
        for kind, (names, description) in _JOBS.items()
    }
    judged = [dg.AssetKey([equipment_class, name]) for name in (*INGEST, *SCORE, "training_set")]
    jobs[QUALITY] = dg.define_asset_job(
        f"{equipment_class}_{QUALITY}",
        selection=dg.AssetSelection.checks_for_assets(*judged) | dg.AssetSelection.checks(*checks),
        description="Holds windows to the contracts of their data products.",
    )
    return jobs


def dead_letters_job(equipment_class: str) -> Any:
    """What counts the dead letters of a plant, and judges how many there are."""
    key = dg.AssetKey([equipment_class, "dead_letters"])
    return dg.define_asset_job(
        f"{equipment_class}_dead_letters",
        selection=dg.AssetSelection.assets(key).without_checks()
        | dg.AssetSelection.checks(dg.AssetCheckKey(key, "few_dead_letters")),
        description="Counts what the gateways of a plant could not use.",
    )


def _with_checks(equipment_class: str, names: tuple[str, ...]) -> dg.AssetSelection:
    """Assets without the checks of their windows, which a job of their own makes."""
    keys = {name: dg.AssetKey([equipment_class, name]) for name in names}
    checks = [dg.AssetCheckKey(keys[name], check) for name, check in _CHECKS.items() if name in keys]
    assets = dg.AssetSelection.assets(*keys.values()).without_checks()
    return assets | dg.AssetSelection.checks(*checks) if checks else assets
