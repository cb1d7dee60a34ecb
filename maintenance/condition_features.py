"""Compute features: over whole histories or window by window, with the same result to the last bit."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np

from backbone.errors import IntegrityError
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass
from maintenance.feature_state import FeatureState, held_to
from maintenance.features import Features, feature_names
from maintenance.readings import Readings, Rows

_HUGE = 1 << 22
"""Bytes from which NumPy asks for huge pages."""


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
        IntegrityError: the state belongs to another baseline or other features, or readings lie before its end.
    """
    state = FeatureState.empty(cls, baseline.id) if state is None else held_to(cls, baseline.id, state)
    from maintenance import feature_kernel
    from maintenance.feature_plan import feature_plan

    plan = feature_plan(cls, baseline)
    lives = _lives(readings.rows, state)
    columns = cls.contract.inputs + baseline.settings
    values = readings.values if readings.columns == columns else readings.of(columns)
    matrix = _unfilled(len(readings), plan.features)
    tail_age = np.empty((len(lives.first), *state.tail_age.shape[1:]))
    tail = np.empty((len(lives.first), *state.tail.shape[1:]))
    sums = np.empty((len(lives.first), state.sums.shape[0], state.sums.shape[2]))
    counted = np.zeros((len(lives.first), 4), dtype=np.int64)
    goes_on = lives.earlier >= 0
    counted[goes_on, feature_kernel.READINGS] = state.readings[lives.earlier[goes_on]]
    counted[:, feature_kernel.STARTED] = lives.started.view(np.int64)
    feature_kernel.advance_lives(
        *plan.shared,
        *_passed(float, values),
        *_passed(np.int64, readings.rows.ts.view(np.int64), lives.first, lives.length, lives.earlier),
        *_passed(float, state.tail_age, state.tail, np.swapaxes(state.sums, 0, 1)),
        np.empty(plan.state),
        counted,
        tail_age,
        tail,
        sums,
        matrix.reshape(-1),
    )
    after = _checkpoint(
        state,
        readings.rows,
        lives,
        counted[:, feature_kernel.READINGS],
        tail_age,
        tail,
        np.swapaxes(sums, 0, 1),
    )
    return Features(readings.rows, feature_names(cls), matrix), after


def _passed(dtype: type, *arrays: np.ndarray) -> list[np.ndarray]:
    """Arrays as the kernel is compiled for: contiguous and writable. Copies those that are not."""
    return [np.require(a, dtype, ["C", "W"]) for a in arrays]


def _unfilled(rows: int, columns: int) -> np.ndarray:
    """(rows, columns) float64 to be written to, in pages of the usual size.

    NumPy asks for huge pages; where memory has no free ones, the system makes some first, which took three times as
    long as all the features.
    """
    size = rows * columns * 8
    if size < _HUGE:
        return np.empty((rows, columns))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory).reshape(rows, columns)


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


def _checkpoint(
    state: FeatureState,
    rows: Rows,
    lives: _Lives,
    counts: np.ndarray,
    tail_age: np.ndarray,
    tail: np.ndarray,
    sums: np.ndarray,
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
        readings=joined(counts, state.readings),
        started=joined(lives.started, state.started),
        latest=joined(rows.ts[last], state.latest),
        tail_age=joined(tail_age, state.tail_age),
        tail=joined(tail, state.tail),
        sums=joined(sums, state.sums, axis=1),
    )
