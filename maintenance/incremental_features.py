"""Features of one reading at a time: what a gateway asks as telemetry comes in. Arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backbone.errors import IntegrityError
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass
from maintenance.feature_state import FeatureState, held_to
from maintenance.features import feature_digest

if TYPE_CHECKING:
    from collections.abc import Sequence


class IncrementalFeatures:
    """The live state of many machines; the same arithmetic as `compute_features`, to the last bit.

    The first one of a process imports Numba and loads compiled code: half a second. Not for several threads at once.

    Args:
        cls: whose features.
        baseline: z-scores are against it.
        state: where the machines stand; None: none was ever seen.

    Raises:
        IntegrityError: the state belongs to another baseline or other features.
    """

    def __init__(self, cls: EquipmentClass, baseline: OperatingBaseline, state: FeatureState | None = None) -> None:
        from maintenance import feature_kernel
        from maintenance.feature_plan import feature_plan

        state = FeatureState.empty(cls, baseline.id) if state is None else held_to(cls, baseline.id, state)
        self._kernel, self._plan = feature_kernel, feature_plan(cls, baseline)
        self._class, self._baseline = cls, baseline.id
        tail_age, tail, sums = (
            np.require(a, float, ["C", "W"]) for a in (state.tail_age, state.tail, np.swapaxes(state.sums, 0, 1))
        )
        self._slots = {str(name): slot for slot, name in enumerate(state.equipment)}
        self._live = np.zeros(max(len(state), 1) * self._plan.state)
        self._lives = np.zeros((max(len(state), 1), 4), dtype=np.int64)
        columns = (state.readings, state.started.view(np.int64), state.latest.view(np.int64), state.life)
        for place, column in enumerate(columns):
            self._lives[: len(state), place] = column
        for slot in range(len(state)):
            feature_kernel.restore(
                self._plan.numbers,
                self._live,
                np.uint64(slot * self._plan.state),
                state.readings[slot],
                tail_age[slot],
                tail[slot],
                sums[slot],
            )

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
            if found == len(self._lives):
                self._live = np.concatenate((self._live, np.zeros_like(self._live)))
                self._lives = np.concatenate((self._lives, np.zeros_like(self._lives)))
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
        taken = self._kernel.advance_readings(
            *self._plan.shared, values, ts_us, life, slots, self._plan.state, self._live, self._lives, out.reshape(-1)
        )
        if taken < len(ts_us):
            name = next(n for n, slot in self._slots.items() if slot == slots[taken])
            raise IntegrityError(
                f"Reading {taken} of {name} does not come after its newest.",
                next_step="Leave duplicates out; for late readings, start from a checkpoint of an earlier window.",
            )
        return out

    def checkpoint(self) -> FeatureState:
        """Where every machine stands, for the next window or the next process."""
        empty = FeatureState.empty(self._class, self._baseline)
        seen = [(n, s) for n, s in sorted(self._slots.items()) if self._lives[s, self._kernel.READINGS]]
        names: Sequence[str] = [n for n, _ in seen]
        slots = np.array([s for _, s in seen], dtype=np.int64)
        tail_age = np.empty((len(seen), *empty.tail_age.shape[1:]))
        tail = np.empty((len(seen), *empty.tail.shape[1:]))
        sums = np.empty((len(seen), empty.sums.shape[0], empty.sums.shape[2]))
        for i, slot in enumerate(slots):
            self._kernel.checkpoint(
                self._plan.numbers,
                self._live,
                np.uint64(slot * self._plan.state),
                self._lives[slot, 0],
                tail_age[i],
                tail[i],
                sums[i],
            )
        lives = self._lives[slots]
        return FeatureState(
            self._baseline,
            feature_digest(self._class),
            equipment=np.array(names, dtype=object),
            life=lives[:, self._kernel.LIFE_NUMBER].copy(),
            readings=lives[:, self._kernel.READINGS].copy(),
            started=lives[:, self._kernel.STARTED].copy().view("datetime64[us]"),
            latest=lives[:, self._kernel.LATEST].copy().view("datetime64[us]"),
            tail_age=tail_age,
            tail=tail,
            sums=np.ascontiguousarray(np.swapaxes(sums, 0, 1)),
        )
