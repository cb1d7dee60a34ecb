"""Compute features: over whole histories or window by window, with the same result to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from backbone.errors import IntegrityError
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass
from maintenance.feature_state import FeatureState
from maintenance.features import Features, feature_names
from maintenance.life_sums import LifeSums
from maintenance.readings import Readings, Rows
from maintenance.rolling import RollingStatistics

_CHUNK_ROWS = 4096
"""Rows worked on at a time: their sums stay in the processor's cache, and memory stays bounded."""


def compute_features(
    cls: EquipmentClass, baseline: OperatingBaseline, readings: Readings, state: FeatureState | None = None
) -> tuple[Features, FeatureState]:
    """Features of each reading, from it and what came before it in its life.

    Args:
        readings: of one window, or of everything.
        state: what the window before ended with; None: nothing came before.

    Returns:
        The features, and the state the next window starts from. Machines without a reading keep theirs.

    Raises:
        IntegrityError: the state belongs to another baseline, or readings lie before its end.
    """
    state = FeatureState.empty(cls, baseline.id) if state is None else state
    if state.baseline != baseline.id:
        raise IntegrityError(
            f"The {cls.name} checkpoint was taken against baseline {state.baseline}, not {baseline.id}.",
            next_step="Compute the features again from the first window.",
        )
    lives = _lives(readings.rows, state)
    z = baseline.transform(readings)
    started = np.repeat(lives.started, lives.length)
    age = (readings.rows.ts - started) / np.timedelta64(1, "us") / (cls.rul.seconds * 1e6)
    names = feature_names(cls)
    matrix = np.empty((len(readings), len(names)))
    matrix[:, -1] = age
    block = _Blocks(cls)
    matrix[:, block["last"]] = z
    tail_age, tail = _rolling(cls, state, lives, z, age, matrix, block)
    sums = _since_start(cls, state, lives, z, age, matrix, block)
    # The drift is against the shortest mean: it answers fastest, and the slower ones are features already.
    matrix[:, block["drift"]] = matrix[:, block[f"mean_{cls.features.means[0]}"]] - matrix[:, block["start"]]
    return Features(readings.rows, names, matrix), _checkpoint(state, readings.rows, lives, tail_age, tail, sums)


class _Blocks:
    """Columns of the matrix by kind of feature."""

    def __init__(self, cls: EquipmentClass) -> None:
        self._width = len(cls.contract.inputs)
        kinds = [name.partition(".")[2] for name in feature_names(cls)[: -1 : self._width]]
        self._place = {kind: index for index, kind in enumerate(kinds)}

    def __getitem__(self, kind: str) -> slice:
        first = self._place[kind] * self._width
        return slice(first, first + self._width)


@dataclass(frozen=True, slots=True)
class _Lives:
    """The lives a window touches, in row order: first row, number of rows, the machine's checkpoint
    that the life goes on from (-1: it begins here), and the time of its first reading."""

    first: np.ndarray
    length: np.ndarray
    earlier: np.ndarray
    started: np.ndarray


def _lives(rows: Rows, state: FeatureState) -> _Lives:
    first = rows.starts
    length = rows.ends - first
    place = {name: index for index, name in enumerate(state.equipment)}
    known = np.array([place.get(name, -1) for name in rows.equipment[first]], dtype=np.intp)
    started = rows.ts[first]
    if len(state):
        stale = (known >= 0) & (
            (rows.life[first] < state.life[known])
            | ((rows.life[first] == state.life[known]) & (started <= state.latest[known]))
        )
        if stale.any():
            name = rows.equipment[first[stale][0]]
            raise IntegrityError(
                f"Readings of {name} lie before the end of its checkpoint.",
                next_step="Start from the checkpoint of an earlier window.",
            )
        goes_on = (known >= 0) & (rows.life[first] == state.life[known])
        known = np.where(goes_on, known, -1)
        started = np.where(goes_on, state.started[known], started)
    return _Lives(first, length, known, started)


def _rolling(
    cls: EquipmentClass,
    state: FeatureState,
    lives: _Lives,
    z: np.ndarray,
    age: np.ndarray,
    matrix: np.ndarray,
    block: _Blocks,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill in the rolling statistics; returns each life's newest ages and z-scores."""
    how, past = cls.features, cls.features.span - 1
    tail_age = np.full((len(lives.first), past), np.nan)
    tail = np.full((len(lives.first), past, z.shape[1]), np.nan)
    for part in _chunks(lives, past):
        first, length, earlier = lives.first[part], lives.length[part], lives.earlier[part]
        rows = slice(first[0], first[-1] + length[-1])
        begins = np.cumsum(length + past) - length - past  # where each life's past begins in the laid-out rows
        inside = np.arange(rows.stop - rows.start) + np.repeat(begins + past - (first - first[0]), length)
        laid_z = np.full((int((length + past).sum()), z.shape[1]), np.nan)
        laid_age = np.full(len(laid_z), np.nan)
        laid_z[inside], laid_age[inside] = z[rows], age[rows]
        before = begins[earlier >= 0, None] + np.arange(past)
        laid_z[before], laid_age[before] = state.tail[earlier[earlier >= 0]], state.tail_age[earlier[earlier >= 0]]
        ends = (begins + length)[:, None] + np.arange(past)
        tail[part], tail_age[part] = laid_z[ends], laid_age[ends]

        there, present = ~np.isnan(laid_age), ~np.isnan(laid_z)
        if (present == there[:, None]).all():
            present = there[:, None]  # no sensor was silent: one count serves them all
        zeroed = np.where(np.isnan(laid_z), 0.0, laid_z)
        statistics = RollingStatistics(zeroed, present.astype(float), np.where(there, laid_age, 0.0)[:, None])
        for n in how.means:
            matrix[rows, block[f"mean_{n}"]] = statistics.mean(n)[inside]
        for n in how.deviations:
            matrix[rows, block[f"std_{n}"]] = statistics.deviation(n)[inside]
        for n in how.slopes:
            matrix[rows, block[f"slope_{n}"]] = statistics.slope(n)[inside]
    return tail_age, tail


def _chunks(lives: _Lives, past: int) -> Iterator[slice]:
    """Runs of whole lives of about `_CHUNK_ROWS` rows, their past included."""
    begin, rows = 0, 0
    for index, length in enumerate(lives.length):
        rows += int(length) + past
        if rows >= _CHUNK_ROWS or index == len(lives.length) - 1:
            yield slice(begin, index + 1)
            begin, rows = index + 1, 0


def _since_start(
    cls: EquipmentClass,
    state: FeatureState,
    lives: _Lives,
    z: np.ndarray,
    age: np.ndarray,
    matrix: np.ndarray,
    block: _Blocks,
) -> np.ndarray:
    """Fill in what is counted since a life began; returns each life's sums at its newest reading."""
    how = cls.features
    # Longest first: the lives that have a reading at some position are then always the first so-many.
    order = np.argsort(-lives.length, kind="stable")
    sums = LifeSums.empty(len(order), z.shape[1], how.averages, how.level_readings)
    earlier = lives.earlier[order]
    sums.values[:, earlier >= 0] = state.sums[:, earlier[earlier >= 0]]
    first, length = lives.first[order], lives.length[order]
    for position in range(int(length[0]) if len(length) else 0):
        active = int(np.searchsorted(-length, -position, side="left"))
        now, rows = sums.first(active), first[:active] + position
        now.update(z[rows], age[rows])
        for weight, average in zip(how.averages, now.averages, strict=True):
            matrix[rows, block[f"ema_{weight:g}"]] = average
        matrix[rows, block["start"]] = now.start
        matrix[rows, block["trend"]] = now.trend
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return sums.values[:, back]


def _checkpoint(
    state: FeatureState, rows: Rows, lives: _Lives, tail_age: np.ndarray, tail: np.ndarray, sums: np.ndarray
) -> FeatureState:
    """The state after the window: each machine's newest life, and the machines that had no reading."""
    newest = np.flatnonzero(np.diff(rows.machine[lives.first], append=-1)) if len(rows) else np.array([], dtype=np.intp)
    names = rows.equipment[lives.first[newest]]
    absent = np.flatnonzero(~np.isin(state.equipment.astype(str), names.astype(str))) if len(state) else newest[:0]
    equipment = np.concatenate((names, state.equipment[absent]))
    order = np.argsort(equipment.astype(str), kind="stable") if len(equipment) else newest[:0]

    def joined(new: np.ndarray, old: np.ndarray, axis: int = 0) -> np.ndarray:
        both = np.concatenate((new.take(newest, axis), old.take(absent, axis)), axis)
        return both.take(order, axis)

    last = lives.first + lives.length - 1
    return FeatureState(
        state.baseline,
        state.features,
        equipment=equipment[order],
        life=joined(rows.life[lives.first], state.life),
        started=joined(lives.started, state.started),
        latest=joined(rows.ts[last], state.latest),
        tail_age=joined(tail_age, state.tail_age),
        tail=joined(tail, state.tail),
        sums=joined(sums, state.sums, axis=1),
    )
