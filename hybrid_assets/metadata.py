"""What people see of a table in the UI: its columns, its first rows, its pictures."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from backbone.contracts import Contract, column_types, described
from backbone.windows import WindowRange

if TYPE_CHECKING:
    import pyarrow as pa

PREVIEW_ROWS = 8
_LONGEST_CELL = 160
_MARKUP = re.compile(r"[\\|`\[\]<]")
"""What would end a cell, or make a picture or a link of what a sender wrote, which a browser then goes and fetches."""


def column_schema(contract: Contract) -> dg.TableSchema:
    """A contract's columns as Dagster shows them."""
    return dg.TableSchema(
        [
            _shown(column.name, kind, described(column), column.unit, column.required)
            for column, kind in zip(contract.columns, column_types(contract), strict=True)
        ]
    )


@cache
def _shown(name: str, kind: str, description: str, unit: str | None, required: bool) -> dg.TableColumn:
    """Made once: products of a class have most of their columns in common, hundreds of features among them."""
    return dg.TableColumn(
        name,
        kind,
        description=description or None,
        constraints=dg.TableColumnConstraints(nullable=not required),
        tags={"unit": unit} if unit else {},
    )


def preview(
    rows: pa.Table, *, columns: Sequence[str] | None = None, last: bool = False, most: int = PREVIEW_ROWS
) -> dg.MarkdownMetadataValue:
    """The first (or last) few rows as a Markdown table."""
    shown = rows.select(list(columns)) if columns else rows
    shown = shown.slice(max(shown.num_rows - most, 0)) if last else shown.slice(0, most)
    if not shown.num_rows:
        return dg.MetadataValue.md("*no rows*")
    lines = ["| " + " | ".join(shown.column_names) + " |", "|" + "---|" * shown.num_columns]
    lines += ["| " + " | ".join(_cell(v) for v in row.values()) + " |" for row in shown.to_pylist()]
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        # No break inside: the UI wraps cells of wide tables wherever it may.
        return f"{value:%Y-%m-%d\u00a0%H:%M}\u00a0UTC" if value.tzinfo else f"{value:%Y-%m-%d\u00a0%H:%M}"
    text = " ".join(str(value).split())
    if len(text) > _LONGEST_CELL:
        text = f"{text[: _LONGEST_CELL - 1]}…"
    return _MARKUP.sub(r"\\\g<0>", text)


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG that the UI renders in its Markdown dialog."""
    return dg.MetadataValue.md(f"![](data:image/png;base64,{base64.b64encode(png).decode()})")


def figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as people read them: four significant digits; what is no number is left out."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return {name: value if isinstance(value, int) else float(f"{value:.4g}") for name, value in numbers.items()}


def row_counts(rows: pa.Table, windows: WindowRange) -> dict[date, dict[str, Any]]:
    """Each window's number of rows, 0 where it has none, under the name that Dagster plots."""
    counted = rows.group_by("date").aggregate([("date", "count")])
    days = dict(zip(counted["date"].to_pylist(), counted["date_count"].to_pylist(), strict=True))
    return {day: {"dagster/partition_row_count": days.get(day, 0)} for day in windows}


def tally(values: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs, most frequent first."""
    import pyarrow.compute as pc

    counts = {str(v["values"]): int(v["counts"]) for v in pc.value_counts(values).to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
