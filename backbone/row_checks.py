"""Rows against their contract: decode at the door, check in the window. Whole columns at a time.

Nothing is dropped here. A row that cannot be taken as it is keeps its text and gets a *defect*, a short
reason such as `missing:ts` or `out_of_range:flow_m3_h`, which sends it to quarantine later.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backbone.contracts import Column, Contract
from backbone.errors import ContractError

DEFECT, RAW = "defect", "raw"
"""Columns that decoding adds: why a row cannot be used as sent, and what was sent (JSON), else null."""

_LARGEST = 1 << 62
"""Up to here the columns of a key fit into one number."""


def landed_schema(contract: Contract) -> pa.Schema:
    """The contract's columns, followed by `defect` and `raw`."""
    return pa.schema([*contract.arrow_schema, pa.field(DEFECT, pa.string()), pa.field(RAW, pa.string())])


def decode(contract: Contract, sent: pa.Table) -> pa.Table:
    """Turn rows as they were sent into the contract's types.

    Args:
        sent: any columns in any types; columns the contract does not know are left out.

    Returns:
        `landed_schema(contract)`, same number and order of rows. NaN becomes null; a time without a zone
        is UTC. A value that does not fit its type becomes null, and its row gets the defect
        `wrong_type:<column>` and the raw row.

    Raises:
        ContractError: a required column is absent altogether: that is a wrong schema, not a bad row.
    """
    absent = [c.name for c in contract.columns if c.required and c.name not in sent.column_names]
    if absent:
        raise ContractError(
            f"wrong schema: {', '.join(absent)} missing; got {', '.join(sent.column_names) or 'no columns'}",
            next_step=f"Send the columns of contract {contract.name} {contract.version}.",
        )
    findings = _Findings(None, sent.num_rows)
    columns: list[pa.Array] = []
    for column in contract.columns:
        if column.name not in sent.column_names:
            columns.append(pa.nulls(sent.num_rows, column.arrow_type))
            continue
        values, failed = _cast(sent[column.name], column)
        columns.append(values)
        findings.mark(pa.array(failed), f"wrong_type:{column.name}")
    bad = np.flatnonzero(findings.codes)
    raw = np.full(sent.num_rows, None, dtype=object)
    for index, row in zip(bad, sent.take(pa.array(bad)).to_pylist(), strict=True):
        raw[index] = json.dumps(row, default=str)
    columns += [findings.reasons(), pa.array(raw, pa.string())]
    return pa.Table.from_arrays(columns, schema=landed_schema(contract))


def _cast(values: pa.ChunkedArray, column: Column) -> tuple[pa.Array, np.ndarray]:
    """The column in its contract's type, and where a value was there but did not fit."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string(array.type) and not (column.required and column.logical_type == "string"):
        array = pc.if_else(pc.equal(pc.utf8_trim_whitespace(array), ""), None, array)
    target = column.arrow_type
    if pa.types.is_timestamp(target) and pa.types.is_timestamp(array.type) and array.type.tz is None:
        array = pc.assume_timezone(array.cast(pa.timestamp("us"), safe=False), "UTC")
    if pa.types.is_timestamp(target) and pa.types.is_string(array.type):
        zoned = pc.match_substring_regex(array, r"(Z|[+-]\d{2}:?\d{2})$")
        array = pc.if_else(zoned, array, pc.binary_join_element_wise(array, "Z", ""))
    try:
        cast = array.cast(target)
        failed = np.zeros(len(array), bool)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        cast = pa.array([_one(v, target) for v in array.to_pylist()], target)
        failed = pc.and_(pc.is_valid(array), pc.is_null(cast)).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(target):
        cast = pc.if_else(pc.is_nan(cast), None, cast)
    return cast, failed


def _one(value: object, target: pa.DataType) -> Any:
    try:
        return pa.scalar(value).cast(target).as_py() if value is not None else None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
        return None


def row_check(contract: Contract) -> Callable[[pa.Table, date, date], pa.Array]:
    """Compile a contract into a check of decoded rows.

    Returns:
        A function of rows in `landed_schema`, or as they are stored, without `defect` and `raw`, and of the first
        and the last day they may belong to. It gives one reason a row, or null where the row holds the contract:
        the decoding defect if there is one, then `missing:`, `out_of_range:` or `not_allowed:` and the column,
        `outside_window`, and last `duplicate` or `conflicting_duplicate` for all but the first row of a key.
    """

    def check(rows: pa.Table, first: date, last: date) -> pa.Array:
        findings = _Findings(rows[DEFECT] if DEFECT in rows.column_names else None, rows.num_rows)
        keys: list[np.ndarray] = []
        for column in contract.columns:
            values = rows[column.name].combine_chunks()
            if column.required and values.null_count:
                findings.mark(pc.is_null(values), f"missing:{column.name}")
            if column.key:
                key = values.dictionary_encode() if pa.types.is_string(values.type) else values
                keys.append(_numbers(key.indices if key is not values else key))
                if key is not values:
                    blank = pc.equal(pc.utf8_trim_whitespace(key.dictionary), "")
                    if pc.any(blank).as_py():
                        findings.mark(blank.take(key.indices), f"missing:{column.name}")
            if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
                findings.mark_present(values, _outside(_numbers(values), column), f"out_of_range:{column.name}")
            if column.allowed:
                permitted = pc.is_in(values, pa.array(column.allowed, values.type))
                findings.mark(pc.and_(pc.is_valid(values), pc.invert(permitted)), f"not_allowed:{column.name}")
        for column in contract.columns:
            if column.key and column.logical_type == "timestamp":
                values = rows[column.name].combine_chunks()
                begin, end = (_microseconds(day) for day in (first, last + timedelta(days=1)))
                ts = _numbers(values)
                findings.mark_present(values, (ts < begin) | (ts >= end), "outside_window")
        _mark_duplicates(contract, keys, rows, findings)
        return findings.reasons()

    return check


def _numbers(values: pa.Array) -> np.ndarray:
    """The array's own memory as numbers; anything where it is null."""
    kind = pa.int64() if pa.types.is_timestamp(values.type) else values.type
    if pa.types.is_date32(kind):
        kind = pa.int32()
    if not pa.types.is_integer(kind) and not pa.types.is_floating(kind):
        return pc.fill_null(values.cast(pa.int8()), 0).to_numpy(zero_copy_only=False)
    buffer = values.buffers()[1]
    if buffer is None:
        return np.zeros(len(values), kind.to_pandas_dtype())
    found: np.ndarray = np.frombuffer(buffer, kind.to_pandas_dtype())[values.offset : values.offset + len(values)]
    return found


def _outside(values: np.ndarray, column: Column) -> np.ndarray | None:
    """Where a value is out of range; None where the column has none. Without an end, infinity is out of range."""
    open_ended = values.dtype.kind == "f" and None in (column.minimum, column.maximum)
    low = column.minimum if column.minimum is not None or not open_ended else np.finfo(values.dtype).min
    high = column.maximum if column.maximum is not None or not open_ended else np.finfo(values.dtype).max
    if low is None:
        return None if high is None else values > high
    return values < low if high is None else (values < low) | (values > high)


def _microseconds(day: date) -> int:
    return (day - date(1970, 1, 1)) // timedelta(microseconds=1)


class _Findings:
    """One reason a row: the first that is found is the one people mend first."""

    def __init__(self, defects: pa.ChunkedArray | None, rows: int) -> None:
        self._texts: list[str | None] = [None]
        self.codes = np.zeros(rows, np.int32)
        if defects is not None and defects.null_count < rows:
            encoded = defects.combine_chunks().dictionary_encode()
            self._texts += encoded.dictionary.to_pylist()
            self.codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32) + 1

    def mark(self, condition: pa.Array, text: str) -> None:
        if pc.any(condition).as_py():
            where = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
            self.mark_rows(np.flatnonzero(where & (self.codes == 0)), text)

    def mark_present(self, values: pa.Array, where: np.ndarray | None, text: str) -> None:
        """Mark where a condition holds of a value that is there."""
        if where is None:
            return
        rows = np.flatnonzero(where)
        if len(rows) and values.null_count:
            rows = rows[values.is_valid().to_numpy(zero_copy_only=False)[rows]]
        self.mark_rows(rows[self.codes[rows] == 0], text)

    def mark_rows(self, rows: np.ndarray, text: str) -> None:
        if not len(rows):
            return
        self._texts.append(text)
        self.codes[rows] = len(self._texts) - 1

    def reasons(self) -> pa.Array:
        return pa.array(self._texts, pa.string()).take(pa.array(self.codes))


def _mark_duplicates(contract: Contract, keys: list[np.ndarray], rows: pa.Table, findings: _Findings) -> None:
    good = np.flatnonzero(findings.codes == 0)
    good = good[_repeated([key[good] for key in keys])]
    if not len(good):
        return
    keys = [key[good] for key in keys]
    order = np.lexsort(keys)  # stable: of equal keys, the row that came first stays first
    same = np.ones(len(good) - 1, bool)
    for key in keys:
        same &= key[order][1:] == key[order][:-1]
    starts = np.flatnonzero(np.concatenate(([True], ~same)))
    first = good[order[np.repeat(starts, np.diff(np.append(starts, len(good))))]]
    again, kept = good[order][1:][same], first[1:][same]
    payload = rows.select([c.name for c in contract.columns if not c.key])
    pairs = zip(payload.take(pa.array(again)).to_pylist(), payload.take(pa.array(kept)).to_pylist(), strict=True)
    equal = np.array([one == other for one, other in pairs], bool)
    findings.mark_rows(again[equal], "duplicate")
    findings.mark_rows(again[~equal], "conflicting_duplicate")


def _repeated(keys: list[np.ndarray]) -> np.ndarray:
    """Rows whose key may be there more than once: none, as a rule, which sorting one number a row finds out fast."""
    rows = len(keys[0]) if keys else 0
    if rows < 2:
        return np.zeros(0, np.intp)
    joint, span = np.zeros(rows, np.int64), 1
    for key in keys:
        if key.dtype.kind == "f":
            return np.arange(rows)
        low, high = int(key.min()), int(key.max())
        span *= high - low + 1
        if span > _LARGEST:
            return np.arange(rows)
        joint = joint * (high - low + 1) + (key.astype(np.int64) - low)
    ordered = np.sort(joint)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.flatnonzero(np.isin(joint, twice)) if len(twice) else np.zeros(0, np.intp)
