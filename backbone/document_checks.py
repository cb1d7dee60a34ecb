"""One JSON document against its contract: what the row check is to tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from backbone.contracts import RULE_KINDS, Column, Contract, Severity, part_path, range_text
from backbone.errors import ContractError

_ROUNDING = 1e-9
"""What a figure may lie beyond its range, for being a sum of rounded numbers: areas and shares of exactly 1."""


@dataclass(frozen=True, slots=True)
class DocumentFinding:
    """One thing that stands against a document.

    Attributes:
        rule: which of `RULE_KINDS` it breaks.
        reason: in the row check's words, with the path of the field: `out_of_range:metrics.rmse`.
        said: what is there, and what may be.
    """

    rule: str
    reason: str
    said: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.said})" if self.said else self.reason

    def severity(self, contract: Contract) -> Severity:
        """As the contract says; as is usual for the rule where it does not."""
        stated = contract.rule(self.rule)
        return stated.severity if stated is not None else RULE_KINDS[self.rule].severity


def document_findings(contract: Contract, document: Mapping[str, Any]) -> list[DocumentFinding]:
    """Everything against a document; nothing if it holds.

    Fields that the contract does not know are let through: a later version may have written them. But no number,
    however deep, may be NaN or infinite: JSON has no word for it, and it compares with nothing.
    """
    found = [*_fields(contract.columns, document, ""), *_not_finite(document, "")]
    return list(dict.fromkeys(found))


def require_document(contract: Contract, document: Mapping[str, Any]) -> None:
    """Raises `ContractError` where a document breaks a rule of severity `error`; names every field, with its value
    and its range."""
    found = [f for f in document_findings(contract, document) if f.severity(contract) == "error"]
    if found:
        raise ContractError(
            f"This {contract.product} does not hold the contract {contract.name} {contract.version}: "
            f"{', '.join(map(str, found))}.",
            next_step="Have it made again by a release of the same contract.",
        )


def _fields(columns: tuple[Column, ...], values: Mapping[str, Any], above: str) -> Iterator[DocumentFinding]:
    for column in columns:
        path, value = part_path(above, column.name), values.get(column.name)
        if value is not None:
            yield from _value(column, value, path)
        elif column.required:
            yield DocumentFinding("not_null", f"missing:{path}")


def _value(column: Column, value: Any, path: str) -> Iterator[DocumentFinding]:
    if not _fits(column, value):
        yield DocumentFinding("schema", f"wrong_type:{path}")
    elif _outside(column, value):
        yield DocumentFinding("in_range", f"out_of_range:{path}", f"{value!r}, range {range_text(column)}")
    elif column.allowed and value not in column.allowed:
        yield DocumentFinding("allowed_values", f"not_allowed:{path}", f"{value!r}, one of {', '.join(column.allowed)}")
    elif isinstance(value, Mapping):
        yield from _fields(column.parts, value, path)
    elif isinstance(value, list | tuple):
        for item in column.parts:
            for n, one in enumerate(value):
                yield from _value(item, one, f"{path}[{n}]")
            yield from _together(item, value, path)


def _together(item: Column, values: list[Any] | tuple[Any, ...], path: str) -> Iterator[DocumentFinding]:
    if item.sum_at_most is None or not all(_fits(item, value) for value in values):
        return
    total = math.fsum(values)
    if total > item.sum_at_most + _ROUNDING:
        yield DocumentFinding("in_range", f"out_of_range:{path}", f"sum {total!r}, at most {item.sum_at_most:g}")


def _not_finite(value: object, path: str) -> Iterator[DocumentFinding]:
    """Lists have the name of what they are in."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _not_finite(part, part_path(path, str(name)))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _not_finite(part, path)
    elif isinstance(value, float) and not math.isfinite(value):
        yield DocumentFinding("in_range", f"not_finite:{path}", str(value))


def _fits(column: Column, value: object) -> bool:
    match column.logical_type:
        case "object":
            return isinstance(value, Mapping)
        case "array":
            return isinstance(value, list | tuple)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case kind:
            return _is_time(value, date if kind == "date" else datetime)


def _is_time(value: object, kind: type[date]) -> bool:
    try:
        return isinstance(value, str) and bool(kind.fromisoformat(value))
    except ValueError:
        return False


def _outside(column: Column, value: Any) -> bool:
    """A finite number out of its range; others are told of as such."""
    if column.logical_type not in ("integer", "number") or not math.isfinite(value):
        return False
    low, high, above = column.minimum, column.maximum, column.above
    return (
        (low is not None and value < low - _ROUNDING)
        or (above is not None and value <= above)
        or (high is not None and value > high + _ROUNDING)
    )
