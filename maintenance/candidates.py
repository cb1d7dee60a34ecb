"""The port every model candidate answers at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How a model presents itself: one `SPEC` a module of `maintenance.models`, named like the module.

    `build` takes a seed and gives an unfitted scikit-learn regressor. It learns from float32 features with NaN
    in them, though in no column nothing else; gives the same model for the same seed and data; and has an
    ONNX form. `cannot` says what the model is bad at.
    """

    name: str
    summary: str
    cannot: tuple[str, ...]
    build: Callable[[int], Any]
