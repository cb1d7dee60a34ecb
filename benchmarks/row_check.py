"""The compiled row check against hand-written NumPy for the same rules, 100,000 rows of the turbofan contract."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from backbone.row_checks import decode, row_check
from benchmarks.measure import Benchmark, interleaved, line
from resources.catalog.contracts import SHIPPED, SUFFIX, read_contract

ROWS = 100_000


def _rows() -> Iterator[str]:
    contract = read_contract(SHIPPED / f"turbofan{SUFFIX}")
    random = np.random.default_rng(7)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    columns: dict[str, object] = {
        "equipment_id": [f"e{i % 100:03d}" for i in range(ROWS)],
        "ts": [start + timedelta(seconds=i // 100) for i in range(ROWS)],
    }
    bounded = [c for c in contract.columns if c.minimum is not None and c.logical_type == "number"]
    for column in bounded:
        assert column.minimum is not None
        assert column.maximum is not None
        columns[column.name] = random.uniform(column.minimum, column.maximum * 1.0001, ROWS)
    columns["cycle"] = np.arange(1, ROWS + 1) % 300 + 1
    rows = decode(contract, pa.table(columns))
    check = row_check(contract)
    day = start.date()
    arrays = {c.name: rows[c.name].to_numpy() for c in bounded}
    ts = rows["ts"].to_numpy()

    def by_hand() -> np.ndarray:
        bad = np.zeros(ROWS, bool)
        for column in bounded:
            values = arrays[column.name]
            bad |= (values < column.minimum) | (values > column.maximum) | ~np.isfinite(values)
        bad |= ts.astype("datetime64[D]") != np.datetime64(day)
        equipment = rows["equipment_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        order = np.lexsort((ts, equipment))
        same = (equipment[order][1:] == equipment[order][:-1]) & (ts[order][1:] == ts[order][:-1])
        bad[order[1:][same]] = True
        return bad

    ours, peer = interleaved(lambda: check(rows, day, day), by_hand)
    yield line(f"row check, {ROWS:,} × {len(contract.columns)} / NumPy by hand", ours, peer, "≤ 3×")


SPEC = Benchmark("row_check", _rows)
