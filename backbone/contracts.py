"""What a data product promises: columns, units, ranges, keys, what is checked of each window, and service levels.

A contract is written in the Open Data Contract Standard (ODCS 3, https://bitol.io). Its file is read and held against
the standard by `resources.catalog`; `backbone.odcs` gives the document its meaning, with the enumerations below,
which the standard leaves open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from backbone.requirements import Classification

if TYPE_CHECKING:
    import pyarrow as pa

Severity = Literal["error", "warning"]
"""Of a failed check of a window: `error` keeps what depends on the window from running, `warning` only tells."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

DIMENSIONS = ("accuracy", "completeness", "conformity", "consistency", "coverage", "timeliness", "uniqueness")
"""ODCS's dimensions of data quality."""

ARROW_TYPES: dict[str, dict[str, str]] = {
    "string": {"string": "string"},
    "timestamp": {"timestamp": "timestamp[us, tz=UTC]"},
    "date": {"date": "date32[day]"},
    "number": {"double": "double", "float": "float"},
    "integer": {"long": "int64", "integer": "int32", "short": "int16", "byte": "int8"},
    "boolean": {"boolean": "bool"},
}
"""ODCS logical type → physical types in Delta's words → what Arrow calls each; the first one is the default.

Names, and no Arrow types: whoever only reads contracts, as the definitions do, need not load Arrow.
"""

DOCUMENT_TYPES = ("object", "array")
"""Logical types that only a field of a document (JSON) may have; Arrow holds them as JSON text."""

UNITS = frozenset(
    """
    1 % A Hz K Pa R V W bar cycle d degC deg g h kPa kW m m/s m3/h mm mm/s psia pps rpm s lbm/s rul currency
    """.split()
)
"""Unit symbols a contract may use (SI and its customary companions; `1` is dimensionless).

`rul` and `currency` stand for those of the equipment class the product is of.
"""

PRODUCTS = (
    "telemetry", "telemetry_quarantine", "dead_letters", "maintenance_history", "operating_baseline",
    "condition_features", "training_set", "trained_model", "model_evaluation", "model_release", "prognoses",
    "rule_assessments", "advisories", "maintenance_plan",
)  # fmt: skip
"""Data products there are, in the order they follow from each other; one beside another has a name of its own."""

ROLES = ("key", "input", "setting", "context")
"""`input`: a model may learn from it; `setting`: it defines the operating regime; `context`: for people."""

STATUSES = ("proposed", "draft", "active", "deprecated", "retired")
"""ODCS's examples of a contract's status, taken as all there are."""

CLASS_BOUNDS = ("cap",)
"""Bounds that are the equipment class's own: `cap`, of the remaining useful life its labels are cut to."""

ITEM = "[]"
"""Name of the part of a list that says what each of its items is."""

DERIVED = ("features",)
"""Columns that follow from the equipment class: a contract names the kind, the use case puts them in."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a data product.

    `minimum` and `maximum` are inclusive, in `unit`, `above` is not; None leaves that side open. Only fields of
    documents have `above`, `sum_at_most` and `parts`.
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
    physical_type: str | None = None
    """One of `ARROW_TYPES` of the logical type; None: its default."""
    classification: Classification | None = None
    """Where it differs from the product's."""
    deprecated: bool = False
    """Readers were told to do without it."""
    above: float | None = None
    maximum_from: str | None = None
    """One of `CLASS_BOUNDS`, which the equipment class puts in as `maximum`."""
    sum_at_most: float | None = None
    """Of the item of a list: what all of them together may be."""
    parts: tuple[Column, ...] = ()
    """Of an object, the fields that are known of it; of a list one, by the name `ITEM`. Others are let through."""

    @property
    def ranged(self) -> bool:
        """Whether a value may be out of its range."""
        limits = (self.minimum, self.maximum, self.above, self.maximum_from, self.sum_at_most)
        return any(limit is not None for limit in limits)

    @property
    def arrow_name(self) -> str:
        """What Arrow calls the type it is stored under."""
        if self.logical_type in DOCUMENT_TYPES:
            return "string"
        types = ARROW_TYPES[self.logical_type]
        return types[self.physical_type] if self.physical_type else next(iter(types.values()))

    @property
    def arrow_type(self) -> pa.DataType:
        import pyarrow as pa

        # Arrow has no alias for the one with a time zone.
        return pa.timestamp("us", tz="UTC") if self.logical_type == "timestamp" else pa.type_for_alias(self.arrow_name)


@dataclass(frozen=True, slots=True)
class RuleKind:
    """What can be asked of a window. `severity` holds where a contract does not say."""

    dimension: str
    severity: Severity
    description: str


RULE_KINDS: Mapping[str, RuleKind] = {
    "schema": RuleKind("conformity", "error", "The stored columns and their types are the contract's."),
    "not_null": RuleKind("completeness", "error", "Every required column has a value in every row."),
    "in_range": RuleKind("accuracy", "error", "Every value lies within its column's range."),
    "allowed_values": RuleKind("conformity", "error", "Every value is one of those its column allows."),
    "unique": RuleKind("uniqueness", "error", "No two rows have the same key."),
    "completeness": RuleKind("completeness", "warning", "Every machine sent its share of the readings it should."),
    "freshness": RuleKind("timeliness", "warning", "The newest row came within the promised latency."),
    "stuck_sensors": RuleKind("accuracy", "warning", "No sensor repeats one value for longer than it may."),
    "rising": RuleKind(
        "consistency", "warning", "What counts a machine's use rises from reading to reading of a life."
    ),
    "drift": RuleKind("accuracy", "warning", "Values are distributed as in the training set."),
    "sane": RuleKind("consistency", "error", "A prognosis lies within its interval, and both between 0 and the cap."),
    "answerable": RuleKind("accuracy", "warning", "No machine's readings are such that a model cannot be asked."),
    "reconciliation": RuleKind("consistency", "error", "Rows accepted = rows stored + rows quarantined."),
}
"""Every check of a window there is, by its name."""


@dataclass(frozen=True, slots=True)
class WindowRule:
    """One check of a window.

    `parameters` by kind (all others have none):

    - `in_range`: `least_share`, of rows that must hold
    - `completeness`: `least_share` (from the service level) of `readings_per_day`, for each machine
    - `freshness`: `within_s`, seconds (from the service level `latency`)
    - `stuck_sensors`: `longest_run`, the most readings in a row in which an input may repeat one value
    - `drift`: `psi_above`, the population stability index that is too much
    """

    kind: str
    severity: Severity
    dimension: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Contract:
    """One data product's promise. `settings` are its custom properties: what the use case adds to it."""

    name: str
    version: str
    description: str
    owner: str
    columns: tuple[Column, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    product: str = "telemetry"
    """Name of the asset."""
    document: bool = False
    """It is one JSON document, its columns that document's fields; else it is a table."""
    derived: str | None = None
    """One of `DERIVED`, whose columns follow those of the contract."""
    rules: tuple[WindowRule, ...] = ()
    """What is checked of each window, at most one of a kind."""
    classification: Classification = "internal"
    """The highest of its columns."""
    retention_days: int | None = None
    latency_s: float | None = None
    """From the end of what a row tells to the row being there."""
    completeness: float | None = None
    """Least share of the expected rows."""
    limitations: str = ""
    """What it is not, for people."""
    status: str = "active"
    """One of `STATUSES`."""
    supersedes: str | None = None
    """Id of the contract that this one stands beside, to take its place."""
    migration: str | None = None
    """What readers of that one do."""
    inputs: tuple[str, ...] = field(init=False, compare=False, repr=False)
    """Sensors a model may learn from, in contract order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", self.with_role("input"))  # asked for with every answer

    def __getitem__(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that together identify a row, in order."""
        return tuple(c.name for c in self.columns if c.key)

    @property
    def counters(self) -> tuple[str, ...]:
        """Columns that count a machine's use, such as its cycles: whole numbers that no model looks at."""
        return tuple(c.name for c in self.columns if c.logical_type == "integer" and c.role == "context" and c.required)

    def with_role(self, role: str) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.role == role)

    def rule(self, kind: str) -> WindowRule | None:
        """The rule of a kind; None where the contract has none."""
        return next((rule for rule in self.rules if rule.kind == kind), None)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns as they are stored; units ride along as field metadata."""
        import pyarrow as pa

        return pa.schema(
            pa.field(c.name, c.arrow_type, metadata={"unit": c.unit} if c.unit else None) for c in self.columns
        )


def schema_fields(contract: Contract) -> list[dict[str, str]]:
    """The columns as OpenLineage's schema facet has them: `name`, `type` and, with unit and range, `description`."""
    found = []
    for column, kind in zip(contract.columns, column_types(contract), strict=True):
        entry = {"name": column.name, "type": kind}
        if text := described(column):
            entry["description"] = text
        found.append(entry)
    return found


def column_types(contract: Contract) -> list[str]:
    """Every column's type by the name it is stored under: Arrow's, or `object` and `array` in a document."""
    return [column_type(column) for column in contract.columns]


def column_type(column: Column) -> str:
    """A column's type by the name it is stored under."""
    return column.logical_type if column.logical_type in DOCUMENT_TYPES else column.arrow_name


def with_parts(columns: Iterable[Column], above: str = "") -> Iterator[tuple[str, Column]]:
    """Columns and what they are made of, however deep, each by its path: `metrics`, `metrics.rmse`, `shares[]`."""
    for column in columns:
        path = part_path(above, column.name)
        yield path, column
        yield from with_parts(column.parts, path)


def part_path(above: str, name: str) -> str:
    """The path of a part of what lies at `above`."""
    return f"{above}.{name}" if above and name != ITEM else f"{above}{name}"


def range_text(column: Column) -> str:
    """The range in words, such as `0 to 1`, `0 to …` or `above 0`; empty where there is none."""
    high = None if column.maximum is None else f"{column.maximum:g}"
    if high is None and column.maximum_from is not None:
        high = f"the {column.maximum_from} of the class"
    said = []
    if column.above is not None:
        said.append(f"above {column.above:g}" + (f", at most {high}" if high else ""))
    elif column.minimum is not None or high is not None:
        said.append(f"{'…' if column.minimum is None else f'{column.minimum:g}'} to {high or '…'}")
    if column.sum_at_most is not None:
        said.append(f"together at most {column.sum_at_most:g}")
    return ", ".join(said)


def described(column: Column) -> str:
    """A column in words: what it is, its unit, its range, its values."""
    said = [column.description]
    if column.unit and column.unit != "1":
        said.append(f"In {column.unit}.")
    if column.ranged:
        said.append(f"Range {range_text(column)}.")
    if column.allowed:
        said.append(f"One of: {', '.join(column.allowed)}.")
    return " ".join(f"{part.rstrip('.')}." for part in said if part)
