"""How the simulated pumps live: competing wear, failures, renewals and downtime, as a renewal process.

Each life starts with a time to failure for every wear mode, from a three-parameter Weibull distribution
(Weibull, J. Appl. Mech. 18, 1951). The shortest one wins: its damage reaches 1 and the pump fails. Damage
grows as a power of age, so it stays small for long and then shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

SHORTEST_LIFE = 0.2
"""No wear mode ends a life before this share of the fleet's mean life (the Weibull location parameter)."""
_PREVENTIVE_SHARE_OF_LIFE = (0.5, 0.95)
_SHORTEST_DOWNTIME_D, _LONGEST_DOWNTIME_D = 0.25, 1.25


@dataclass(frozen=True, slots=True)
class WearMode:
    """One way to wear out.

    Attributes:
        name: as the maintenance history calls it.
        scale: characteristic life, relative to the other modes.
        shape: Weibull shape; the higher, the less lives differ.
        growth: bounds of the exponent by which damage grows with age; drawn anew for each life.
    """

    name: str
    scale: float
    shape: float
    growth: tuple[float, float]


MODES = (
    WearMode("bearing_wear", scale=1.0, shape=3.0, growth=(2.2, 3.0)),
    WearMode("seal_leak", scale=1.25, shape=2.2, growth=(1.6, 2.1)),
    WearMode("impeller_erosion", scale=1.1, shape=4.5, growth=(1.4, 1.8)),
)


@dataclass(frozen=True, slots=True)
class Lives:
    """The lives of a fleet; times in days since the fleet was commissioned.

    Attributes:
        begin, end: (pumps, lives) when a life starts and ends; between lives a pump stands still.
        failed: (pumps, lives) whether it ended in a failure rather than in a preventive renewal.
        mode: (pumps, lives) index into `MODES` of the mode that came first.
        time_to_failure, growth, gain: (pumps, lives, modes) age at which the mode's damage is 1, the
            exponent of its growth, and how strongly the sensors show it (1 on average).
        trim: (pumps, lives, 8) standard uniform numbers that set the pump up anew in each life.
    """

    begin: np.ndarray
    end: np.ndarray
    failed: np.ndarray
    mode: np.ndarray
    time_to_failure: np.ndarray
    growth: np.ndarray
    gain: np.ndarray
    trim: np.ndarray

    @property
    def last_day_d(self) -> float:
        """Up to here every pump's lives are known."""
        return float(self.end[:, -1].min())

    def at(self, pump: np.ndarray, time_d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which life each pump is in, (n,) int, and whether it runs, (n,) bool."""
        life = (time_d[:, None] > self.end[pump]).sum(axis=1)
        return life, time_d >= self.begin[pump, life]

    def damage(self, pump: np.ndarray, life: np.ndarray, time_d: np.ndarray) -> np.ndarray:
        """Damage by each mode, (n, modes); the life that fails does so as its largest reaches 1."""
        age = np.maximum(time_d - self.begin[pump, life], 0.0)[:, None]
        return np.minimum((age / self.time_to_failure[pump, life]) ** self.growth[pump, life], 1.0)


def draw_lives(seed: int, pumps: int, until_d: float, mean_life_days: float, preventive_share: float) -> Lives:
    """Draw the lives of a fleet up to at least `until_d`. A longer horizon only adds lives."""
    shortest = SHORTEST_LIFE * _PREVENTIVE_SHARE_OF_LIFE[0] * mean_life_days * _DUTY[0]
    count = math.ceil(until_d / shortest) + 1
    modes = len(MODES)
    # One generator a pump, one row a life: lengthening the horizon leaves the earlier rows as they were.
    draws = np.stack([np.random.default_rng([seed, 1, p]).random((count, 3 * modes + 12)) for p in range(pumps)])
    wear, growth, gain, rest = np.split(draws, [modes, 2 * modes, 3 * modes], axis=2)

    scale, shape = np.array([m.scale for m in MODES]), np.array([m.shape for m in MODES])
    unit = (1 - SHORTEST_LIFE) / _mean_of_shortest()
    duty = _between(_DUTY, rest[:, :1, 0])[:, :, None]
    life_scale = mean_life_days * duty
    time_to_failure = life_scale * (SHORTEST_LIFE + unit * scale * (-np.log1p(-wear)) ** (1 / shape))
    mode = time_to_failure.argmin(axis=2)
    shortest_ttf = time_to_failure.min(axis=2)
    failed = rest[:, :, 1] >= preventive_share
    length = np.where(failed, 1.0, _between(_PREVENTIVE_SHARE_OF_LIFE, rest[:, :, 2])) * shortest_ttf
    downtime = _between((_SHORTEST_DOWNTIME_D, _LONGEST_DOWNTIME_D), rest[:, :, 3])
    begin = np.cumsum(length + downtime, axis=1) - length - downtime
    return Lives(
        begin=begin,
        end=begin + length,
        failed=failed,
        mode=mode,
        time_to_failure=time_to_failure,
        growth=np.stack([_between(m.growth, growth[:, :, i]) for i, m in enumerate(MODES)], axis=2),
        gain=_between((0.85, 1.15), gain),
        trim=rest[:, :, 4:],
    )


_DUTY = (0.85, 1.15)
"""Some pumps live harder than others: bounds of a pump's factor on its lives."""


def _between(bounds: tuple[float, float], uniform: np.ndarray) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


@cache
def _mean_of_shortest() -> float:
    """Mean of the smallest of the modes' unit Weibull lives: the integral of their joint survival function."""
    t = np.linspace(0.0, 6.0, 6001)
    return float(np.trapezoid(np.exp(-sum((t / m.scale) ** m.shape for m in MODES)), t))
