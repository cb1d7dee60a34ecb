"""What the simulated pumps' sensors show: load, weather and season, wear, and noise.

Flow, head and power follow the affinity laws of centrifugal pumps (flow ~ speed, head ~ speed²,
power ~ speed³; see ISO 9906 on tests at another speed). A sound pump shakes at one to two mm/s, a failing
one at about five, which are the orders of magnitude of ISO 10816-7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resources.sources.simulator.lives import Lives

SENSORS = (
    "speed_rpm",
    "ambient_temp_c",
    "vibration_mm_s",
    "bearing_temp_c",
    "motor_current_a",
    "flow_m3_h",
    "discharge_pressure_bar",
    "suction_pressure_bar",
    "seal_pressure_bar",
)
SPEEDS_RPM = (1450.0, 2175.0, 2900.0)
"""The fixed speeds of the drive; the load picks one."""
_UPSET_SHARE = 0.04
"""Share of a pump's days on which it runs short of suction: it shakes like a worn one, and is not."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings as columns: pump (n,) int, ts (n,) datetime64[us] in UTC, values (n, sensors) in `SENSORS` order."""

    pump: np.ndarray
    ts: np.ndarray
    values: np.ndarray

    def take(self, index: np.ndarray) -> Readings:
        return Readings(self.pump[index], self.ts[index], self.values[index])

    def __len__(self) -> int:
        return len(self.pump)


def joined(parts: list[Readings]) -> Readings:
    return Readings(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("pump", "ts", "values")))


def day_readings(
    lives: Lives, seed: int, day: np.datetime64, first_day: np.datetime64, readings_per_day: int
) -> Readings:
    """All readings of a day, of the pumps that run, in the order of time; noisy, but free of faults.

    The day's weather, load and noise come from a generator of its own, so any day can be had on its own.
    """
    pumps = lives.begin.shape[0]
    since = int((day - first_day).astype(int))
    rng = np.random.default_rng([seed, 2, since])
    pump = np.tile(np.arange(pumps), readings_per_day)
    slot = np.repeat(np.arange(readings_per_day), pumps)
    # Pumps report one after the other, not all in the same second.
    second = (slot + 0.5) * 86_400 // readings_per_day + pump % 60
    time_d = since + second / 86_400
    noise = rng.standard_normal((len(pump), len(SENSORS) + 1))
    disturbance = rng.standard_normal((pumps, 4))[pump]
    upset = rng.random((pumps,))[pump] < _UPSET_SHARE

    life, running = lives.at(pump, time_d)
    trim = 2 * lives.trim[pump, life] - 1
    bearing, seal, impeller = (lives.damage(pump, life, time_d) * lives.gain[pump, life]).T
    speed = _speed(day, second / 3600, lives.trim[pump, 0, 7], noise[:, -1])
    s = speed / SPEEDS_RPM[-1]
    ambient = _ambient(seed, since, day, second / 3600)
    suction = 1.6 + 0.25 * np.sin(2 * np.pi * (time_d / 9 + 0.05)) + 0.1 * trim[:, 0] - 0.9 * upset * s
    head = (9.5 + 0.4 * trim[:, 1]) * s**2 * (1 - 0.13 * impeller)
    flow = (190 + 8 * trim[:, 2]) * s * (1 - 0.15 * impeller - 0.06 * seal) * (1 - 0.08 * upset)
    current = 24 + (68 + 3 * trim[:, 3]) * s**3 * (1 + 0.06 * bearing - 0.07 * impeller)
    vibration = (0.7 + 0.9 * s**2) * (1 + 0.15 * trim[:, 4]) * (1 + 2.4 * bearing + 0.7 * impeller + 1.2 * upset)
    bearing_temp = ambient + 20 + 17 * s**2 + 3 * trim[:, 5] + 13 * bearing * (0.5 + 0.5 * s)
    seal_pressure = 6.2 + 0.2 * trim[:, 6] + 0.35 * suction - 3.0 * seal
    clean = np.stack([speed, ambient, vibration, bearing_temp, current, flow, head + suction, suction, seal_pressure])
    spread = np.stack(
        [
            1.5 * noise[:, 0],
            0.4 * noise[:, 1],
            vibration * (0.08 * noise[:, 2] + 0.06 * disturbance[:, 0]),
            0.8 * noise[:, 3] + 1.0 * disturbance[:, 1],
            current * 0.02 * noise[:, 4],
            flow * (0.025 * noise[:, 5] + 0.015 * disturbance[:, 2]),
            head * (0.02 * noise[:, 6] + 0.01 * disturbance[:, 2]),
            0.05 * noise[:, 7],
            0.15 * noise[:, 8] + 0.12 * disturbance[:, 3],
        ]
    )
    ts = day.astype("datetime64[us]") + second.astype("timedelta64[s]")
    return Readings(pump, ts, np.round(clean + spread, 2).T).take(np.flatnonzero(running))


def _speed(day: np.datetime64, hour: np.ndarray, bias: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Demand peaks in the afternoon, is lower at the weekend, and differs between pumps; rpm."""
    weekend = not np.is_busday(day)
    demand = 0.55 + 0.25 * np.sin(2 * np.pi * (hour - 9) / 24) - 0.15 * weekend + 0.2 * (bias - 0.5) + 0.08 * noise
    return np.array(SPEEDS_RPM)[np.digitize(demand, (0.4, 0.65))]


def _ambient(seed: int, since: int, day: np.datetime64, hour: np.ndarray) -> np.ndarray:
    """Air temperature: a year's and a day's wave, and weather that lasts some days; degC."""
    year_d = int((day - day.astype("datetime64[Y]").astype("datetime64[D]")).astype(int))
    weather = np.mean([np.random.default_rng([seed, 3, max(since - k, 0)]).standard_normal() for k in range(3)])
    return (
        14
        - 10 * np.cos(2 * np.pi * (year_d - 20) / 365.25)
        + 4 * np.sin(2 * np.pi * (hour - 9) / 24)
        + 4 * float(weather)
    )
