"""What a model learns from: features of those rows that its question can learn from, each with its remaining life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maintenance.equipment_class import EquipmentClass
from maintenance.features import AGE, Features
from maintenance.metrics import RunsToFailure
from maintenance.question import question_of
from maintenance.readings import MaintenanceHistory, Rows, rows_from_arrow

if TYPE_CHECKING:
    import pyarrow as pa

_KEYS = ("equipment_id", "ts", "life", "rul")


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """n labelled rows. `X` is (n, len(names)) float32, `rul` (n,) capped, in RUL units.

    For remaining life they are of whole lives that ended in failure. Other questions also take rows of lives of which
    it is only known how long they lasted at least: then `rul` is that.
    """

    rows: Rows
    names: tuple[str, ...]
    X: np.ndarray
    rul: np.ndarray

    def __len__(self) -> int:
        return len(self.rul)

    @property
    def lives(self) -> int:
        """How many lives the rows are of."""
        return len(self.rows.starts)

    @property
    def features(self) -> Features:
        """The same rows as features, for the rules."""
        return Features(self.rows, self.names, self.X)

    @property
    def runs(self) -> RunsToFailure:
        """The same rows as policies see them; for whole lives that ended in failure."""
        return RunsToFailure(self.rows.starts, self.X[:, self.names.index(AGE.name)].astype(float), self.rul)

    def take(self, index: np.ndarray) -> TrainingSet:
        """Some of the rows, by mask or rising index; whole machines, if lives are to stay whole."""
        return TrainingSet(self.rows.take(index), self.names, self.X[index], self.rul[index])

    def to_arrow(self) -> pa.Table:
        """Columns `equipment_id`, `ts`, `life`, `rul`, then one float32 column a feature."""
        import pyarrow as pa  # who only asks a model, as a gateway does, has no use for its 30 MB

        keys = [
            pa.array(self.rows.equipment, pa.string()),
            pa.array(self.rows.ts).cast(pa.timestamp("us", tz="UTC")),
            pa.array(self.rows.life, pa.int64()),
            pa.array(self.rul, pa.float64()),
        ]
        features = [pa.array(np.ascontiguousarray(self.X[:, j])) for j in range(len(self.names))]
        return pa.Table.from_arrays(keys + features, names=[*_KEYS, *self.names])


def training_set(cls: EquipmentClass, features: Features, history: MaintenanceHistory) -> TrainingSet:
    """The rows that the class's question can learn from."""
    rul = question_of(cls).labels(features.rows, history)
    kept = np.flatnonzero(~np.isnan(rul))
    return TrainingSet(features.rows.take(kept), features.names, features.matrix[kept].astype(np.float32), rul[kept])


def training_set_from_arrow(table: pa.Table) -> TrainingSet:
    """The inverse of `TrainingSet.to_arrow`; rows in any order."""
    table = table.combine_chunks().sort_by([("equipment_id", "ascending"), ("ts", "ascending")])
    names = tuple(n for n in table.column_names if n not in _KEYS)
    X = np.empty((table.num_rows, len(names)), dtype=np.float32)
    for j, name in enumerate(names):
        X[:, j] = table[name].to_numpy()
    return TrainingSet(rows_from_arrow(table), names, X, table["rul"].to_numpy())
