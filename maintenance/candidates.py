"""The port every model candidate answers at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maintenance.equipment_class import REMAINING_LIFE


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How a model presents itself: one `SPEC` a module of `maintenance.models`, named like the module.

    `build` takes a seed and gives an unfitted scikit-learn estimator: a regressor, a classifier or an outlier
    detector (`maintenance.questions.anomaly` says of what form), as the question wants that it `answers`. It learns
    from float32 features with NaN in them, though in no column nothing else; gives the same model for the same seed
    and data; and has an ONNX form: that of skl2onnx, or what `export` makes of a fitted one and its number of columns.
    `cannot` says what the model is bad at.
    """

    name: str
    summary: str
    cannot: tuple[str, ...]
    build: Callable[[int], Any]
    answers: str = REMAINING_LIFE
    export: Callable[[Any, int], bytes] | None = None
