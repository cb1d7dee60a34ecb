"""Which data products are judged: by window, as a whole, or as documents."""

from __future__ import annotations

from resources.state.verdicts import WHOLE

BY_WINDOW = (
    "telemetry", "telemetry_quarantine", "maintenance_history", "condition_features", "prognoses", "rule_assessments",
    "advisories", "maintenance_plan", "dead_letters",
)  # fmt: skip
"""Data products whose windows are judged."""
JUDGED = (*BY_WINDOW, *WHOLE)
OF_SITES = (*WHOLE, "dead_letters")
"""Those whose assets have sites for partitions: a check of one is of no window, though it tells of one."""

DOCUMENTS = ("operating_baseline", "trained_model", "model_evaluation", "model_release")
"""Data products that are one document, made by training for a plant as a whole."""
