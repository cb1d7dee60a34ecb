"""Condition features as data: which sensor, which statistic, over how many readings.

What each statistic means (z is a sensor's z-score against the operating baseline, all are causal):

- `last`: the newest z; `mean_N`, `std_N`: mean and sample standard deviation over the last N readings
- `slope_N`: least-squares slope over the last N readings, per RUL unit
- `ema_W`: exponential average with weight W, divided by the weight it has gathered since the life began
- `start`: mean of the life's first readings; `drift`: the shortest rolling mean less `start`
- `trend`: least-squares slope since the life began, per RUL unit; `age`: RUL units since its first reading

Silent readings are left out of every sum; a statistic with too little to go on is NaN.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from maintenance.equipment_class import EquipmentClass, FeatureSettings

if TYPE_CHECKING:
    import numpy as np

    from maintenance.readings import Rows


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature. `sensor` is None for `age`; `span` counts readings, `weight` belongs to `ema`."""

    sensor: str | None
    statistic: str
    span: int | None = None
    weight: float | None = None
    kind: str = field(init=False, compare=False)
    """Statistic and parameter, such as `mean_10`."""
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        parameter = self.span if self.weight is None else f"{self.weight:g}"
        kind = self.statistic if parameter is None else f"{self.statistic}_{parameter}"
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "name", kind if self.sensor is None else f"{self.sensor}.{kind}")


AGE = Feature(None, "age")


def feature_list(cls: EquipmentClass) -> tuple[Feature, ...]:
    """A class's features: statistic by statistic, in each the inputs in contract order, then `age`."""
    return _feature_list(cls.contract.inputs, cls.features)


@cache
def _feature_list(inputs: tuple[str, ...], how: FeatureSettings) -> tuple[Feature, ...]:
    kinds: list[tuple[str, int | None, float | None]] = [("last", None, None)]
    kinds += [("mean", n, None) for n in how.means]
    kinds += [("std", n, None) for n in how.deviations]
    kinds += [("slope", n, None) for n in how.slopes]
    kinds += [("ema", None, w) for w in how.averages]
    kinds += [("start", None, None), ("drift", None, None), ("trend", None, None)]
    return (*(Feature(s, k, n, w) for k, n, w in kinds for s in inputs), AGE)


def feature_names(cls: EquipmentClass) -> tuple[str, ...]:
    """Column names of the feature matrix, in order."""
    return tuple(f.name for f in feature_list(cls))


def feature_digest(cls: EquipmentClass) -> str:
    """Digest of what the features are; a model trained under another digest cannot read them."""
    return _digest(cls.contract.inputs, cls.features, cls.rul.seconds)


@cache
def _digest(inputs: tuple[str, ...], how: FeatureSettings, unit_s: float) -> str:
    names = (f.name for f in _feature_list(inputs, how))
    text = "\n".join((*names, f"first {how.level_readings}", f"per {unit_s:g} s"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Features:
    """`matrix` is (n, len(names)) float64, one row a reading; float32 where only a model reads it."""

    rows: Rows
    names: tuple[str, ...]
    matrix: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> np.ndarray:
        """(n,) values of one feature."""
        return self.matrix[:, self.names.index(name)]

    def of_kind(self, cls: EquipmentClass, kind: str) -> np.ndarray:
        """(n, inputs) values of one statistic, such as `mean_10`, of every input."""
        return self.columns(_of_kind(cls.contract.inputs, kind))

    def columns(self, names: tuple[str, ...]) -> np.ndarray:
        """(n, len(names)) values of some features."""
        if names == self.names:
            return self.matrix
        return self.matrix[:, _places(self.names, names)]

    def take(self, index: np.ndarray) -> Features:
        """Some of the rows, by mask or rising index."""
        return Features(self.rows.take(index), self.names, self.matrix[index])


@lru_cache(maxsize=256)
def _of_kind(sensors: tuple[str, ...], kind: str) -> tuple[str, ...]:
    return tuple(f"{sensor}.{kind}" for sensor in sensors)


@lru_cache(maxsize=256)
def _places(names: tuple[str, ...], wanted: tuple[str, ...]) -> slice | np.ndarray:
    """Where some names are among all; kept, since to look for hundreds of them takes longer than a model does."""
    import numpy as np

    place = {name: j for j, name in enumerate(names)}
    index = [place[name] for name in wanted]
    if index and index == list(range(index[0], index[0] + len(index))):
        return slice(index[0], index[0] + len(index))
    return np.array(index, np.intp)
