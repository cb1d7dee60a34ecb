"""File formats: bytes in, rows out, with each line that cannot be read kept apart instead of lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from backbone.contracts import Contract

_EXCERPT = 80
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a text file that gives no row: its number from 1, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's rows as sent, and its bad lines."""

    rows: pa.Table
    bad: tuple[BadLine, ...] = ()


class UnreadableError(Exception):
    """The file as a whole gives no rows; the text says why, in words for the person who dropped it."""


def read_parquet(content: bytes, contract: Contract) -> Parsed:  # noqa: ARG001 - all readers look alike
    """Apache Parquet."""
    try:
        rows = pq.read_table(BytesIO(content), page_checksum_verification=True)
        rows.validate(full=True)
        rows.column_names  # noqa: B018 - raises where a name is no text
        return Parsed(rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"not a complete Parquet file ({_short(error)})") from error


def read_csv(content: bytes, contract: Contract) -> Parsed:
    """Comma-separated values with a header, UTF-8. A quoted field may not run over several lines."""
    kept: list[tuple[int, bytes]] = []
    bad: list[BadLine] = []
    for number, line in enumerate(content.splitlines(), start=1):
        if defect := _csv_defect(line):
            if not kept:
                raise UnreadableError(f"the header line cannot be read: {defect}")
            bad.append(BadLine(number, defect))
        elif line.strip():
            kept.append((number, line))

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        number, line = kept[row.number - 1]
        reason = f"{row.actual_columns} fields instead of {row.expected_columns} in {_excerpt(line)}"
        bad.append(BadLine(number, reason))
        return "skip"

    texts = {c.name: pa.string() for c in contract.columns if c.logical_type == "string"}
    try:
        rows = pyarrow.csv.read_csv(
            BytesIO(b"".join(line + b"\n" for _, line in kept)),
            # Row numbers are only known to one thread.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=skip),
            # Inference would turn the equipment "007" into the number 7.
            convert_options=pyarrow.csv.ConvertOptions(column_types=texts),
        )
    except pa.ArrowException as error:
        raise UnreadableError(f"not a CSV file ({_short(error)})") from error
    return Parsed(rows, tuple(sorted(bad, key=lambda b: b.number)))


def _csv_defect(line: bytes) -> str | None:
    if line.count(b'"') % 2:
        # It would swallow every line after it.
        return f"unmatched quote in {_excerpt(line)}"
    try:
        line.decode()
    except UnicodeDecodeError:
        return f"not UTF-8: {_excerpt(line)}"
    return None


def read_json_lines(content: bytes, contract: Contract) -> Parsed:  # noqa: ARG001 - all readers look alike
    """One JSON object a line, UTF-8.

    Read by the standard library: Arrow's reader (26.0) ends the process on a line that says `null`.
    """
    objects: list[dict[str, Any]] = []
    bad: list[BadLine] = []
    for number, line in enumerate(content.removeprefix(_BYTE_ORDER_MARK).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            bad.append(BadLine(number, f"no complete JSON in {_excerpt(line)}"))
            continue
        if isinstance(value, dict):
            objects.append(value)
        else:
            bad.append(BadLine(number, f"no JSON object but {_excerpt(line)}"))
    names = list(dict.fromkeys(name for o in objects for name in o))
    try:
        rows = pa.table({name: _column([o.get(name) for o in objects]) for name in names})
    except UnicodeEncodeError as error:
        raise UnreadableError("a key is no text: it holds half a surrogate pair") from error
    return Parsed(rows, tuple(bad))


def _column(values: list[Any]) -> pa.Array:
    """A column of one type; where the values have several, each as its own text, to be told apart row by row."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        texts = [v if isinstance(v, str) or v is None else json.dumps(v) for v in values]
        # A lone surrogate is valid JSON, but no text.
        return pa.array([t and t.encode("utf-8", "replace").decode() for t in texts], pa.string())


READERS: dict[str, Callable[[bytes, Contract], Parsed]] = {
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json_lines,
}
"""File name ending → reader."""


def _excerpt(line: bytes) -> str:
    text = line[:_EXCERPT].decode("utf-8", "replace")
    return repr(text + ("…" if len(line) > _EXCERPT else ""))


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0][:200].rstrip(".")
