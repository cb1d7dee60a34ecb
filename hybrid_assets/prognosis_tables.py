"""Prognoses as tables: one row a machine and window, from its newest reading."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from maintenance.prognosis import Prognoses
from maintenance.readings import Rows, rows_from_arrow
from resources.stores.tables import DATE

WHO = (pa.field("equipment_id", pa.string()), pa.field("ts", pa.timestamp("us", tz="UTC")))
ANSWER_SCHEMA = pa.schema(
    [
        *WHO,
        ("rul", pa.float64()),
        ("rul_low", pa.float64()),
        ("rul_high", pa.float64()),
        ("driver", pa.string()),
        ("driven", pa.float64()),
        ("abstained", pa.string()),
        ("act_below", pa.float64()),
    ]
)
"""What one release answers."""
PROGNOSIS_SCHEMA = pa.schema(
    [
        *ANSWER_SCHEMA,
        ("release", pa.int64()),
        ("passed_over", pa.string()),
        ("location", pa.string()),
        (DATE, pa.date32()),
    ]
)
"""`release` is the version that answered, None where none did; `passed_over` says why a newer one did not."""


def answer_to_arrow(prognoses: Prognoses) -> pa.Table:
    """Rows in `ANSWER_SCHEMA`."""
    return pa.table(
        {
            **who(prognoses.rows),
            "rul": pa.array(prognoses.rul, from_pandas=True),
            "rul_low": pa.array(prognoses.low, from_pandas=True),
            "rul_high": pa.array(prognoses.high, from_pandas=True),
            "driver": pa.array(prognoses.driver.tolist(), pa.string()),
            "driven": pa.array(prognoses.driven, from_pandas=True),
            "abstained": pa.array(prognoses.abstained.tolist(), pa.string()),
            "act_below": pa.array(prognoses.act_below, from_pandas=True),
        },
        schema=ANSWER_SCHEMA,
    )


def prognoses_from_arrow(table: pa.Table) -> Prognoses:
    """The inverse of `answer_to_arrow`, the rows in the order they are in."""
    return Prognoses(
        rows=rows_from_arrow(table),
        rul=numbers(table, "rul"),
        low=numbers(table, "rul_low"),
        high=numbers(table, "rul_high"),
        driver=texts(table, "driver"),
        driven=numbers(table, "driven"),
        abstained=texts(table, "abstained"),
        act_below=numbers(table, "act_below"),
    )


def who(rows: Rows) -> dict[str, pa.Array]:
    """The columns that say which machine, and when."""
    return {
        "equipment_id": pa.array(rows.equipment.tolist(), pa.string()),
        "ts": pa.array(rows.ts).cast(pa.timestamp("us", tz="UTC")),
    }


def days(rows: Rows) -> pa.Array:
    return pa.array(rows.ts.astype("datetime64[D]"))


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column, NaN where it has no value."""
    return table[name].to_numpy().astype(float)


def texts(table: pa.Table, name: str) -> np.ndarray:
    """A column, None where it has no value."""
    return np.array(table[name].to_pylist(), dtype=object)
