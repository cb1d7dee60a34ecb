"""Faults of sensors and of the line, injected into clean readings at set rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backbone.settings import Share
from resources.sources.simulator.signals import SENSORS, Readings, joined

LATEST_D = 2
"""A late reading comes one or two days after its own."""
_DRIFT_BLOCK_D = 14
_CONFLICTING_SHARE = 0.25
_DRIFT_OF_LEVEL = 0.3
_INSTRUMENTS = np.array([s != "speed_rpm" for s in SENSORS])
"""The speed comes from the drive's controller; it is the other sensors that break."""


@dataclass(frozen=True, slots=True)
class FaultRates:
    """How often each fault occurs, as a share from 0 to 1; all default to 0.

    Attributes:
        dropout: of readings that never arrive.
        nan: of sensor values sent as NaN.
        spike: of sensor values sent beyond their range in the contract.
        stuck: of sensor-days on which the sensor repeats the day's first value.
        drift: of sensor-fortnights over which the sensor drifts, up to 30 % off, before it is calibrated.
        duplicate: of readings sent twice, a quarter of them with another payload.
        late: of readings that come with a batch one or two days later.
        out_of_order: of readings that swap places with others of their batch.
    """

    dropout: Share = 0.0
    nan: Share = 0.0
    spike: Share = 0.0
    stuck: Share = 0.0
    drift: Share = 0.0
    duplicate: Share = 0.0
    late: Share = 0.0
    out_of_order: Share = 0.0


def damaged(readings: Readings, rates: FaultRates, seed: int, since: int, maxima: np.ndarray) -> list[Readings]:
    """One day's readings as the faulty sensors and line send them.

    Args:
        since: days since the fleet was commissioned; all that happens depends on it and on the seed alone.
        maxima: (sensors,) largest value each sensor's contract allows; NaN where it sets none.

    Returns:
        The readings that come on the same day, one day later, and two days later.
    """
    rng = np.random.default_rng([seed, 4, since])
    values = _sensor_faults(readings, rates, seed, since)
    shape = values.shape
    spikes = (rng.random(shape) < rates.spike) & _INSTRUMENTS & np.isfinite(maxima)
    values = np.where(spikes, np.round(maxima + (1 + np.abs(maxima)) * (0.5 + rng.random(shape)), 2), values)
    values = np.where((rng.random(shape) < rates.nan) & _INSTRUMENTS, np.nan, values)
    arrives = rng.random(len(readings)) >= rates.dropout
    delay = np.where(rng.random(len(readings)) < rates.late, rng.integers(1, LATEST_D + 1, len(readings)), 0)
    sent = Readings(readings.pump, readings.ts, values)
    return [sent.take(np.flatnonzero(arrives & (delay == d))) for d in range(LATEST_D + 1)]


def _sensor_faults(readings: Readings, rates: FaultRates, seed: int, since: int) -> np.ndarray:
    if not len(readings):
        return readings.values
    pumps = int(readings.pump.max()) + 1
    block, into = divmod(since, _DRIFT_BLOCK_D)
    # Row by row and pump by pump, so that a pump's faults do not depend on which others run.
    drifts = np.random.default_rng([seed, 5, block]).random((pumps, len(SENSORS))) < rates.drift
    ramp = 1 + _DRIFT_OF_LEVEL * (into + 1) / _DRIFT_BLOCK_D
    values = np.where((drifts & _INSTRUMENTS)[readings.pump], np.round(readings.values * ramp, 2), readings.values)
    sticks = np.random.default_rng([seed, 6, since]).random((pumps, len(SENSORS))) < rates.stuck
    firsts = np.zeros(pumps, int)
    present, first = np.unique(readings.pump, return_index=True)
    firsts[present] = first
    return np.where((sticks & _INSTRUMENTS)[readings.pump], values[firsts[readings.pump]], values)


def sent_badly(batch: Readings, rates: FaultRates, seed: int, since: int) -> Readings:
    """A day's batch with readings sent twice, and out of order."""
    rng = np.random.default_rng([seed, 7, since])
    again = batch.take(np.flatnonzero(rng.random(len(batch)) < rates.duplicate))
    conflicting = (rng.random(len(again)) < _CONFLICTING_SHARE)[:, None] & _INSTRUMENTS
    again = Readings(again.pump, again.ts, np.where(conflicting, again.values + 0.5, again.values))
    batch = joined([batch, again])
    order = np.arange(len(batch))
    moved = np.flatnonzero(rng.random(len(batch)) < rates.out_of_order)
    order[moved] = rng.permutation(moved)
    return batch.take(order)
