"""Compute features: over whole histories or window by window, with the same result to the last bit."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backbone.errors import IntegrityError
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass
from maintenance.feature_layout import READINGS, STARTED
from maintenance.feature_plan import feature_plan
from maintenance.feature_state import FeatureState, held_to
from maintenance.features import Features, feature_names
from maintenance.readings import Readings, Rows

_HUGE = 1 << 22
"""Bytes from which NumPy asks for huge pages."""
_PASSED: tuple[Literal["C", "W"], ...] = ("C", "W")
"""What compiled code asks of an array; one that has it already is not copied."""


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
    from maintenance import compiled_kernels as compiled

    plan = feature_plan(cls, baseline)
    lives = _lives(readings.rows, state)
    columns = cls.contract.inputs + baseline.settings
    values = readings.values if readings.columns == columns else readings.of(columns)
    matrix = _unfilled(len(readings), plan.features)
    n, kept, inputs = len(lives.first), *state.tail.shape[1:]
    counts = state.sums.shape[0]
    tail_age, tail, sums = np.empty((n, kept)), np.empty((n, kept, inputs)), np.empty((n, counts, inputs))
    counted = np.zeros((n, 4), dtype=np.int64)
    goes_on = lives.earlier >= 0
    counted[goes_on, READINGS] = state.readings[lives.earlier[goes_on]]
    counted[:, STARTED] = lives.started.view(np.int64)
    live = np.empty(plan.state)
    measured, ages_before, tail_before, sums_before = (
        np.require(a, float, _PASSED) for a in (values, state.tail_age, state.tail, np.swapaxes(state.sums, 0, 1))
    )
    ts, first, length, earlier = (
        np.require(a, np.int64, _PASSED)
        for a in (readings.rows.ts.view(np.int64), lives.first, lives.length, lives.earlier)
    )
    compiled.advance_lives(
        compiled.pointer(plan.numbers, np.uint64, *plan.numbers.shape),
        compiled.pointer(plan.constants, float, *plan.constants.shape),
        compiled.pointer(measured, float, len(readings), len(columns)),
        compiled.pointer(ts, np.int64, len(readings)),
        *(compiled.pointer(a, np.int64, n) for a in (first, length, earlier)),
        n,
        compiled.pointer(ages_before, float, len(state), kept),
        compiled.pointer(tail_before, float, len(state), kept, inputs),
        compiled.pointer(sums_before, float, len(state), counts, inputs),
        compiled.pointer(live, float, plan.state),
        compiled.pointer(counted, np.int64, n, 4),
        compiled.pointer(tail_age, float, n, kept),
        compiled.pointer(tail, float, n, kept, inputs),
        compiled.pointer(sums, float, n, counts, inputs),
        compiled.pointer(matrix, float, len(readings), plan.features),
    )
    after = _checkpoint(
        state,
        readings.rows,
        lives,
        counted[:, READINGS],
        tail_age,
        tail,
        np.swapaxes(sums, 0, 1),
    )
    return Features(readings.rows, feature_names(cls), matrix), after


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
