"""Batches are held to their expectations by Great Expectations.

Its own way, `Batch.validate(suite)`, makes each expectation's configuration anew thousands of times, asks for its
metrics three times, and costs 0.2 to 0.3 s for 40 expectations, however few the rows. Here, through the same
expectations, metrics and engine:

- an expectation is made once and remembers its configuration and the metrics it needs (subclasses that override a
  property and a method that are public);
- the graph of metrics of a suite is built once and resolved for every batch of it;
- several windows are one batch, and only whether all rows hold is asked at first; what fails is asked about again,
  that alone, with its rows.

Great Expectations is imported when the first batch comes: 3 to 5 CPU-seconds.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from quality.requests import SAMPLE_ROWS, WINDOW, Batch, Expectation, Outcome

if TYPE_CHECKING:
    import pandas as pd

_SUITES_KEPT = 64
_LONGEST_ERROR = 500
_ASK, _DETAILS = "BOOLEAN_ONLY", "COMPLETE"


def validate(batches: Sequence[Batch]) -> list[Outcome]:
    """Hold every batch to its expectations.

    An expectation that raises is an error of its own; the others are not touched. One that holds for all rows of a
    batch holds for each of its windows. A batch without rows holds.
    """
    return [outcome for batch in batches for outcome in _validated(batch)]


def warm_up() -> None:
    """Import what validation needs, and evaluate something, so that the first batch does not pay for it."""
    rows = pa.table({WINDOW: pa.array([0], pa.int32()).cast(pa.date32()), "n": [1.0]})
    bounds = {"column": "n", "min_value": 0}
    validate([Batch("warm-up", rows, [Expectation("expect_column_values_to_be_between", bounds, "in_range", "n")])])


def _validated(batch: Batch) -> list[Outcome]:
    if not batch.rows.num_rows:
        return [Outcome(batch.name, e, "passed") for e in batch.expectations]
    frame = _frame(batch.rows)
    days = batch.rows[WINDOW].combine_chunks()
    outcomes: list[Outcome] = []
    failed: list[Expectation] = []
    for expectation, result in _results(frame, batch.expectations, _ASK):
        if isinstance(result, str):
            outcomes.append(Outcome(batch.name, expectation, "error", error=result))
        elif result["success"]:
            outcomes.append(Outcome(batch.name, expectation, "passed"))
        else:
            failed.append(expectation)
    for expectation, result in _results(frame, failed, _DETAILS) if failed else ():
        if isinstance(result, str):
            outcomes.append(Outcome(batch.name, expectation, "error", error=result))
        else:
            outcomes.append(_failed(batch.name, expectation, result["positions"], days))
    return outcomes


def _failed(batch: str, expectation: Expectation, positions: Sequence[int], days: pa.Array) -> Outcome:
    """The rows that fail, by window; without any, all windows do."""
    at = np.asarray(positions, dtype=np.int64)
    if not len(at):
        at = np.arange(len(days))
    codes = days.cast(pa.int32()).to_numpy(zero_copy_only=False)[at]
    counts, first = {}, {}
    for code in np.unique(codes).tolist():
        mine = np.sort(at[codes == code])
        day = pa.scalar(code, pa.int32()).cast(pa.date32()).as_py()
        counts[day], first[day] = len(mine), mine[:SAMPLE_ROWS].tolist()
    return Outcome(batch, expectation, "failed", counts, first)


def _frame(rows: pa.Table) -> pd.DataFrame:
    """The rows as a data frame whose index is their position. Whole numbers with nulls stay exact as objects."""
    return rows.to_pandas(date_as_object=True, integer_object_nulls=True, split_blocks=True)


def _results(
    frame: pd.DataFrame, expectations: Sequence[Expectation], result_format: str
) -> list[tuple[Expectation, dict[str, Any] | str]]:
    """Each expectation's result, or its error."""
    key = json.dumps([result_format, [e.to_json() for e in expectations]], sort_keys=True, default=str)
    suite = _suites.get(key)
    if suite is None:
        suite = _suites[key] = _Suite.of(expectations, result_format)
        while len(_suites) > _SUITES_KEPT:
            _suites.popitem(last=False)
    else:
        _suites.move_to_end(key)
    return suite.results(frame)


_suites: OrderedDict[str, _Suite] = OrderedDict()


@dataclass
class _Suite:
    """Expectations as Great Expectations knows them, with the graph of the metrics they need."""

    expectations: Sequence[Expectation]
    made: Sequence[Any]
    """For each, the expectation, or (a str) why it cannot be made."""
    result_format: str
    _edges: list[Any] | None = field(default=None)

    @classmethod
    def of(cls, expectations: Sequence[Expectation], result_format: str) -> _Suite:
        return cls(expectations, [_made(e) for e in expectations], result_format)

    def results(self, frame: pd.DataFrame) -> list[tuple[Expectation, dict[str, Any] | str]]:
        from great_expectations.execution_engine import PandasExecutionEngine
        from great_expectations.validator.metrics_calculator import MetricsCalculator
        from great_expectations.validator.validation_graph import ValidationGraph

        engine = PandasExecutionEngine(batch_data_dict={"batch": frame})
        calculator = MetricsCalculator(execution_engine=engine, show_progress_bars=False)
        if self._edges is None:
            self._edges = self._graph(engine, calculator)
        metrics, aborted = calculator.resolve_validation_graph(
            graph=ValidationGraph(execution_engine=engine, edges=self._edges),
            runtime_configuration=self._asked(),
            min_graph_edges_pbar_enable=1 << 31,
        )
        return [
            (e, made if isinstance(made, str) else self._result(made, engine, metrics, aborted))
            for e, made in zip(self.expectations, self.made, strict=True)
        ]

    def _asked(self) -> dict[str, Any]:
        return {"result_format": self.result_format}

    def _graph(self, engine: Any, calculator: Any) -> list[Any]:
        edges: list[Any] = []
        made = list(self.made)
        for index, one in enumerate(made):
            if isinstance(one, str):
                continue
            try:
                needed = one.get_validation_dependencies(engine, self._asked()).get_metric_configurations()
                edges += calculator.build_metric_dependency_graph(
                    metric_configurations=needed, runtime_configuration=self._asked()
                ).edges
            except Exception as error:
                made[index] = _text(error)
        self.made = made
        return edges

    def _result(self, made: Any, engine: Any, metrics: Mapping[Any, Any], aborted: Any) -> dict[str, Any] | str:
        try:
            needed = made.get_validation_dependencies(engine, self._asked()).get_metric_configurations()
            if trouble := next(filter(None, (_trouble(metric, aborted) for metric in needed)), None):
                return trouble
            result = made.metrics_validate(
                metrics=metrics, execution_engine=engine, runtime_configuration=self._asked()
            )
            found = result.result.get("unexpected_index_list") or []
            return {"success": bool(result.success), "positions": found}
        except Exception as error:
            return _text(error)


def _made(expectation: Expectation) -> Any:
    """The expectation, or why it cannot be made."""
    try:
        return _remembering(expectation.type)(**expectation.kwargs)
    except Exception as error:
        return _text(error)


@cache
def _remembering(kind: str) -> type:
    """The class of a type of expectation, made to remember what it would compute again and again.

    It has a name, and thus a type, of its own, so that the one that comes with Great Expectations stays as it is.
    """
    gx = _great_expectations()
    base = gx.expectations.registry.get_expectation_impl(kind)

    def configuration(self: Any) -> Any:
        if self._configuration is None:
            self._configuration = base.configuration.fget(self)
        return self._configuration

    def get_validation_dependencies(
        self: Any, execution_engine: Any = None, runtime_configuration: Any = None, **kwargs: Any
    ) -> Any:
        asked = str((runtime_configuration or {}).get("result_format"))
        if asked not in self._dependencies:
            self._dependencies[asked] = base.get_validation_dependencies(
                self, execution_engine=execution_engine, runtime_configuration=runtime_configuration, **kwargs
            )
        return self._dependencies[asked]

    private = gx.compatibility.pydantic.PrivateAttr
    return type(base)(
        f"Remembering{base.__name__}",
        (base,),
        {
            "__module__": __name__,
            "_configuration": private(None),
            "_dependencies": private(default_factory=dict),
            "configuration": property(configuration),
            "get_validation_dependencies": get_validation_dependencies,
        },
    )


@cache
def _great_expectations() -> Any:
    """The package, imported when it is first needed."""
    import great_expectations.compatibility.pydantic
    import great_expectations.expectations.core
    import great_expectations.expectations.registry

    for name in ("great_expectations.expectations.registry", "great_expectations.render.util"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return great_expectations


def _trouble(metric: Any, aborted: Mapping[Any, Any]) -> str | None:
    """Why a metric, or one that it is made from, could not be computed; None if it could."""
    if metric.id in aborted:
        told = aborted[metric.id].get("exception_info")
        one = next(iter(told), None) if isinstance(told, set | list | tuple) else told
        return str(getattr(one, "exception_message", None) or "It could not be computed.")[:_LONGEST_ERROR]
    made_from = (metric.metric_dependencies or {}).values()
    return next(filter(None, (_trouble(one, aborted) for one in made_from)), None)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
