"""Features as tables: one row a reading, one float32 column a feature."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from backbone.errors import IntegrityError
from maintenance.equipment_class import EquipmentClass
from maintenance.features import Features, feature_names
from maintenance.readings import rows_from_arrow
from resources.stores.tables import DATE

_ROW_FIELDS = (
    pa.field("equipment_id", pa.string()),
    pa.field("ts", pa.timestamp("us", tz="UTC")),
    pa.field("life", pa.int64()),
    pa.field("baseline", pa.string()),
)


def feature_schema(cls: EquipmentClass) -> pa.Schema:
    """The machine, the moment, its life, the baseline's id, then the features."""
    return pa.schema([*_ROW_FIELDS, *(pa.field(name, pa.float32()) for name in feature_names(cls))])


def features_to_arrow(features: Features, baseline_id: str) -> pa.Table:
    """Rows in `feature_schema`, and each row's `date`."""
    rows = features.rows
    columns = {
        "equipment_id": pa.array(rows.equipment, pa.string()),
        "ts": pa.array(rows.ts).cast(pa.timestamp("us", tz="UTC")),
        "life": pa.array(rows.life),
        "baseline": pa.repeat(pa.scalar(baseline_id), len(rows)),
        DATE: pa.array(rows.ts.astype("datetime64[D]")),
    }
    matrix = np.asfortranarray(features.matrix, dtype=np.float32)
    return pa.table(columns | {name: pa.array(matrix[:, j]) for j, name in enumerate(features.names)})


def features_from_arrow(
    cls: EquipmentClass, table: pa.Table, *, dtype: type[np.float32 | np.float64] = np.float64
) -> Features:
    """The inverse of `features_to_arrow`; rows are put in order, by machine, then time.

    Args:
        dtype: of the matrix; float32, as they are stored, is what models take without copying it.

    Raises:
        IntegrityError: a feature of the class is not in the table.
    """
    names = feature_names(cls)
    absent = [name for name in names if name not in table.column_names]
    if absent:
        raise IntegrityError(
            f"{len(absent)} features of {cls.name} are missing, {absent[0]} first.",
            next_step="The class changed since they were made: materialize them again.",
        )
    table = table.sort_by([("equipment_id", "ascending"), ("ts", "ascending")]).combine_chunks()
    matrix = np.empty((table.num_rows, len(names)), dtype)
    for column, name in enumerate(names):
        matrix[:, column] = table[name].to_numpy()
    return Features(rows_from_arrow(table), names, matrix)
