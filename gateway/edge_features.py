"""Live features of one fleet: warm from a checkpoint, brought up to date by each reading that comes in its turn."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from gateway import reasons
from gateway.exchange import FleetState, MaintenanceEvents
from maintenance.baseline import OperatingBaseline
from maintenance.features import Features, feature_names
from maintenance.incremental_features import IncrementalFeatures
from maintenance.readings import Rows

if TYPE_CHECKING:
    from gateway.decoding import Reading
    from maintenance.equipment_class import EquipmentClass


_NEVER = -(1 << 62)
_MOMENT = np.dtype("datetime64[us]")
_machine_and_time = attrgetter("equipment", "ts_us")
_A_PART = 128
"""Machines whose state is copied at once: a millisecond, two megabytes."""


class EdgeFeatures:
    """Where a fleet's machines stand, against one baseline.

    Args:
        state: where they stood, and what maintenance has been done.
        columns: what `Reading.values` has.

    Raises:
        IntegrityError: the baseline or the checkpoint is none of this class's.
    """

    def __init__(self, cls: EquipmentClass, state: FleetState, columns: Sequence[str]) -> None:
        from maintenance.feature_state import FeatureState

        wanted = (*cls.contract.inputs, *cls.contract.with_role("setting"))
        at = [columns.index(name) for name in wanted]
        self._pick: Callable[[Sequence[Any]], Sequence[Any]] = (
            itemgetter(*at) if len(at) > 1 else lambda values: [values[at[0]]]
        )
        self.baseline_json = state.baseline
        self.baseline = OperatingBaseline.from_json(state.baseline)
        self.baseline_id = self.baseline.id
        """Kept: it is a digest of all of it."""
        held = None if state.checkpoint is None else FeatureState(**state.checkpoint)
        self._live = IncrementalFeatures(cls, self.baseline, held)
        self._names = feature_names(cls)
        self._latest: dict[str, int] = {}
        if held is not None:
            moments = held.latest.astype("datetime64[us]").view(np.int64).tolist()
            self._latest = dict(zip(held.equipment.tolist(), moments, strict=True))
        self._window = state.window
        self.late = state.late
        """Readings that came after later ones of their machine, and are in no live feature."""
        self.know(state.events)

    def know(self, events: MaintenanceEvents) -> None:
        """Take what maintenance has been done; readings after an event are of the machine's next life."""
        self._events: Mapping[str, list[int]] = {name: when.tolist() for name, when in events.of().items()}
        self._told = events

    @property
    def events(self) -> MaintenanceEvents:
        """What `know` was given last."""
        return self._told

    @property
    def machines(self) -> Iterable[str]:
        """Those that anything is known of."""
        return self._latest

    def take(self, readings: Sequence[Reading], *, again: bool = False) -> tuple[Features, list[Reading]] | None:
        """Take readings in, and give their features, sorted as `Rows` are, with whose they are; None: of no reading.

        Readings that do not come after their machine's newest change nothing: the graph computes their window again,
        and the next checkpoint holds them. Nor do those from ahead of the clock, after which all others would be late.

        Args:
            again: they may have been taken in before, so that what is not new is not late.
        """
        newest = self._latest
        own: list[Reading] = []
        for reading in sorted(readings, key=_machine_and_time) if len(readings) > 1 else readings:
            if reading.flags and reasons.AHEAD_OF_CLOCK in reading.flags:
                continue
            if reading.ts_us > newest.get(reading.equipment, _NEVER):
                newest[reading.equipment] = reading.ts_us
                own.append(reading)
            elif not again:
                self.late += 1
        if not own:
            return None
        names: list[str] = []
        places: list[int] = []
        slots: list[int] = []
        lives: list[int] = []
        for reading in own:
            name = reading.equipment
            if not names or name != names[-1]:
                names.append(name)
                slot, events = self._live.slot(name), self._events.get(name, ())
            places.append(len(names) - 1)
            slots.append(slot)
            lives.append(bisect.bisect_left(events, reading.ts_us) if events else 0)
        ts, life = np.array([reading.ts_us for reading in own], np.int64), np.array(lives, np.int64)
        values = np.array([self._pick(reading.values) for reading in own], float)
        matrix = self._live.take(np.array(slots, np.int64), ts, life, values)
        rows = Rows(np.array(names, dtype=object), np.array(places, np.intp), ts.view(_MOMENT), life)
        return Features(rows, self._names, matrix), own

    def checkpoint(self, fleet: str) -> Iterator[FleetState]:
        """Where the machines stand, for the next process, some of them after the other; each where it stands when its
        part is asked for."""
        machines = self._live.machines()  # what others are sent meanwhile comes after what this is to hold
        for at in range(0, max(len(machines), 1), _A_PART):
            held = self._live.checkpoint(machines[at : at + _A_PART])
            fields = {name: getattr(held, name) for name in held.__slots__}
            yield FleetState(fleet, self.baseline_json, self._window or "live", fields, self._told, late=self.late)


def cold(fleet: str, baseline: str) -> FleetState:
    """Of a fleet none of whose machines was ever seen."""
    nothing = MaintenanceEvents(np.array([], dtype=object), np.array([], "datetime64[us]"))
    return FleetState(fleet, baseline, None, None, nothing)
