"""Readings as arrays: which machine, when, in which of its lives, and what the sensors said.

Arrow is imported where tables become arrays: a gateway, which has none, does without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maintenance.equipment_class import EquipmentClass

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class MaintenanceHistory:
    """What ended machines' lives, by machine: when (rising, UTC) and whether it was a failure."""

    ts: Mapping[str, np.ndarray]
    failed: Mapping[str, np.ndarray]


def history_from_arrow(events: pa.Table) -> MaintenanceHistory:
    """The maintenance data product (`equipment_id`, `ts`, `event`) as a history.

    Args:
        events: all events of the machines, in any order; a life's number counts them from the first on.
    """
    import pyarrow.compute as pc

    events = events.sort_by([("equipment_id", "ascending"), ("ts", "ascending")])
    names = np.array(events["equipment_id"].to_pylist(), dtype=object)
    ts, failed = _timestamps(events["ts"]), pc.equal(events["event"], "failure").to_numpy().astype(bool)
    machines, starts = np.unique(names, return_index=True) if len(names) else (names, np.array([], dtype=int))
    bounds = [*starts.tolist(), len(names)]
    parts = {str(m): slice(a, b) for m, a, b in zip(machines, bounds[:-1], bounds[1:], strict=True)}
    return MaintenanceHistory(
        ts={m: ts[part] for m, part in parts.items()}, failed={m: failed[part] for m, part in parts.items()}
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """Which machine, when, in which life: n rows, sorted by machine, then time.

    Attributes:
        machines: (m,) names, sorted, each once.
        machine: (n,) index into `machines`.
        ts: (n,) datetime64[us], UTC.
        life: (n,) how many maintenance events the machine had before the reading.
    """

    machines: np.ndarray
    machine: np.ndarray
    ts: np.ndarray
    life: np.ndarray

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def equipment(self) -> np.ndarray:
        """(n,) machine names."""
        return self.machines[self.machine]

    @property
    def starts(self) -> np.ndarray:
        """First row of each life, rising."""
        if not len(self):
            return np.array([], dtype=np.intp)
        new = (np.diff(self.machine) != 0) | (np.diff(self.life) != 0)
        return np.concatenate(([0], np.flatnonzero(new) + 1))

    @property
    def ends(self) -> np.ndarray:
        """One past the last row of each life."""
        starts = self.starts
        return np.append(starts[1:], len(self)) if len(starts) else starts

    @property
    def number(self) -> np.ndarray:
        """(n,) which of the lives in these rows each row is of, counted from 0 in row order."""
        starts = self.starts
        return np.repeat(np.arange(len(starts)), self.ends - starts)

    @property
    def latest(self) -> np.ndarray:
        """Last row of each machine, in the order of `machines` that have rows."""
        if not len(self):
            return np.array([], dtype=np.intp)
        return np.concatenate((np.flatnonzero(np.diff(self.machine)), [len(self) - 1]))

    def take(self, index: np.ndarray) -> Rows:
        """Some of the rows, by mask or rising index."""
        return Rows(self.machines, self.machine[index], self.ts[index], self.life[index])


def no_rows() -> Rows:
    """Of no machine."""
    none = np.array([], dtype=np.intp)
    return Rows(np.array([], dtype=object), none, np.array([], dtype="datetime64[us]"), np.array([], dtype=np.int64))


def rows_from_arrow(table: pa.Table) -> Rows:
    """Rows of a stored table with `equipment_id`, `ts` and, where it has one, `life`; in the table's own order."""
    encoded = table["equipment_id"].combine_chunks().dictionary_encode()
    names = np.array(encoded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names.astype(str), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    life = table["life"].to_numpy() if "life" in table.column_names else np.zeros(table.num_rows, dtype=np.int64)
    return Rows(names[order], place[encoded.indices.to_numpy()].astype(np.intp), _timestamps(table["ts"]), life)


@dataclass(frozen=True, slots=True)
class Readings:
    """n readings. `values` is (n, len(columns)) float64, NaN where a sensor was silent, in the contract's units."""

    rows: Rows
    columns: tuple[str, ...]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, columns: tuple[str, ...]) -> np.ndarray:
        """(n, len(columns)) values of some columns."""
        return self.values[:, [self.columns.index(c) for c in columns]]

    def take(self, index: np.ndarray) -> Readings:
        """Some of the readings, by mask or rising index."""
        return Readings(self.rows.take(index), self.columns, self.values[index])


def readings_from_arrow(cls: EquipmentClass, telemetry: pa.Table, history: MaintenanceHistory) -> Readings:
    """Telemetry that passed its contract, as arrays: the class's inputs, then its settings.

    Args:
        telemetry: in any order; (`equipment_id`, `ts`) occurs once. Infinite values count as absent.
        history: of the same machines, from the first event on, whatever window the telemetry is of.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = cls.contract.inputs + cls.contract.with_role("setting")
    telemetry = telemetry.select(["equipment_id", "ts", *columns]).combine_chunks()
    telemetry = telemetry.sort_by([("equipment_id", "ascending"), ("ts", "ascending")])
    values = np.empty((telemetry.num_rows, len(columns)))
    for j, column in enumerate(columns):
        values[:, j] = telemetry[column].cast(pa.float64()).to_numpy()
    values[np.isinf(values)] = np.nan
    encoded = pc.dictionary_encode(telemetry["equipment_id"].combine_chunks())
    # Rows are sorted, so the dictionary, in order of appearance, is sorted too.
    machines = np.array(encoded.dictionary.to_pylist(), dtype=object)
    machine = encoded.indices.to_numpy().astype(np.intp)
    ts = _timestamps(telemetry["ts"])
    return Readings(Rows(machines, machine, ts, _lives(machines, machine, ts, history)), columns, values)


def _timestamps(column: pa.ChunkedArray) -> np.ndarray:
    import pyarrow as pa

    return column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy().astype("datetime64[us]")


def _lives(machines: np.ndarray, machine: np.ndarray, ts: np.ndarray, history: MaintenanceHistory) -> np.ndarray:
    life = np.zeros(len(ts), dtype=np.int64)
    bounds = np.searchsorted(machine, np.arange(len(machines) + 1))
    for index, name in enumerate(machines):
        if name in history.ts:
            part = slice(bounds[index], bounds[index + 1])
            # A reading at the very instant of a failure still belongs to the life that fails.
            life[part] = np.searchsorted(history.ts[name], ts[part], side="left")
    return life
