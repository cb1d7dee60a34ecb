"""What a data product promises: columns, units, ranges, keys, and which columns a model may see.

A contract is written in the Open Data Contract Standard (ODCS 3, https://bitol.io). The file is read
and validated against the standard by `resources.catalog`; here its document gets its meaning, with
the enumerations the standard leaves open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from backbone.errors import ContractError

LOGICAL_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
}
"""ODCS logical types that telemetry may use, and the Arrow type each is stored as."""

UNITS = frozenset(
    """
    1 % A Hz K Pa R V W bar cycle d degC deg g h kPa kW m m/s m3/h mm mm/s psia pps rpm s lbm/s
    """.split()
)
"""Unit symbols a contract may use (SI and its customary companions; `1` is dimensionless)."""

ROLES = ("key", "input", "setting", "context")
"""`input`: a model may learn from it; `setting`: it defines the operating regime; `context`: for people."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a data product.

    `minimum` and `maximum` are inclusive, in `unit`; None leaves that side open.
    """

    name: str
    logical_type: str
    unit: str | None = None
    role: str = "context"
    required: bool = False
    key: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()
    description: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Custom properties this module gives no meaning to, such as `component`."""

    @property
    def arrow_type(self) -> pa.DataType:
        return LOGICAL_TYPES[self.logical_type]


@dataclass(frozen=True, slots=True)
class Contract:
    """One data product's promise. `settings` are its custom properties: what the use case adds to it."""

    name: str
    version: str
    description: str
    owner: str
    columns: tuple[Column, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that together identify a row, in order."""
        return tuple(c.name for c in self.columns if c.key)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Sensors a model may learn from, in contract order."""
        return self.with_role("input")

    def with_role(self, role: str) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.role == role)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns as they are stored; units ride along as field metadata."""
        return pa.schema(
            pa.field(c.name, c.arrow_type, metadata={"unit": c.unit} if c.unit else None) for c in self.columns
        )


def contract_from_odcs(document: Mapping[str, Any]) -> Contract:
    """Give a validated ODCS document its meaning.

    Args:
        document: the YAML document; its first schema object is the data product.

    Raises:
        ContractError: an unknown unit, role or type, a range upside down, no key, or a column twice;
            the message names the contract, the column and the valid values.
    """
    name = document.get("name") or document["id"]
    objects = document.get("schema") or []
    if not objects:
        raise ContractError(f"Contract {name} has no schema.", next_step="Add one schema object with its columns.")
    columns = tuple(_column(name, p) for p in objects[0].get("properties") or [])
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            raise ContractError(
                f"Contract {name} has the column {column.name!r} twice.", next_step="Remove or rename one of them."
            )
        seen.add(column.name)
    if not any(c.key for c in columns):
        raise ContractError(
            f"Contract {name} has no key, so duplicates cannot be told apart.",
            next_step="Mark the identifying columns with `primaryKey: true`.",
        )
    team = document.get("team") or {}
    return Contract(
        name=name,
        version=str(document["version"]),
        description=((document.get("description") or {}).get("purpose") or "").strip(),
        owner=(team.get("name") if isinstance(team, Mapping) else None) or "unassigned",
        columns=columns,
        settings=_custom(document),
    )


def _custom(element: Mapping[str, Any]) -> dict[str, Any]:
    return {p["property"]: p["value"] for p in element.get("customProperties") or []}


def _column(contract: str, prop: Mapping[str, Any]) -> Column:
    custom = _custom(prop)
    options = prop.get("logicalTypeOptions") or {}
    key = bool(prop.get("primaryKey"))
    column = Column(
        name=prop["name"],
        logical_type=prop.get("logicalType") or "",
        unit=custom.pop("unit", None),
        role=custom.pop("role", "key" if key else "context"),
        required=bool(prop.get("required")) or key,
        key=key,
        minimum=options.get("minimum"),
        maximum=options.get("maximum"),
        allowed=tuple(str(e["value"]) for e in prop.get("enum") or []),
        description=(prop.get("description") or "").strip(),
        attributes=custom,
    )
    _choice(contract, column, "logicalType", column.logical_type, LOGICAL_TYPES)
    _choice(contract, column, "role", column.role, ROLES)
    if column.unit is not None:
        _choice(contract, column, "unit", column.unit, sorted(UNITS))
    if column.role in ("input", "setting") and column.unit is None:
        raise ContractError(
            f"Contract {contract}, column {column.name!r}: a {column.role} needs a unit.",
            next_step="Add the custom property `unit` ('1' if it is dimensionless).",
        )
    if column.minimum is not None and column.maximum is not None and column.minimum > column.maximum:
        raise ContractError(
            f"Contract {contract}, column {column.name!r}: minimum {column.minimum} lies above "
            f"maximum {column.maximum}.",
            next_step="Swap them.",
        )
    return column


def _choice(contract: str, column: Column, what: str, value: str, valid: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in valid:
        raise ContractError(
            f"Contract {contract}, column {column.name!r}: {value!r} is no {what} we know.",
            next_step=f"Use one of: {', '.join(valid)}.",
        )
