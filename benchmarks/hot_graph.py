"""What Dagster takes of a window's run: the time outside our functions, against a job of as many steps that do nothing.

Both are runs of assets for one site and day, in this process, on the instance of one home. Ours makes eight assets and
two checks in its steps; the peer makes an asset a step, and nothing else.
"""

from __future__ import annotations

import contextlib
import inspect
import statistics
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from benchmarks.lineage_cost import served_home
from benchmarks.measure import ROUNDS, Benchmark, line

_WINDOW = "2025-01-31|north"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class _Inside:
    """Seconds spent in the functions it has wrapped."""

    def __init__(self) -> None:
        self.seconds = 0.0

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
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


def _rows() -> Iterator[str]:
    with served_home() as home:
        yield from _compared(home)


def _compared(home: Any) -> Iterator[str]:
    from unittest import mock

    import dagster as dg

    from hybrid_assets import fleet, versions
    from hybrid_assets.definitions import build_definitions
    from resources.bindings.partitions import run_tags
    from resources.bindings.plants import Plants

    inside, plants, instance = _Inside(), Plants(home=str(home.root)), dg.DagsterInstance.get()
    with mock.patch.object(fleet, "with_versions", lambda step: inside.wrap(versions.with_versions(step))):
        job = build_definitions(home, plants).resolve_job_def("pump_serve")
    steps = len({node.name for node in job.graph.nodes})
    windows = next(iter(job.asset_layer.asset_graph.all_partitions_defs))
    peer = _nothing_to_do(job.partitions_def or windows, steps)
    tags = run_tags("pump", "north") | {"dagster/partition": _WINDOW}

    def run(which: dg.JobDefinition) -> float:
        started, inside.seconds = time.perf_counter(), 0.0
        done = which.execute_in_process(
            instance=instance, partition_key=_WINDOW, tags=tags, run_config=_QUIET, raise_on_error=True
        )
        assert done.success
        return time.perf_counter() - started - inside.seconds

    ours: list[float] = []
    theirs: list[float] = []
    within: list[float] = []
    for number in range(ROUNDS + 1):
        for which in (job, peer) if number % 2 else (peer, job):
            taken = run(which)
            (ours if which is job else theirs).append(taken)
            if which is job:
                within.append(inside.seconds)
    instance.dispose()
    ratio = statistics.median(a / b for a, b in zip(ours[1:], theirs[1:], strict=True))
    own = f"{statistics.median(within[1:]) * 1e3:.0f} ms in them"
    told = f"a window served in {steps} steps, outside our functions ({own})"
    yield line(
        f"{told} / a job of {steps} steps that do nothing",
        statistics.median(ours[1:]),
        statistics.median(theirs[1:]),
        "≤ 1×",
        ratio=ratio,
    )


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
