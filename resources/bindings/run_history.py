"""Dagster's record of a run as the plain story that `backbone.lineage` tells in OpenLineage's words."""

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    JobCanceledData,
    JobFailureData,
    StepFailureData,
    StepRetryData,
)
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._utils.error import SerializableErrorInfo

from backbone.lineage.events import run_id_of
from backbone.lineage.history import Asset, Backfill, Code, ColumnSource, Entry, EntryKind, Failure, RunHistory, Verdict
from resources.bindings.asset_metadata import CLASSIFICATION, COLUMN_LINEAGE, CONTRACT, WORKLOAD
from resources.bindings.run_environment import ENVIRONMENT

REPORTED = "reported"
"""Job and step of what people or other systems reported without a run."""
_LONGEST_TEXT = 2000
_BACKFILL = "dagster/backfill"
_MOST_BACKFILLS, _MOST_REPORTS = 100, 200
_REPORTS = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
_KINDS: Mapping[dg.DagsterEventType, EntryKind] = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED: "planned",
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED: "check_planned",
    dg.DagsterEventType.RUN_START: "run_started",
    dg.DagsterEventType.RUN_SUCCESS: "run_succeeded",
    dg.DagsterEventType.RUN_FAILURE: "run_failed",
    dg.DagsterEventType.RUN_CANCELED: "run_cancelled",
    dg.DagsterEventType.STEP_START: "step_started",
    dg.DagsterEventType.STEP_RESTARTED: "step_started",
    dg.DagsterEventType.STEP_SUCCESS: "step_succeeded",
    dg.DagsterEventType.STEP_FAILURE: "step_failed",
    dg.DagsterEventType.STEP_UP_FOR_RETRY: "step_to_retry",
    dg.DagsterEventType.STEP_SKIPPED: "step_skipped",
    dg.DagsterEventType.ASSET_MATERIALIZATION: "materialized",
    dg.DagsterEventType.ASSET_OBSERVATION: "observed",
    dg.DagsterEventType.ASSET_CHECK_EVALUATION: "checked",
    dg.DagsterEventType.ENGINE_EVENT: "environment",
}


def history_of(instance: dg.DagsterInstance, run_id: str) -> RunHistory | None:
    """A run's story so far, from whatever storage the instance has; None: there is no such run."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        return None
    run = record.dagster_run
    entries = (entry for log in instance.all_logs(run_id, of_type=set(_KINDS)) for entry in _entries(log))
    return RunHistory(
        run_id=run.run_id,
        job=run.job_name,
        created=record.create_timestamp.astimezone(UTC),
        entries=tuple(entries),
        tags=dict(run.tags),
        parent=_other_run(instance, run.parent_run_id),
        root=_other_run(instance, run.root_run_id),
        settings=dict(run.run_config) if isinstance(run.run_config, Mapping) else {},
        backfill=_backfill(instance.get_backfill(named)) if (named := run.tags.get(_BACKFILL)) else None,
    )


def backfills_of(instance: dg.DagsterInstance) -> list[RunHistory]:
    """The newest backfills, each as the story of no run."""
    found = (_backfill(one) for one in instance.get_backfills(limit=_MOST_BACKFILLS))
    return [RunHistory("", "", one.began, (), backfill=one) for one in found if one is not None]


def reported(instance: dg.DagsterInstance) -> list[RunHistory]:
    """What was last reported without a run, each as the story of a run of its own."""
    records = instance.get_records_for_run(RUNLESS_RUN_ID, of_type=_REPORTS, limit=_MOST_REPORTS, ascending=False)
    found = []
    for record in reversed(records.records):
        for entry in _entries(record.event_log_entry):
            run_id = run_id_of("reported", record.storage_id, entry.asset, entry.partition, entry.at.isoformat())
            told = replace(entry, step=REPORTED)
            around = (Entry("run_started", entry.at), told, Entry("step_succeeded", entry.at, REPORTED))
            found.append(RunHistory(run_id, REPORTED, entry.at, (*around, Entry("run_succeeded", entry.at))))
    return found


_OUTCOMES: Mapping[BulkActionStatus, Literal["COMPLETE", "FAIL", "ABORT"]] = {
    BulkActionStatus.COMPLETED: "COMPLETE",
    BulkActionStatus.COMPLETED_SUCCESS: "COMPLETE",
    BulkActionStatus.COMPLETED_FAILED: "FAIL",
    BulkActionStatus.FAILED: "FAIL",
    BulkActionStatus.CANCELED: "ABORT",
}


def _backfill(found: PartitionBackfill | None) -> Backfill | None:
    if found is None:
        return None
    ended = found.backfill_end_timestamp if found.status in _OUTCOMES else None
    failure = _of_error(found.error, None) if found.error is not None else None
    if failure is None and found.status == BulkActionStatus.COMPLETED_FAILED:
        failure = Failure("BackfillFailed", "Some of its partitions failed.")
    return Backfill(
        found.backfill_id,
        datetime.fromtimestamp(found.backfill_timestamp, UTC),
        None if ended is None else datetime.fromtimestamp(ended, UTC),
        _OUTCOMES.get(found.status, "COMPLETE"),
        failure,
    )


def _other_run(instance: dg.DagsterInstance, run_id: str | None) -> tuple[str, str] | None:
    run = instance.get_run_by_id(run_id) if run_id else None
    return None if run is None else (run.run_id, run.job_name)


def _entries(log: dg.EventLogEntry) -> Iterator[Entry]:
    event = log.dagster_event
    if event is None or event.event_type not in _KINDS:
        return
    kind, at = _KINDS[event.event_type], datetime.fromtimestamp(log.timestamp, UTC)
    step = log.step_key or event.step_key
    data = event.event_specific_data
    match kind:
        case "planned":
            assert isinstance(data, AssetMaterializationPlannedData)
            for partition in _planned_partitions(data):
                yield Entry(kind, at, step, data.asset_key.to_user_string(), partition)
        case "check_planned":
            planned: Any = data
            yield Entry(kind, at, step, planned.asset_key.to_user_string(), check=planned.check_name)
        case "materialized":
            made = event.step_materialization_data.materialization
            yield Entry(kind, at, step, made.asset_key.to_user_string(), made.partition, metadata=plain(made.metadata))
        case "observed":
            seen = event.asset_observation_data.asset_observation
            yield Entry(kind, at, step, seen.asset_key.to_user_string(), seen.partition, metadata=plain(seen.metadata))
        case "checked":
            result = event.asset_check_evaluation_data
            verdict = Verdict(
                result.check_name,
                result.passed,
                "error" if result.severity == dg.AssetCheckSeverity.ERROR else "warning",
                bool(result.blocking),
                result.description or "",
            )
            key = result.asset_key.to_user_string()
            partition = getattr(result, "partition", None)
            yield Entry(kind, at, step, key, partition, metadata=plain(result.metadata), verdict=verdict)
        case "environment":
            variables = plain(event.engine_event_data.metadata).get(ENVIRONMENT)
            if isinstance(variables, Mapping):  # the engine has much else to tell
                yield Entry(kind, at, metadata=variables)
        case _:
            yield Entry(kind, at, step, failure=_failure(event))


def _planned_partitions(data: AssetMaterializationPlannedData) -> Iterable[str | None]:
    if data.partitions_subset is not None:
        return sorted(data.partitions_subset.get_partition_keys())
    return [data.partition]


# ---- errors
_WRAPPERS = (
    "DagsterExecutionStepExecutionError",
    "DagsterExecutionLoadInputError",
    "DagsterExecutionHandleOutputError",
)
_CARRIERS = ("Failure", "RetryRequested")
"""What code raises to tell Dagster something; the error it is about is their cause."""
_INTERRUPTED = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")


def _failure(event: DagsterEvent) -> Failure | None:
    data = event.event_specific_data
    if isinstance(data, StepFailureData):
        return _of_error(data.error, data.user_failure_data.description if data.user_failure_data else None)
    if isinstance(data, StepRetryData):
        return _of_error(data.error, None)
    if isinstance(data, JobFailureData | JobCanceledData):
        if data.error is not None:
            return _of_error(data.error, None)
        kind = "RunCancelled" if isinstance(data, JobCanceledData) else "RunFailed"
        return Failure(kind, event.message or kind, interrupted=kind == "RunCancelled")
    if event.event_type == dg.DagsterEventType.STEP_SKIPPED:
        return Failure("Skipped", event.message or "It was skipped.", interrupted=True)
    if event.event_type == dg.DagsterEventType.RUN_CANCELED:
        return Failure("RunCancelled", event.message or "The run was cancelled.", interrupted=True)
    if event.event_type == dg.DagsterEventType.RUN_FAILURE:
        return Failure("RunFailed", event.message or "The run failed.")
    return None


def _of_error(error: SerializableErrorInfo | None, description: str | None) -> Failure:
    """The error that was raised, not the frames and names that Dagster put around it."""
    if error is None:
        return Failure("Error", description or "It failed without an error.")
    raised = error
    while raised.cls_name in _WRAPPERS and raised.cause is not None:
        raised = raised.cause
    interrupted = raised.cls_name in _INTERRUPTED
    real = raised.cause if raised.cls_name in _CARRIERS and raised.cause is not None else raised
    name = real.cls_name or "Error"
    message = description or real.message.strip().removeprefix(f"{name}: ")
    return Failure(name, message, raised.to_string(), interrupted)


# ---- metadata
def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as JSON values; what is there only for people's eyes (Markdown, tables, pictures) is left out."""
    found: dict[str, Any] = {}
    for name, value in metadata.items():
        match value:
            case dg.IntMetadataValue() | dg.BoolMetadataValue():
                found[name] = value.value
            case dg.FloatMetadataValue() if value.value is not None and math.isfinite(value.value):
                found[name] = value.value
            case dg.TextMetadataValue():
                found[name] = (value.value or "")[:_LONGEST_TEXT]
            case dg.JsonMetadataValue():
                found[name] = _finite(value.data)
            case dg.TimestampMetadataValue():
                found[name] = value.value
            case _:
                pass
    return found


def _finite(value: Any) -> Any:
    """JSON has no word for what is no finite number."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


# ---- assets
def known_assets(graph: AssetGraph, *, root: Path, repository: str = "", revision: str = "") -> dict[str, Asset]:
    """What the definitions say of every asset.

    Args:
        root: of the code, so that places in it are told relative to it.
        repository: URL of the code's repository; empty: places are told as files.
        revision: of the code.
    """
    return {node.key.to_user_string(): _asset(node, root, repository, revision) for node in graph.asset_nodes}


def _asset(node: Any, root: Path, repository: str, revision: str) -> Asset:
    columns = node.metadata.get("dagster/column_schema")
    schema = getattr(columns, "schema", columns)
    sources = node.metadata.get(COLUMN_LINEAGE) or {}
    contract = node.metadata.get(CONTRACT) or ""
    return Asset(
        key=node.key.to_user_string(),
        description=node.description or "",
        owners=tuple(node.owners),
        tags={k: v for k, v in node.tags.items() if not k.startswith("dagster/kind/")},
        kinds=tuple(sorted(node.kinds)),
        upstream=tuple(sorted(key.to_user_string() for key in node.parent_entity_keys if isinstance(key, dg.AssetKey))),
        windowed=isinstance(node.partitions_def, dg.MultiPartitionsDefinition),
        workload=node.tags.get(WORKLOAD, ""),
        code=_code(node, root, repository, revision),
        code_version=node.code_version or "",
        columns=tuple(
            {"name": c.name, "type": c.type, **({"description": c.description} if c.description else {})}
            for c in getattr(schema, "columns", ())
        ),
        column_sources={
            column: tuple(ColumnSource(*source) for source in listed)
            for column, listed in (getattr(sources, "value", sources) or {}).items()
        },
        contract=str(getattr(contract, "value", contract)),
        classification=node.tags.get(CLASSIFICATION, ""),
    )


def _code(node: Any, root: Path, repository: str, revision: str) -> Code | None:
    definition = getattr(node, "assets_def", None)
    if definition is None or not definition.is_executable:
        return None
    function = getattr(definition.node_def, "compute_fn", None)
    function = getattr(function, "decorated_fn", function)
    code = getattr(inspect.unwrap(function), "__code__", None) if function else None
    if code is None:
        return None
    path, line = Path(code.co_filename), code.co_firstlineno
    if not path.is_relative_to(root):
        return Code(path.as_posix(), line, f"{path.as_uri()}#L{line}")
    within = path.relative_to(root).as_posix()
    url = f"{repository}/blob/{revision or 'HEAD'}/{within}" if repository else path.as_uri()
    return Code(within, line, f"{url}#L{line}", repository, revision)
