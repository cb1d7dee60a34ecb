"""Gradient boosting over binned features (Friedman, Annals of Statistics 2001), for the odds of two outcomes."""

from __future__ import annotations

from typing import Any

from maintenance.candidates import ModelSpec


def _build(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=200,
        learning_rate=0.05,
        max_leaf_nodes=15,
        min_samples_leaf=40,
        l2_regularization=5.0,
        # Features of one sensor resemble each other; a split that sees a third of them keeps trees diverse.
        max_features=0.3,
        # Its validation split would tear a machine's readings apart.
        early_stopping=False,
        random_state=seed,
    )


SPEC = ModelSpec(
    name="hist_gradient_boosting_classifier",
    summary="200 small trees, each mending what the ones before left over; its probabilities need no calibration.",
    cannot=(
        "learn from a handful of failures: leaves hold 40 readings",
        "tell that a machine is of a kind it never saw fail",
    ),
    build=_build,
    answers="failure_within",
)
