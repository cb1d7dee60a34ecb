"""Features of one reading at a time: what a gateway asks as telemetry comes in. Arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backbone.errors import IntegrityError
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass
from maintenance.feature_layout import LATEST, LIFE_NUMBER, READINGS, STARTED
from maintenance.feature_plan import feature_plan
from maintenance.feature_state import FeatureState, held_to
from maintenance.features import feature_digest

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator, Sequence

_RESTORED = 64
"""Machines at once: what a checkpoint holds need not be in memory twice."""


class IncrementalFeatures:
    """The live state of many machines; the same arithmetic as `compute_features`, to the last bit.

    Not for several threads at once.

    Args:
        cls: whose features.
        baseline: z-scores are against it.
        state: where the machines stand; None: none was ever seen.

    Raises:
        IntegrityError: the state belongs to another baseline or other features.
    """

    def __init__(self, cls: EquipmentClass, baseline: OperatingBaseline, state: FeatureState | None = None) -> None:
        from maintenance import compiled_kernels

        state = FeatureState.empty(cls, baseline.id) if state is None else held_to(cls, baseline.id, state)
        self._compiled, self._plan = compiled_kernels, feature_plan(cls, baseline)
        self._class, self._baseline = cls, baseline.id
        self._columns = len(cls.contract.inputs) + len(baseline.settings)
        self._slots = {str(name): slot for slot, name in enumerate(state.equipment)}
        machines = max(len(state), 1)
        self._hold(np.zeros((machines, self._plan.state)), np.zeros((machines, 4), dtype=np.int64))
        columns = (state.readings, state.started.view(np.int64), state.latest.view(np.int64), state.life)
        for place, column in zip((READINGS, STARTED, LATEST, LIFE_NUMBER), columns, strict=True):
            self._lives[: len(state), place] = column
        pointer = compiled_kernels.pointer
        for begin in range(0, len(state), _RESTORED):
            some = slice(begin, min(begin + _RESTORED, len(state)))
            many = some.stop - begin
            kept = (state.tail_age[some], state.tail[some], np.swapaxes(state.sums[:, some], 0, 1))
            compiled_kernels.restore(
                self._numbers,
                pointer(self._live[some], float, many, self._plan.state),
                pointer(self._lives[some], np.int64, many, 4),
                many,
                *self._kept(*(np.require(a, float, ["C", "W"]) for a in kept)),
            )

    def _hold(self, live: np.ndarray, lives: np.ndarray) -> None:
        """Keep the machines' states in these arrays, and where they lie."""
        pointer, plan = self._compiled.pointer, self._plan
        self._live, self._lives = live, lives
        self._numbers = pointer(plan.numbers, np.uint64, *plan.numbers.shape)
        self._constants = pointer(plan.constants, float, *plan.constants.shape)
        self._live_at = pointer(live, float, len(lives), plan.state)
        self._lives_at = pointer(lives, np.int64, len(lives), 4)

    def _kept(self, tail_age: np.ndarray, tail: np.ndarray, sums: np.ndarray) -> Iterator[ctypes.c_uint8 | None]:
        """Where the arrays of m machines' checkpoints lie."""
        (rows, inputs), counts = (self._class.features.span - 1, len(self._class.contract.inputs)), sums.shape[1]
        shapes = ((rows,), (rows, inputs), (counts, inputs))
        for array, shape in zip((tail_age, tail, sums), shapes, strict=True):
            yield self._compiled.pointer(array, float, len(sums), *shape)

    @property
    def width(self) -> int:
        """How many features there are; their names are `feature_names(cls)`."""
        return self._plan.features

    @property
    def bytes_per_machine(self) -> int:
        return self._live.itemsize * self._plan.state

    def slot(self, equipment: str) -> int:
        """The machine's place, which `take` is given; a new machine gets one."""
        found = self._slots.get(equipment)
        if found is None:
            found = self._slots[equipment] = len(self._slots)
            machines = len(self._lives)
            if found == machines:
                # Zeros that nobody has written to take no memory.
                live = np.zeros((2 * machines, self._plan.state))
                lives = np.zeros((2 * machines, 4), dtype=np.int64)
                live[:machines], lives[:machines] = self._live, self._lives
                self._hold(live, lives)
        return found

    def take(
        self, slots: np.ndarray, ts_us: np.ndarray, life: np.ndarray, values: np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Take in n readings, in this order, of any machines.

        Args:
            slots: (n,) int64, of each reading's machine.
            ts_us: (n,) int64, microseconds since 1970 in UTC.
            life: (n,) int64, how many maintenance events the machine had before the reading.
            values: (n, inputs + settings) float64, in contract order and units; NaN or infinite where silent.
            out: (n, width) float64 to write to; None: a new array.

        Returns:
            (n, width) features.

        Raises:
            IntegrityError: a reading does not come after its machine's newest; those before it in this call are taken
                in, it and those after it are not.
        """
        if out is None:
            out = np.empty((len(ts_us), self._plan.features))
        n, pointer = len(ts_us), self._compiled.pointer
        taken = self._compiled.advance_readings(
            self._numbers,
            self._constants,
            pointer(values, float, n, self._columns),
            pointer(ts_us, np.int64, n),
            pointer(life, np.int64, n),
            pointer(slots, np.int64, n),
            n,
            self._live_at,
            self._lives_at,
            pointer(out, float, n, self._plan.features),
        )
        if taken < len(ts_us):
            name = next(n for n, slot in self._slots.items() if slot == slots[taken])
            raise IntegrityError(
                f"Reading {taken} of {name} does not come after its newest.",
                next_step="Leave duplicates out; for late readings, start from a checkpoint of an earlier window.",
            )
        return out

    def machines(self) -> list[str]:
        """Those of which there were readings, by name."""
        return sorted(name for name, slot in self._slots.items() if self._lives[slot, READINGS])

    def checkpoint(self, machines: Sequence[str] | None = None) -> FeatureState:
        """Where machines stand, for the next window or the next process.

        Args:
            machines: some of `machines()`, in that order; None: all of them.
        """
        empty = FeatureState.empty(self._class, self._baseline)
        names = self.machines() if machines is None else machines
        slots = np.array([self._slots[name] for name in names], dtype=np.int64)
        tail_age = np.empty((len(names), *empty.tail_age.shape[1:]))
        tail = np.empty((len(names), *empty.tail.shape[1:]))
        sums = np.empty((len(names), empty.sums.shape[0], empty.sums.shape[2]))
        at = self._compiled.pointer(slots, np.int64, len(names))
        self._compiled.checkpoint(
            self._numbers, self._live_at, self._lives_at, at, len(names), *self._kept(tail_age, tail, sums)
        )
        lives = self._lives[slots]
        return FeatureState(
            self._baseline,
            feature_digest(self._class),
            equipment=np.array(names, dtype=object),
            life=lives[:, LIFE_NUMBER].copy(),
            readings=lives[:, READINGS].copy(),
            started=lives[:, STARTED].copy().view("datetime64[us]"),
            latest=lives[:, LATEST].copy().view("datetime64[us]"),
            tail_age=tail_age,
            tail=tail,
            sums=np.ascontiguousarray(np.swapaxes(sums, 0, 1)),
        )
