"""Ridge regression (Hoerl & Kennard, Technometrics 1970): a weighted sum of the features, weights kept small."""

from __future__ import annotations

from typing import Any

from maintenance.candidates import ModelSpec


def _build(seed: int) -> Any:  # noqa: ARG001 - nothing in it is random
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # 0 is normal for a z-score, and so is it for the drifts and slopes of one.
    fill = SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True)
    return make_pipeline(fill, StandardScaler(), Ridge(alpha=100.0))


SPEC = ModelSpec(
    name="ridge",
    summary="Linear least squares with small weights: the yardstick, and the choice when failures are few.",
    cannot=(
        "follow wear that speeds up, or sensors that only matter together",
        "tell a silent sensor from a normal one",
    ),
    build=_build,
)
