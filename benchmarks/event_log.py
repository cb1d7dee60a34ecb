"""What Dagster takes to store an event: its own SQLite event log against that of a home, the same run in each.

Materializations are of one run over many windows, evaluations of checks of another; each is of some 2 kB.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.measure import Benchmark, line, paired

WINDOWS = 150
"""Events of a run: as many materializations and plans of them, or evaluations of two checks and plans of these."""
ROUNDS = 3
_STORAGES = {
    "stock": ("dagster._core.storage.event_log", "ConsolidatedSqliteEventLogStorage"),
    "ours": ("resources.bindings.event_log", "QuickSqliteEventLogStorage"),
}
_SETTINGS = """\
event_log_storage: {{module: {module}, class: {name}, config: {{base_dir: {folder}/history}}}}
run_storage: {{module: dagster._core.storage.runs, class: SqliteRunStorage, config: {{base_dir: {folder}/history}}}}
telemetry: {{enabled: false}}
"""
_METADATA = {"rows": 4608, "share": 0.97, "observed": "x" * 200, "expected": "y" * 200}


def _rows() -> Iterator[str]:
    for category in (dg.BetaWarning, dg.PreviewWarning):
        warnings.filterwarnings("ignore", category=category)
    jobs, tags = _jobs()
    with tempfile.TemporaryDirectory() as folder:
        instances = {name: _instance(Path(folder) / name, *storage) for name, storage in _STORAGES.items()}
        for name, job in jobs.items():
            ours, peer = (_run(job, instances[which], tags) for which in ("ours", "stock"))
            stored = len(instances["ours"].all_logs(ours()))
            for kind, times in zip(("wall time", "processor time"), paired(ours, peer, rounds=ROUNDS), strict=True):
                what = f"an event stored, of {stored} of {name} / stock SQLite, {kind}"
                yield line(what, times.ours_s / stored, times.peer_s / stored, "", ratio=times.ratio)
        for instance in instances.values():
            instance.dispose()


def _instance(folder: Path, module: str, name: str) -> Any:
    folder.mkdir()
    (folder / "dagster.yaml").write_text(_SETTINGS.format(module=module, name=name, folder=folder))
    return dg.DagsterInstance.from_config(str(folder))


def _run(job: Any, instance: Any, tags: dict[str, str]) -> Callable[[], str]:
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return lambda: str(job.execute_in_process(instance=instance, tags=tags, run_config=quiet).run_id)


def _jobs() -> tuple[dict[str, Any], dict[str, str]]:
    days = dg.DailyPartitionsDefinition("2025-01-01", end_date="2026-01-01")
    windows = dg.MultiPartitionsDefinition({"site": dg.StaticPartitionsDefinition(["plant"]), "day": days})
    keys = [dg.MultiPartitionKey({"site": "plant", "day": day}) for day in days.get_partition_keys()[:WINDOWS]]

    @dg.asset(partitions_def=windows, backfill_policy=dg.BackfillPolicy.single_run())
    def telemetry() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=_METADATA)

    names = ("complete", "sane")
    specs = [dg.AssetCheckSpec(name, asset=telemetry, partitions_def=windows) for name in names]

    @dg.multi_asset_check(name="checks", specs=specs)
    def checks() -> Iterator[Any]:
        for key in keys:
            for name in names:
                yield dg.AssetCheckEvaluation(
                    asset_key=telemetry.key, check_name=name, passed=True, metadata=_METADATA, partition=key
                )
        yield from (dg.Output(None, output_name=spec.get_python_identifier()) for spec in specs)

    chosen = {
        "materializations": dg.AssetSelection.assets(telemetry).without_checks(),
        "evaluations of checks": dg.AssetSelection.checks(checks),
    }
    made = [dg.define_asset_job(f"job_{n}", selection) for n, selection in enumerate(chosen.values())]
    defs = dg.Definitions(assets=[telemetry], asset_checks=[checks], jobs=made, executor=dg.in_process_executor)
    jobs = {name: defs.resolve_job_def(f"job_{n}") for n, name in enumerate(chosen)}
    first, last = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return jobs, {first: keys[0], last: keys[-1]}


SPEC = Benchmark("event_log", _rows)
