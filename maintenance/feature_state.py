"""The checkpoint between two windows: what the features of the next reading need of all readings before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backbone.errors import IntegrityError
from maintenance.equipment_class import EquipmentClass
from maintenance.features import feature_digest

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "moments-1"
"""What `tail` and `sums` hold; a checkpoint of another format is refused, and features start over."""


@dataclass(frozen=True, slots=True)
class FeatureState:
    """m machines' checkpoints, by name.

    Attributes:
        baseline: id of the baseline the z-scores are against.
        features: digest of the features they are for.
        equipment: (m,) names, sorted.
        life: (m,) the life each machine was in.
        readings: (m,) how many readings that life has had; trailing windows' blocks are counted from its first.
        started, latest: (m,) datetime64[us], that life's first and newest reading.
        tail_age: (m, span - 1) ages of the newest readings, oldest first; NaN before the life began.
        tail: (m, span - 1, inputs) their z-scores.
        sums: (8 + 2a, m, inputs), what is counted since the life began, by the rows that `feature_kernel` names.
    """

    baseline: str
    features: str
    equipment: np.ndarray
    life: np.ndarray
    readings: np.ndarray
    started: np.ndarray
    latest: np.ndarray
    tail_age: np.ndarray
    tail: np.ndarray
    sums: np.ndarray

    def __len__(self) -> int:
        return len(self.equipment)

    @classmethod
    def empty(cls, of: EquipmentClass, baseline: str) -> FeatureState:
        """No machine was ever seen."""
        rows, inputs = of.features.span - 1, len(of.contract.inputs)
        moments = np.array([], dtype="datetime64[us]")
        return cls(
            baseline,
            feature_digest(of),
            equipment=np.array([], dtype=object),
            life=np.array([], dtype=np.int64),
            readings=np.array([], dtype=np.int64),
            started=moments,
            latest=moments,
            tail_age=np.empty((0, rows)),
            tail=np.empty((0, rows, inputs)),
            sums=np.empty((8 + 2 * len(of.features.averages), 0, inputs)),
        )

    def to_arrow(self) -> pa.Table:
        """One row an equipment, in `state_schema()`."""
        import pyarrow as pa

        m = len(self)
        sums = np.swapaxes(self.sums, 0, 1).reshape(m, self.sums.shape[0] * self.sums.shape[2])
        columns = [
            _texts(self.equipment.tolist()),
            _texts([self.baseline] * m),
            _texts([_named(self.features)] * m),
            _numbers(self.life, pa.int64()),
            _numbers(self.started, pa.timestamp("us", tz="UTC")),
            _numbers(self.latest, pa.timestamp("us", tz="UTC")),
            _lists(self.tail_age),
            _lists(self.tail.reshape(m, self.tail.shape[1] * self.tail.shape[2])),
            _lists(sums),
            _numbers(self.readings, pa.int64()),
        ]
        return pa.Table.from_arrays(columns, schema=state_schema())

    @classmethod
    def from_arrow(cls, of: EquipmentClass, baseline: str, table: pa.Table) -> FeatureState:
        """The inverse of `to_arrow`; the arrays of numbers are the table's own and cannot be written to.

        Raises:
            IntegrityError: the checkpoint was taken against another baseline or for other features.
        """
        import pyarrow as pa

        empty = cls.empty(of, baseline)
        if not table.num_rows:
            return empty
        for what, column, expected in (
            ("baseline", "baseline", empty.baseline),
            ("set or format of features", "features", _named(empty.features)),
        ):
            found = set(table[column].to_pylist())
            if found != {expected}:
                raise IntegrityError(
                    f"The {of.name} checkpoint belongs to another {what} ({', '.join(sorted(map(str, found)))}).",
                    next_step="Compute the features again from the first window.",
                )
        names = table["equipment_id"].to_pylist()
        if names != sorted(names):
            table, names = table.sort_by("equipment_id"), sorted(names)
        m = table.num_rows
        rows, inputs = empty.tail.shape[1:]
        return cls(
            empty.baseline,
            empty.features,
            equipment=np.array(names, dtype=object),
            life=_array(table["life"], (m,)),
            readings=_array(table["readings"], (m,)),
            started=_array(table["started"].cast(pa.int64()), (m,)).view("datetime64[us]"),
            latest=_array(table["latest"].cast(pa.int64()), (m,)).view("datetime64[us]"),
            tail_age=_array(table["tail_age"], (m, rows)),
            tail=_array(table["tail"], (m, rows, inputs)),
            sums=np.ascontiguousarray(np.swapaxes(_array(table["sums"], (m, empty.sums.shape[0], inputs)), 0, 1)),
        )


def state_schema() -> pa.Schema:
    """One row an equipment; arrays are flattened row by row. `features` names the features and the format."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("equipment_id", pa.string(), nullable=False),
            pa.field("baseline", pa.string(), nullable=False),
            pa.field("features", pa.string(), nullable=False),
            pa.field("life", pa.int64(), nullable=False),
            pa.field("started", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("latest", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("tail_age", pa.list_(pa.float64())),
            pa.field("tail", pa.list_(pa.float64())),
            pa.field("sums", pa.list_(pa.float64())),
            # Nullable, so that Delta can add it to a table of an earlier format.
            pa.field("readings", pa.int64()),
        ]
    )


def held_to(of: EquipmentClass, baseline: str, state: FeatureState) -> FeatureState:
    """The state, if it was taken against this baseline for these features.

    Raises:
        IntegrityError: it was not.
    """
    for what, found, expected in (
        ("baseline", state.baseline, baseline),
        ("features", state.features, feature_digest(of)),
    ):
        if found != expected:
            raise IntegrityError(
                f"The {of.name} checkpoint was taken against {what} {found}, not {expected}.",
                next_step="Compute the features again from the first window.",
            )
    return state


def _named(features: str) -> str:
    return f"{features} {FORMAT}"


# A gateway needs no Arrow, and nobody pandas, which Arrow's own ways from and to NumPy import: 45 MB each.


def _numbers(values: np.ndarray, of: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return pa.Array.from_buffers(of, values.size, [None, pa.py_buffer(np.ascontiguousarray(values).view(np.int64))])


def _texts(values: list[str]) -> pa.Array:
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def _lists(values: np.ndarray) -> pa.Array:
    import pyarrow as pa

    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
    return pa.ListArray.from_buffers(
        pa.list_(pa.float64()),
        len(values),
        [None, pa.py_buffer(offsets)],
        children=[_numbers(values.reshape(-1), pa.float64())],
    )


def _array(column: pa.ChunkedArray, shape: tuple[int, ...]) -> np.ndarray:
    import pyarrow as pa

    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values = np.from_dlpack(array.flatten() if pa.types.is_nested(array.type) else array)
    if values.size != np.prod(shape):
        raise IntegrityError(
            f"A checkpoint holds {values.size} numbers where {np.prod(shape)} belong.",
            next_step="Compute the features again from the first window.",
        )
    return values.reshape(shape)
