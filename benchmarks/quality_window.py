"""A window's expectations: our way through Great Expectations, its own way, and the same rules in Polars.

40 expectations on 25 columns (25 ranges, 15 not-null), all of which hold, as of nearly every window they do.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.measure import Benchmark, line, paired
from quality.requests import Batch, Expectation
from quality.validation import validate, warm_up
from quality.warm import WarmValidator

COLUMNS, NOT_NULL = 25, 15
LOW, HIGH = -15.0, 15.0
WINDOWS = 31


def _table(rows: int, windows: int = 1) -> pa.Table:
    random = np.random.default_rng(11)
    days = [date(2025, 1, 1) + timedelta(days=n * windows // rows) for n in range(rows)]
    columns = {f"c{i}": random.normal(size=rows) for i in range(COLUMNS)}
    return pa.table({"date": pa.array(days, pa.date32()), **columns})


def _expectations() -> list[Expectation]:
    names = [f"c{i}" for i in range(COLUMNS)]
    between, not_null = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"
    bounds = {"min_value": LOW, "max_value": HIGH}
    return [
        *(Expectation(between, {"column": n, **bounds}, "in_range", n) for n in names),
        *(Expectation(not_null, {"column": n}, "not_null", n) for n in names[:NOT_NULL]),
    ]


def _ours(rows: pa.Table) -> Callable[[], object]:
    batch = Batch("window", rows, _expectations())

    def work() -> None:
        outcomes = validate([batch])
        assert len(outcomes) == COLUMNS + NOT_NULL
        assert all(o.status == "passed" for o in outcomes)

    return work


def _asked_of_a_worker(rows: pa.Table, validator: WarmValidator) -> Callable[[], object]:
    batch = Batch("window", rows, _expectations())

    def work() -> None:
        found = validator.validate([batch])
        assert found.by == "worker", found.why
        assert all(o.status == "passed" for o in found.outcomes)

    return work


def _polars(rows: pa.Table) -> Callable[[], object]:
    import polars as pl

    def work() -> None:
        # From Arrow, as ours: what a window is read as.
        frame = pl.from_arrow(rows)
        assert isinstance(frame, pl.DataFrame)
        wrong = [(~pl.col(f"c{i}").is_between(LOW, HIGH)).sum().alias(f"r{i}") for i in range(COLUMNS)]
        missing = [pl.col(f"c{i}").is_null().sum().alias(f"n{i}") for i in range(NOT_NULL)]
        found = frame.lazy().group_by("date").agg(*wrong, *missing).collect()
        assert found.drop("date").sum().transpose().to_series().sum() == 0

    return work


def _own_way(rows: pa.Table) -> Callable[[], object]:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    made = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    implementation = gx.expectations.registry.get_expectation_impl
    suite = gx.ExpectationSuite(name="s", expectations=[implementation(e.type)(**e.kwargs) for e in _expectations()])

    def work() -> None:
        result = made.get_batch({"dataframe": rows.to_pandas()}).validate(suite, result_format="BASIC")
        assert result.success

    return work


def _rows() -> Iterator[str]:
    warm_up()
    small = _table(10_000)
    _, (ours, peer) = _threads(_ours(small), _own_way(small))
    yield line("window, 10,000 × 25, 40 expectations / Great Expectations' own way, CPU", ours, peer, "")
    for rows in (10_000, 100_000, 1_000_000):
        table = _table(rows)
        (wall, wall_peer), _ = _threads(_ours(table), _polars(table))
        yield line(f"window, {rows:,} × 25, 40 expectations / Polars", wall, wall_peer, "near")
    month = _table(WINDOWS * 10_000, WINDOWS)
    (wall, wall_peer), _ = _threads(_ours(month), _polars(month))
    what = f"a window of {WINDOWS} judged at once, 10,000 × 25 each / Polars"
    yield line(what, wall / WINDOWS, wall_peer / WINDOWS, "near")
    folder = Path(tempfile.mkdtemp(prefix="hybrid-benchmark-"))
    try:
        validator = WarmValidator(folder)
        validator.start()
        (wall, wall_peer), _ = _threads(_asked_of_a_worker(small, validator), _polars(small))
        yield line("the first, asked of the warm worker / Polars", wall, wall_peer, "")
    finally:
        shutil.rmtree(folder)  # the worker ends with its folder


def _threads(ours: Callable[[], object], peer: Callable[[], object]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median wall seconds of each, and median seconds of a processor."""
    wall, thread = paired(ours, peer)
    return (wall.ours_s, wall.peer_s), (thread.ours_s, thread.peer_s)


SPEC = Benchmark("quality_window", _rows)
