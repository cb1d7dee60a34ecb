"""Which data products are judged: by window, or as a whole."""

from __future__ import annotations

from resources.state.verdicts import WHOLE

BY_WINDOW = (
    "telemetry", "telemetry_quarantine", "maintenance_history", "condition_features", "prognoses", "rule_assessments",
    "advisories", "maintenance_plan",
)  # fmt: skip
"""Data products whose windows are judged."""
JUDGED = (*BY_WINDOW, *WHOLE)
