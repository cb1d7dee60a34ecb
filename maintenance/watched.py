"""Which sensors a rule watches, and in which direction each does harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from backbone.errors import UnknownName
from maintenance.equipment_class import EquipmentClass

if TYPE_CHECKING:
    import numpy as np

Direction = Literal["up", "down", "either"]


def check_watched(cls: EquipmentClass, harmful: Mapping[str, Direction]) -> None:
    """Refuse sensors that do not exist.

    Raises:
        UnknownName: lists those that do.
    """
    for sensor in harmful:
        if sensor not in cls.contract.inputs:
            raise UnknownName(f"input of class {cls.name}", sensor, cls.contract.inputs)


def directions(cls: EquipmentClass, harmful: Mapping[str, Direction]) -> np.ndarray:
    """(inputs,) 1: up does harm, -1: down, 0: either way, NaN: not watched. Nothing named: all, either way."""
    import numpy as np

    meaning = {"up": 1.0, "down": -1.0, "either": 0.0}
    if not harmful:
        return np.zeros(len(cls.contract.inputs))
    return np.array([meaning[harmful[s]] if s in harmful else np.nan for s in cls.contract.inputs])


def towards_harm(z: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(n, inputs) how far each z-score lies in its harmful direction; NaN where silent or not watched."""
    import numpy as np

    return np.where(direction == 0, np.abs(z), z * direction)


def agreed(values: np.ndarray, agreeing: int) -> tuple[np.ndarray, np.ndarray]:
    """What at least so many sensors agree on: the `agreeing`-th largest of each row, and the sensor with the largest.

    Where fewer sensors have a value it is the smallest of these; NaN and -1 where none has.
    """
    import numpy as np

    order = np.argsort(-values, axis=1, kind="stable")  # NaN sorts last
    count = values.shape[1] - np.isnan(values).sum(axis=1)
    rows, place = np.arange(len(values)), np.maximum(np.minimum(agreeing, count), 1) - 1
    return values[rows, order[rows, place]], np.where(count > 0, order[:, 0], -1)
