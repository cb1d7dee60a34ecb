"""What Dagster takes of a window's run: the time outside our functions, against a job of as many steps that do nothing.

Both are runs of assets for one site and day, in this process. Ours makes eight assets and two checks in its steps; the
peer makes an asset a step, and nothing else: on the instance of the same home, then on the storage that Dagster has of
its own, on disk and in memory. Functions of ours are those of assets and of checks.
"""

from __future__ import annotations

import contextlib
import inspect
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.lineage_cost import served_home
from benchmarks.measure import ROUNDS, Benchmark, line

if TYPE_CHECKING:
    import dagster as dg

_WINDOW = "2025-01-31|north"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_STOCK = """\
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {{base_dir: {folder}}}
run_storage: {{module: dagster._core.storage.runs, class: SqliteRunStorage, config: {{base_dir: {folder}}}}}
telemetry: {{enabled: false}}
"""


class _Taken(NamedTuple):
    """Seconds by the clock on the wall, and of this process's processor time."""

    wall: float
    processor: float

    def less(self, other: _Taken) -> _Taken:
        return _Taken(self.wall - other.wall, self.processor - other.processor)


def _now() -> _Taken:
    return _Taken(time.perf_counter(), time.process_time())


class _Inside:
    """What the functions that it has wrapped have taken."""

    def __init__(self) -> None:
        self.taken = _Taken(0.0, 0.0)

    def count(self, job: dg.JobDefinition) -> None:
        """Count the functions of a job's steps, those of assets and those of checks."""
        from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction

        for node in job.graph.nodes:
            step: Any = node.definition
            # Dagster has no hook around the function alone: a step's own events are told between two of its results.
            step._compute_fn = DecoratedOpFunction(self.wrap(step.compute_fn.decorated_fn))

    def wrap(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step, its time counted; of a generator only what it takes itself."""
        if inspect.isgeneratorfunction(step):

            @wraps(step)
            def each(*args: Any, **kwargs: Any) -> Iterator[Any]:
                results = step(*args, **kwargs)
                while True:
                    with self.counting():
                        try:
                            result = next(results)
                        except StopIteration:
                            return
                    yield result

            return each

        @wraps(step)
        def once(*args: Any, **kwargs: Any) -> Any:
            with self.counting():
                return step(*args, **kwargs)

        return once

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        started = _now()
        try:
            yield
        finally:
            took = _now().less(started)
            self.taken = _Taken(self.taken.wall + took.wall, self.taken.processor + took.processor)


def _rows() -> Iterator[str]:
    with served_home() as home:
        yield from _compared(home)


def _compared(home: Any) -> Iterator[str]:
    import dagster as dg

    from hybrid_assets.definitions import build_definitions
    from resources.bindings.partitions import run_tags
    from resources.bindings.plants import Plants

    inside = _Inside()
    job = build_definitions(home, Plants(home=str(home.root))).resolve_job_def("pump_serve")
    inside.count(job)
    steps = len({node.name for node in job.graph.nodes})
    windows = next(iter(job.asset_layer.asset_graph.all_partitions_defs))
    peer = _nothing_to_do(job.partitions_def or windows, steps)
    tags = run_tags("pump", "north") | {"dagster/partition": _WINDOW}

    def run(which: dg.JobDefinition, instance: dg.DagsterInstance) -> tuple[_Taken, _Taken]:
        inside.taken, started = _Taken(0.0, 0.0), _now()
        done = which.execute_in_process(
            instance=instance, partition_key=_WINDOW, tags=tags, run_config=_QUIET, raise_on_error=True
        )
        assert done.success
        return _now().less(started).less(inside.taken), inside.taken

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        (Path(folder) / "dagster.yaml").write_text(_STOCK.format(folder=folder))
        ours = opened.enter_context(dg.DagsterInstance.get())
        peers = {
            f"a job of {steps} steps that do nothing": ours,
            "that job in Dagster's own SQLite": opened.enter_context(dg.DagsterInstance.from_config(folder)),
            "that job in Dagster's own storage in memory": opened.enter_context(dg.DagsterInstance.ephemeral()),
        }
        for what, instance in peers.items():
            mine: list[_Taken] = []
            theirs: list[_Taken] = []
            within: list[_Taken] = []
            for number in range(ROUNDS + 1):
                for first in (True, False) if number % 2 else (False, True):
                    if first:
                        outside, functions = run(job, ours)
                        mine.append(outside)
                        within.append(functions)
                    else:
                        theirs.append(run(peer, instance)[0])
            own = statistics.median(taken.wall for taken in within[1:])
            told = f"a window served in {steps} steps, outside our functions ({own * 1e3:.0f} ms in them) / {what}"
            limit = "≤ 1×" if instance is ours else "told"
            yield _line(f"{told}, wall time", [t.wall for t in mine], [t.wall for t in theirs], limit)
            yield _line("the same, processor time", [t.processor for t in mine], [t.processor for t in theirs], limit)


def _line(what: str, ours: list[float], theirs: list[float], limit: str) -> str:
    """A row of the table; the first round is not measured."""
    ratio = statistics.median(a / b for a, b in zip(ours[1:], theirs[1:], strict=True))
    return line(what, statistics.median(ours[1:]), statistics.median(theirs[1:]), limit, ratio=ratio)


def _nothing_to_do(windows: Any, steps: int) -> Any:
    """A job of so many assets, each after the one before."""
    import dagster as dg

    def step(number: int) -> dg.AssetsDefinition:
        @dg.asset(
            name=f"nothing_{number}",
            partitions_def=windows,
            deps=[f"nothing_{number - 1}"] if number else [],
        )
        def nothing() -> None:
            """Nothing."""

        return nothing

    assets = [step(number) for number in range(steps)]
    job = dg.define_asset_job("nothing", selection=dg.AssetSelection.all(), executor_def=dg.in_process_executor)
    return dg.Definitions(assets=assets, jobs=[job]).resolve_job_def("nothing")


SPEC = Benchmark("hot_graph", _rows)
