"""Extremely randomised trees (Geurts, Ernst & Wehenkel, Machine Learning 2006)."""

from __future__ import annotations

from typing import Any

from maintenance.candidates import ModelSpec


def _build(seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    # scikit-learn's trees take NaN, their ONNX form does not; 0 is normal for a z-score.
    fill = SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True)
    trees = ExtraTreesRegressor(
        n_estimators=50,
        min_samples_leaf=5,
        # Few features tell the end from the middle of a life; with less than half of them at hand, splits miss those.
        max_features=0.6,
        # Neighbouring readings say nearly the same: less than a third of them per tree costs no accuracy.
        bootstrap=True,
        max_samples=0.3,
        random_state=seed,
    )
    return make_pipeline(fill, trees)


SPEC = ModelSpec(
    name="extra_trees",
    summary="The mean of 50 trees with random splits: steady where readings are noisy.",
    cannot=("extrapolate beyond what it saw fail", "stay small: its ONNX file is several megabytes"),
    build=_build,
)
