"""Gradient boosting over binned features (Friedman, Annals of Statistics 2001; Ke et al., NeurIPS 2017)."""

from __future__ import annotations

from typing import Any

from maintenance.candidates import ModelSpec


def _build(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
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
    name="hist_gradient_boosting",
    summary="200 small trees, each mending what the ones before left over; takes silent sensors as they are.",
    cannot=("extrapolate beyond what it saw fail", "learn from a few hundred readings: leaves hold 40"),
    build=_build,
)
