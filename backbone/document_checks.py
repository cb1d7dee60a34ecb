"""One JSON document against its contract: what the row check is to tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from backbone.contracts import Column, Contract
from backbone.errors import ContractError


def document_findings(contract: Contract, document: Mapping[str, Any]) -> list[str]:
    """Every reason against a document, in the row check's words, such as `missing:baseline`; none if it holds.

    Fields that the contract does not know are let through: a later version may have written them.
    """
    found = []
    for column in contract.columns:
        value = document.get(column.name)
        if value is None:
            if column.required:
                found.append(f"missing:{column.name}")
        elif not _fits(column, value):
            found.append(f"wrong_type:{column.name}")
        elif _outside(column, value):
            found.append(f"out_of_range:{column.name}")
        elif column.allowed and value not in column.allowed:
            found.append(f"not_allowed:{column.name}")
    return found


def require_document(contract: Contract, document: Mapping[str, Any]) -> None:
    """Raises `ContractError` where a document does not hold its contract; names every field."""
    found = document_findings(contract, document)
    if found:
        raise ContractError(
            f"This {contract.product} does not hold the contract {contract.name} {contract.version}: "
            f"{', '.join(found)}.",
            next_step="Have it made again by a release of the same contract.",
        )


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
    if column.logical_type not in ("integer", "number"):
        return False
    low, high = column.minimum, column.maximum
    return not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high)
