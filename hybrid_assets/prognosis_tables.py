"""Prognoses as tables: one row a machine and window, from its newest reading."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from maintenance.equipment_class import EquipmentClass
from maintenance.prognosis import Prognoses
from maintenance.question import question_spec
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
"""What one release answers to the question for a remaining life."""
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
ACT_ABOVE = "act_above"


def risk_columns(cls: EquipmentClass) -> tuple[str, ...]:
    """What the class's question adds to an answer: the risk it asks for, and when to act; empty for remaining life."""
    risk = question_spec(cls).risk
    return () if risk is None else (risk, ACT_ABOVE)


def answer_schema(cls: EquipmentClass) -> pa.Schema:
    """What one release of a class answers."""
    return _with_risk(ANSWER_SCHEMA, cls)


def prognosis_schema(cls: EquipmentClass) -> pa.Schema:
    """`PROGNOSIS_SCHEMA`, and the columns of the class's question."""
    return _with_risk(PROGNOSIS_SCHEMA, cls)


def _with_risk(schema: pa.Schema, cls: EquipmentClass) -> pa.Schema:
    return pa.schema([*schema, *((name, pa.float64()) for name in risk_columns(cls))])


def answer_to_arrow(cls: EquipmentClass, prognoses: Prognoses) -> pa.Table:
    """Rows in `answer_schema`."""
    risk = zip(risk_columns(cls), (prognoses.risk, prognoses.act_above), strict=False)
    return pa.table(
        {
            **{name: pa.array(values, from_pandas=True) for name, values in risk},
            **who(prognoses.rows),
            "rul": pa.array(prognoses.rul, from_pandas=True),
            "rul_low": pa.array(prognoses.low, from_pandas=True),
            "rul_high": pa.array(prognoses.high, from_pandas=True),
            "driver": pa.array(prognoses.driver.tolist(), pa.string()),
            "driven": pa.array(prognoses.driven, from_pandas=True),
            "abstained": pa.array(prognoses.abstained.tolist(), pa.string()),
            "act_below": pa.array(prognoses.act_below, from_pandas=True),
        },
        schema=answer_schema(cls),
    )


def prognoses_from_arrow(cls: EquipmentClass, table: pa.Table) -> Prognoses:
    """The inverse of `answer_to_arrow`, the rows in the order they are in."""
    risk, act_above = (numbers(table, name) for name in risk_columns(cls)) if risk_columns(cls) else (None, None)
    return Prognoses(
        risk=risk,
        act_above=act_above,
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
