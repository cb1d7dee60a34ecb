"""A small graph that goes wrong in every way there is, for tests of what lineage says then.

It needs nothing but Dagster, so that others can be asked what they say of it.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from tests.warm_start import IMPORTED

GRAIN, FLOUR, BRAN, BREAD, CRUMBS = (dg.AssetKey(["mill", n]) for n in ("grain", "flour", "bran", "bread", "crumbs"))
WINDOWS = dg.MultiPartitionsDefinition(
    {"site": dg.StaticPartitionsDefinition(["north"]), "day": dg.DailyPartitionsDefinition("2025-01-01")}
)
SECRET = "hunter2-and-more"  # noqa: S105


# What goes wrong is said by tags of the run: a process that steps are forked from knows the variables of its own start.
MODE, MARKS = "mill/mode", "mill/marks"


def _mark(run: dg.DagsterRun, name: str) -> Path:
    return Path(run.tags[MARKS]) / name


@dg.asset(
    key=GRAIN,
    partitions_def=WINDOWS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    owners=["team:millers"],
    tags={"field": "north"},
)
def grain() -> dg.MaterializeResult:
    """What comes from the fields."""
    return dg.MaterializeResult(metadata={"rows": 3})


@dg.multi_asset(
    specs=[dg.AssetSpec(FLOUR, deps=[GRAIN]), dg.AssetSpec(BRAN, deps=[GRAIN])],
    partitions_def=WINDOWS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def milling(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
    run = context.run
    mode = run.tags.get(MODE)
    yield dg.MaterializeResult(asset_key=FLOUR)
    if mode == "breaks":
        raise ValueError(f"the stone broke; password={SECRET}")
    if mode == "breaks_once" and not _mark(run, "broke").exists():
        _mark(run, "broke").touch()
        raise dg.RetryRequested(max_retries=1) from ValueError("the stone slipped")
    if mode == "waits":
        _mark(run, "waiting").write_text(str(os.getpid()))
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(0.05)
    yield dg.MaterializeResult(asset_key=BRAN)


@dg.asset_check(asset=FLOUR, blocking=True)
def no_stones(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=context.run.tags.get(MODE) != "stones",
        metadata={"expected": "no stones", "observed": "2 stones", "rows": 3},
    )


@dg.multi_asset(
    specs=[dg.AssetSpec(BREAD, deps=[FLOUR], skippable=True)],
    partitions_def=WINDOWS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def baking(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
    if context.run.tags.get(MODE) == "no_yeast":
        told = {"not_made_because": "There was no yeast."}
        context.log_event(dg.AssetObservation(BREAD, partition=context.partition_keys[0], metadata=told))
        return
    yield dg.MaterializeResult(asset_key=BREAD)


@dg.asset(key=CRUMBS, deps=[BREAD], partitions_def=WINDOWS, backfill_policy=dg.BackfillPolicy.single_run())
def crumbs() -> None: ...


@dg.observable_source_asset(key=dg.AssetKey(["mill", "weather"]))
def weather() -> dg.ObserveResult:
    return dg.ObserveResult(metadata={"degrees": 21, "api_token": SECRET})


DEFINITIONS = dg.Definitions(
    assets=[grain, milling, baking, crumbs, weather],
    asset_checks=[no_stones],
    jobs=[
        dg.define_asset_job("all_of_it", dg.AssetSelection.assets(GRAIN, FLOUR, BRAN, BREAD, CRUMBS)),
        dg.define_asset_job("looking", dg.AssetSelection.assets(dg.AssetKey(["mill", "weather"]))),
    ],
    executor=dg.in_process_executor,
)
PARALLEL = dg.Definitions(
    assets=[grain, milling, baking, crumbs],
    asset_checks=[no_stones],
    jobs=[dg.define_asset_job("all_of_it", dg.AssetSelection.assets(GRAIN, FLOUR, BRAN, BREAD, CRUMBS))],
    executor=dg.multiprocess_executor.configured({"start_method": {"forkserver": {"preload_modules": [*IMPORTED]}}}),
)


def one_process() -> dg.JobDefinition:
    return DEFINITIONS.resolve_job_def("all_of_it")


def several_processes() -> dg.JobDefinition:
    return PARALLEL.resolve_job_def("all_of_it")


def looking() -> dg.JobDefinition:
    return DEFINITIONS.resolve_job_def("looking")
