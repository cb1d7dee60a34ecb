"""The operating baseline: which regimes a fleet runs in, and what each sensor reads there.

Regimes are levels of the setting columns that readings jump between (a pump's speeds, an aircraft's
flight conditions). A sensor's level and scale in its regime turn a reading into a z-score, so that readings
of all regimes, sensors and machines can be compared.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backbone.errors import IntegrityError, NotCommissioned
from maintenance.equipment_class import BaselineSettings, EquipmentClass

if TYPE_CHECKING:
    from maintenance.readings import Readings

_OUTLIER = 6.0
"""Readings further than this many robust scales from the median count as if they lay there."""
_CONSTANT = 1e-9
"""A scale below this share of the level is a sensor that does not move."""
_Z_LIMIT = 100.0
"""Beyond this a z-score says only "far off"; cut, it cannot drown the sums of its window."""


@dataclass(frozen=True, slots=True)
class OperatingBaseline:
    """Regimes, and the level and scale of each input in each.

    Attributes:
        settings, inputs: column names.
        centres: (regimes, settings) in the settings' units.
        ranges: (settings,) by which distances between settings are measured.
        shares: (regimes,) of the readings.
        level, scale: (regimes, inputs) in the inputs' units; scale inf: the input does not move there,
            NaN: it was never read there.
    """

    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    centres: np.ndarray
    ranges: np.ndarray
    shares: np.ndarray
    level: np.ndarray
    scale: np.ndarray

    @property
    def uninformative(self) -> tuple[str, ...]:
        """Inputs that move in no regime."""
        still = ~np.isfinite(self.scale).any(axis=0)
        return tuple(name for name, quiet in zip(self.inputs, still, strict=True) if quiet)

    @property
    def id(self) -> str:
        """Digest of the content; features, releases and checkpoints name the baseline by it."""
        return "sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()

    def regime(self, readings: Readings) -> np.ndarray:
        """(n,) index of each reading's regime; -1 where every setting is silent and there are several."""
        return _nearest(readings.of(self.settings), self.centres, self.ranges)

    def transform(self, readings: Readings) -> np.ndarray:
        """(n, inputs) z-scores: 0 where an input does not move in its regime, NaN where nothing can be said."""
        values, regime = readings.of(self.inputs), self.regime(readings)
        z = (values - self.level[regime]) / self.scale[regime]
        z[regime < 0] = np.nan
        return np.clip(z, -_Z_LIMIT, _Z_LIMIT, out=z)

    def to_json(self) -> str:
        """Canonical JSON: the same baseline gives the same text."""
        arrays = {name: _listed(getattr(self, name)) for name in ("centres", "ranges", "shares", "level", "scale")}
        return json.dumps({"settings": self.settings, "inputs": self.inputs, **arrays}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> OperatingBaseline:
        """The inverse of `to_json`.

        Raises:
            IntegrityError: the text is no baseline.
        """
        try:
            document = json.loads(text)
            regimes, settings, inputs = (len(document[k]) for k in ("centres", "settings", "inputs"))
            shapes = {
                "centres": (regimes, settings),
                "ranges": (settings,),
                "shares": (regimes,),
                "level": (regimes, inputs),
                "scale": (regimes, inputs),
            }
            arrays = {n: np.array(document[n], dtype=float).reshape(shape) for n, shape in shapes.items()}
            return cls(tuple(document["settings"]), tuple(document["inputs"]), **arrays)
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"This is no operating baseline ({error}).", next_step="Build the operating baseline again."
            ) from error


def fit_baseline(cls: EquipmentClass, readings: Readings) -> OperatingBaseline:
    """Find the regimes and take each input's level and scale in each. The same readings give the same baseline.

    Raises:
        NotCommissioned: there is no reading to learn from.
    """
    settings, inputs = cls.contract.with_role("setting"), cls.contract.inputs
    if not len(readings):
        raise NotCommissioned(
            f"There are no {cls.name} readings to take a baseline from.",
            next_step="Wait for telemetry, or backfill it.",
        )
    values = readings.of(settings)
    ranges = np.array([_range(cls, s, values[:, j]) for j, s in enumerate(settings)])
    centres = _regimes(values, ranges, cls.baseline)
    regime = _nearest(values, centres, ranges)
    level = np.full((len(centres), len(inputs)), np.nan)
    scale = np.full((len(centres), len(inputs)), np.nan)
    measured = readings.of(inputs)
    for index in range(len(centres)):
        level[index], scale[index] = _level_and_scale(measured[regime == index])
    shares = np.bincount(regime[regime >= 0], minlength=len(centres)) / len(readings)
    return OperatingBaseline(settings, inputs, centres, ranges, shares, level, scale)


def _range(cls: EquipmentClass, setting: str, values: np.ndarray) -> float:
    """The contract's range, so that jitter around one set point stays jitter; else what was seen."""
    column = cls.contract[setting]
    if column.minimum is not None and column.maximum is not None and column.maximum > column.minimum:
        return column.maximum - column.minimum
    seen = values[np.isfinite(values)]
    spread = float(np.ptp(seen)) if len(seen) else 0.0
    return spread or 1.0


def _regimes(values: np.ndarray, ranges: np.ndarray, how: BaselineSettings) -> np.ndarray:
    """(regimes, settings) centres of the combinations of levels that occur often enough."""
    whole = values[np.isfinite(values).all(axis=1)]
    if not values.shape[1] or not len(whole):
        return np.zeros((1, values.shape[1]))
    levels = [_levels(whole[:, j], ranges[j] * how.separation) for j in range(whole.shape[1])]
    combinations, member, count = np.unique(np.stack(levels, axis=1), axis=0, return_inverse=True, return_counts=True)
    centres = np.array([np.median(whole[member == k], axis=0) for k in range(len(combinations))])
    often = count >= max(how.minimum_share * len(whole), 2)
    return centres[often] if often.any() else centres[[np.argmax(count)]]


def _levels(values: np.ndarray, gap: float) -> np.ndarray:
    """(n,) which level each value lies at; a gap wider than `gap` parts two levels."""
    distinct = np.unique(values)
    level_of_distinct = np.concatenate(([0], np.cumsum(np.diff(distinct) > gap)))
    return level_of_distinct[np.searchsorted(distinct, values)]


def _nearest(values: np.ndarray, centres: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """(n,) nearest centre by the settings that are there."""
    if len(centres) == 1:
        return np.zeros(len(values), dtype=np.intp)
    distance = np.empty((len(values), len(centres)))
    for index, centre in enumerate(centres):
        distance[:, index] = np.nansum(((values - centre) / ranges) ** 2, axis=1)
    return np.where(np.isnan(values).all(axis=1), -1, distance.argmin(axis=1))


def _level_and_scale(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of (n, inputs) values, outliers drawn in."""
    level, scale = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    for j in range(values.shape[1]):
        column = values[np.isfinite(values[:, j]), j]
        if not len(column):
            continue
        median, quartiles = np.median(column), np.quantile(column, (0.25, 0.75))
        reach = _OUTLIER * (quartiles[1] - quartiles[0]) / 1.349
        if reach > 0:
            column = np.clip(column, median - reach, median + reach)
        level[j], deviation = column.mean(), column.std()
        scale[j] = deviation if deviation > _CONSTANT * max(abs(level[j]), 1e-6) else np.inf
    return level, scale


def _listed(values: np.ndarray) -> list:
    """Nested lists that JSON can hold; inf and NaN have no JSON number, so they go as text."""
    return [_listed(v) if v.ndim else (float(v) if np.isfinite(v) else str(v)) for v in np.asarray(values)]
