"""The facets of an event: those of the standard, and ours where it has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from backbone.lineage.events import custom, standard, time_text
from backbone.lineage.history import Asset, Carried, ColumnSource, Dataset, Entry, Failure, Tried
from backbone.lineage.naming import dimensions

Facets = dict[str, Any]
_LONGEST_STACK = 20_000


def _some(**values: Any) -> dict[str, Any]:
    """Those that there are."""
    return {name: value for name, value in values.items() if value not in (None, "", (), [], {})}


# ---- runs
def parent(namespace: str, above: tuple[str, str], root: tuple[str, str]) -> Facets:
    """Args: (run id, job) of the run above, and of the first of all."""
    return standard(
        "ParentRunFacet",
        "1-2-0",
        run={"runId": above[0]},
        job={"namespace": namespace, "name": above[1]},
        root={"run": {"runId": root[0]}, "job": {"namespace": namespace, "name": root[1]}},
    )


def nominal_time(first: date, last: date) -> Facets:
    """The days `first` to `last`, both included, UTC."""
    begin, end = (datetime.combine(day, time(), UTC) for day in (first, last + timedelta(days=1)))
    return standard("NominalTimeRunFacet", "1-0-1", nominalStartTime=time_text(begin), nominalEndTime=time_text(end))


def engine(name: str, version: str, adapter: str) -> Facets:
    return standard(
        "ProcessingEngineRunFacet", "1-1-1", name=name, version=version or "unknown", openlineageAdapterVersion=adapter
    )


def parameters(settings: Mapping[str, Any]) -> Facets:
    """Nested settings as one flat list, each by its path."""
    found = [{"key": key, "name": key.rpartition(".")[2], "value": str(value)} for key, value in _flat(settings, "")]
    return standard("ExecutionParametersRunFacet", "1-0-0", parameters=found)


def _flat(settings: Mapping[str, Any], above: str) -> Iterable[tuple[str, Any]]:
    for name, value in sorted(settings.items()):
        key = f"{above}.{name}" if above else str(name)
        if isinstance(value, Mapping):
            yield from _flat(value, key)
        else:
            yield key, value


def environment(variables: Mapping[str, str]) -> Facets:
    listed = [{"name": name, "value": value} for name, value in sorted(variables.items())]
    return standard("EnvironmentVariablesRunFacet", "1-0-0", environmentVariables=listed)


def error(failure: Failure) -> Facets:
    return standard(
        "ErrorMessageRunFacet",
        "1-0-1",
        message=f"{failure.kind}: {failure.message}",
        programmingLanguage="python",
        **_some(stackTrace=failure.stack[-_LONGEST_STACK:]),
    )


def tests(verdicts: Sequence[Entry]) -> Facets:
    listed = []
    for entry in verdicts:
        verdict = entry.verdict
        assert verdict is not None
        expected, actual, rest = _expectation(entry)
        listed.append(
            {
                "name": verdict.check,
                "status": "pass" if verdict.passed else "fail",
                "severity": verdict.severity,
                "type": str(entry.metadata.get("rule") or verdict.check),
                **_some(expected=expected, actual=actual, params=rest),
            }
        )
    return standard("TestRunFacet", "1-0-1", tests=listed)


def run_tags(tags: Mapping[str, str]) -> Facets:
    listed = [{"key": key, "value": value, "source": "DAGSTER"} for key, value in sorted(tags.items())]
    return standard("TagsRunFacet", "1-0-0", tags=listed)


def orchestrator_run(run_id: str | None, kind: str, *, attempt: int, **more: str | None) -> Facets:
    """Which run of the orchestrator this is of, and what of it: its `step`, `asset`, `partition`."""
    return custom("OrchestratorRunFacet", kind=kind, attempt=attempt, **_some(dagsterRunId=run_id, **more))


def placement(tries: Sequence[Tried], currency: str) -> Facets:
    """Where the work was placed at last, with every target that was weighed, and the tries before."""
    last = tries[-1]
    return custom(
        "PlacementRunFacet",
        workload=last.workload,
        alternative=last.alternative,
        target=last.target,
        location=last.location,
        locationKind=last.location_kind,
        movedGb=last.moved_gb,
        cost=last.cost,
        candidates=[dict(candidate) for candidate in last.candidates],
        failedTries=[{"target": t.target, "location": t.location, "why": t.why} for t in tries[:-1]],
        **_some(currency=currency, seconds=last.seconds),
    )


def crossings(carried: Sequence[Carried]) -> Facets:
    listed = [
        {
            "what": c.what,
            "from": c.source,
            "to": c.destination,
            "files": c.files,
            "bytes": c.size_bytes,
            "digest": c.digest,
            "at": time_text(c.at),
        }
        for c in carried
    ]
    return custom("CrossingsRunFacet", crossings=listed)


def answer(told: Mapping[str, Any], *, because: str | None, instead_of: str | None) -> Facets:
    """Who answered, under which epoch, and why nobody better did.

    Args:
        told: `epoch`, `rows`, `served_by`, `fallback_reasons`, `degraded`, `holds`, `releases` and, by machine,
            `machines`; those there are.
        because, instead_of: why another run gave no answer, and its id, where this one stands in for it.
    """
    names = {
        "epoch": "epoch",
        "rows": "rows",
        "served_by": "servedBy",
        "fallback_reasons": "fallbackReasons",
        "degraded": "degraded",
        "holds": "holds",
        "releases": "releases",
    }
    values = {name: told[key] for key, name in names.items() if key in told}
    if told.get("machines"):
        of_one = {
            "served_by": "servedBy",
            "fallback_reason": "fallbackReason",
            "severity": "severity",
            "action": "action",
        }
        values["machines"] = {
            machine: {name: said[key] for key, name in of_one.items() if key in said}
            for machine, said in told["machines"].items()
        }
    return custom("AnswerRunFacet", **values, **_some(because=because, insteadOf=instead_of))


def not_made(reason: str) -> Facets:
    return custom("NotMadeRunFacet", reason=reason)


def observed(told: Mapping[str, Any]) -> Facets:
    return custom("ObservationRunFacet", values=dict(told))


# ---- jobs
def job_type(kind: str, engine_name: str) -> Facets:
    return standard("JobTypeJobFacet", "2-0-4", processingType="BATCH", integration=engine_name.upper(), jobType=kind)


def job_facets(asset: Asset) -> Facets:
    """Who owns it, what it does, where it is written, what it is tagged with."""
    found: Facets = {}
    if asset.owners:
        found["ownership"] = standard("OwnershipJobFacet", "1-0-1", owners=_owners(asset))
    if asset.description:
        found["documentation"] = standard(
            "DocumentationJobFacet", "1-1-0", description=asset.description, contentType="text/plain"
        )
    if asset.code is not None:
        code = asset.code
        found["sourceCodeLocation"] = standard(
            "SourceCodeLocationJobFacet",
            "1-1-0",
            type="git" if code.repository else "file",
            url=code.url,
            path=code.path,
            **_some(repoUrl=code.repository, version=code.version),
        )
    tags = [{"key": k, "value": v, "source": "DAGSTER"} for k, v in sorted(asset.tags.items())]
    tags += [{"key": "kind", "value": kind, "source": "DAGSTER"} for kind in asset.kinds]
    if asset.code_version:
        tags.append({"key": "code_version", "value": asset.code_version, "source": "DAGSTER"})
    if tags:
        found["tags"] = standard("TagsJobFacet", "1-0-0", tags=tags)
    return found


def _owners(asset: Asset) -> list[dict[str, str]]:
    return [{"name": owner, "type": "OWNER"} for owner in asset.owners]


def explicit_lineage(pairs: Iterable[tuple[Dataset, Iterable[Dataset]]]) -> Facets:
    """What of a job's inputs goes into which of its outputs."""
    entries = [
        {
            "namespace": made.namespace,
            "name": made.name,
            "type": "DATASET",
            "inputs": [{"namespace": s.namespace, "name": s.name, "type": "DATASET"} for s in sources],
        }
        for made, sources in pairs
    ]
    return standard("LineageFacet", "1-0-0", "LineageJobFacet", entries=entries)


# ---- data sets
def dataset_facets(dataset: Dataset, asset: Asset | None, namespace: str) -> Facets:
    """What a data set is, whoever reads or writes it."""
    found: Facets = {
        "dataSource": standard("DatasourceDatasetFacet", "1-0-1", name=dataset.namespace, uri=_uri(dataset)),
        "datasetType": standard("DatasetTypeDatasetFacet", "1-0-1", datasetType=dataset.kind),
    }
    if dataset.layer:
        found["storage"] = standard(
            "StorageDatasetFacet", "1-0-1", storageLayer=dataset.layer, **_some(fileFormat=dataset.format)
        )
    if asset is not None:
        identifier = {"namespace": f"dagster://{namespace}", "name": asset.key, "type": dataset.kind}
        found["symlinks"] = standard("SymlinksDatasetFacet", "1-0-1", identifiers=[identifier])
    if dataset.made_from is not None:
        source = {"namespace": dataset.made_from[0], "name": dataset.made_from[1], "type": "DATASET"}
        found["lineage"] = standard("LineageFacet", "1-0-0", "LineageDatasetFacet", inputs=[source])
    return found


def _uri(dataset: Dataset) -> str:
    return f"file://{dataset.name}" if dataset.namespace == "file" else dataset.namespace


def contract_facets(asset: Asset) -> Facets:
    """What its contract says of a data set."""
    found: Facets = {}
    if asset.columns:
        fields = [{**column, "ordinal_position": n} for n, column in enumerate(asset.columns, 1)]
        found["schema"] = standard("SchemaDatasetFacet", "1-2-0", fields=fields)
    if asset.description:
        found["documentation"] = standard(
            "DocumentationDatasetFacet", "1-1-0", description=asset.description, contentType="text/plain"
        )
    if asset.owners:
        found["ownership"] = standard("OwnershipDatasetFacet", "1-0-1", owners=_owners(asset))
    if asset.classification:
        tag = {"key": "classification", "value": asset.classification, "source": "CONTRACT"}
        found["tags"] = standard("TagsDatasetFacet", "1-0-0", tags=[tag])
    if asset.contract:
        name, _, version = asset.contract.rpartition(" ")
        levels = {
            "retentionDays": asset.retention_days,
            "latencySeconds": asset.latency_s,
            "completeness": asset.completeness,
        }
        found["hybrid_contract"] = custom(
            "ContractDatasetFacet",
            contract=name,
            version=version,
            **_some(classification=asset.classification, **levels),
        )
    return found


def version(value: object) -> Facets:
    return standard("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(value))


def lifecycle(dataset: Dataset, written: object) -> Facets | None:
    """CREATE for the first version, OVERWRITE where rows took the place of others; what only adds changes no state."""
    first = 1 if dataset.kind == "MODEL" else 0
    if isinstance(written, int) and written == first:
        return standard("LifecycleStateChangeDatasetFacet", "1-0-1", lifecycleStateChange="CREATE")
    if dataset.adds:
        return None
    return standard("LifecycleStateChangeDatasetFacet", "1-0-1", lifecycleStateChange="OVERWRITE")


def model(told: Mapping[str, Any], manifest: Mapping[str, Any]) -> Facets:
    """What a model is, from its manifest."""
    found, made = manifest.get("metrics"), manifest.get("model") or told.get("chosen")
    metrics = {k: v for k, v in found.items() if isinstance(v, int | float)} if isinstance(found, Mapping) else {}
    return custom(
        "ModelDatasetFacet",
        metrics=metrics,
        **_some(
            release=manifest.get("version"),
            algorithm=" + ".join(made) if isinstance(made, list) else made,
            baseline=manifest.get("baseline") or told.get("baseline"),
            trainingRun=manifest.get("training_run"),
            releaseRun=manifest.get("release_run"),
            digests=manifest.get("digests"),
        ),
    )


def column_lineage(
    sources: Mapping[str, tuple[ColumnSource, ...]], columns: Iterable[str], where: Mapping[str, Dataset]
) -> Facets | None:
    """Where each column comes from.

    Args:
        sources: column → what it is made from; under the empty name what decides on all of them.
        columns: those the schema has: no other one is told of.
        where: asset → the data set it was read from; what was not read is left out.
    """
    known = set(columns)
    fields = {}
    for column, listed in sources.items():
        found = [_field(where[s.asset], s) for s in listed if s.asset in where]
        if column in known and found:
            fields[column] = {"inputFields": found}
    on_all = [_field(where[s.asset], s) for s in sources.get("", ()) if s.asset in where]
    if not fields and not on_all:
        return None
    return standard("ColumnLineageDatasetFacet", "1-2-0", fields=fields, **_some(dataset=on_all))


def _field(dataset: Dataset, source: ColumnSource) -> dict[str, Any]:
    how = {"type": source.kind, "subtype": source.how}
    return {
        "namespace": dataset.namespace,
        "name": dataset.name,
        "field": source.column,
        "transformations": [how],
    }


# ---- a data set as it was read or written
def output_subset(partition: str) -> Facets:
    return standard(
        "BaseSubsetDatasetFacet",
        "1-0-0",
        "OutputSubsetOutputDatasetFacet",
        outputCondition=_condition(partition, dimensions(partition)),
    )


def input_subset(partition: str, *, windowed: bool) -> Facets:
    """The window, where the data set has windows; else the site."""
    said = dimensions(partition)
    if not windowed:
        said.pop("date", None)
    identifier = partition if len(said) == len(dimensions(partition)) else said["site"]
    return standard(
        "BaseSubsetDatasetFacet",
        "1-0-0",
        "InputSubsetInputDatasetFacet",
        inputCondition=_condition(identifier, said),
    )


def _condition(identifier: str, said: Mapping[str, str]) -> dict[str, Any]:
    return {"type": "partition", "partitions": [{"identifier": identifier, "dimensions": dict(said)}]}


def output_statistics(rows: int | None, size: tuple[int, int] | None) -> Facets | None:
    """Rows, and bytes and files, as far as they are known; None where neither is."""
    counted = _counted(rows, size)
    return standard("OutputStatisticsOutputDatasetFacet", "1-0-2", **counted) if counted else None


def input_statistics(rows: int | None, size: tuple[int, int] | None) -> Facets | None:
    counted = _counted(rows, size)
    return standard("InputStatisticsInputDatasetFacet", "1-0-0", **counted) if counted else None


def _counted(rows: int | None, size: tuple[int, int] | None) -> dict[str, int]:
    found = {} if rows is None else {"rowCount": rows}
    return found | ({} if size is None else {"size": size[0], "fileCount": size[1]})


def quality_metrics(rows: int) -> Facets:
    """Of what was written: how many rows."""
    return standard("DataQualityMetricsDatasetFacet", "1-0-0", rowCount=rows, columnMetrics={})


def input_quality_metrics(verdicts: Sequence[Entry]) -> Facets | None:
    """Of what was checked, from the numbers that its checks tell: `rows`, and per column under `columns`."""
    rows: int | None = None
    columns: dict[str, dict[str, Any]] = {}
    for entry in verdicts:
        told = entry.metadata.get("rows")
        rows = told if isinstance(told, int) else rows
        told_of_columns = entry.metadata.get("columns")
        for column, numbers in told_of_columns.items() if isinstance(told_of_columns, Mapping) else ():
            if isinstance(numbers, Mapping) and (metrics := _column_metrics(numbers)):
                columns[column] = {**columns.get(column, {}), **metrics}
        if entry.verdict is not None and entry.verdict.check == _NOT_NULL:
            for column, failing in _failing(entry).items():
                columns.setdefault(column, {})["nullCount"] = failing
    if rows is None and not columns:
        return None
    counted = {} if rows is None else {"rowCount": rows}
    return standard("DataQualityMetricsInputDatasetFacet", "1-0-3", **counted, columnMetrics=columns)


_NOT_NULL, _FAILING = "not_null", "failing: "
"""The check whose failing rows are nulls, and how a check's metadata name the failing rows of a column."""
_METRICS = {
    "null_count": "nullCount",
    "nulls": "nullCount",
    "distinct_count": "distinctCount",
    "distinct": "distinctCount",
    "count": "count",
    "sum": "sum",
    "min": "min",
    "max": "max",
}


def _failing(entry: Entry) -> dict[str, int]:
    """Column → rows of it that fail a check, of the columns that the check tells."""
    return {
        name.removeprefix(_FAILING): int(value)
        for name, value in entry.metadata.items()
        if name.startswith(_FAILING) and isinstance(value, int | float)
    }


def _column_metrics(numbers: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, name in _METRICS.items():
        value = numbers.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = int(value) if name in ("nullCount", "distinctCount") else value
    return found


def assertions(verdicts: Sequence[Entry], partition: str | None) -> Facets:
    listed = []
    for entry in verdicts:
        verdict = entry.verdict
        assert verdict is not None
        expected, actual, rest = _expectation(entry)
        params = {**rest, "blocking": verdict.blocking, **({"partition": partition} if partition else {})}
        listed.append(
            {
                "assertion": str(entry.metadata.get("rule") or verdict.check),
                "success": verdict.passed,
                "severity": verdict.severity,
                "name": verdict.check,
                "params": params,
                **_some(expected=expected, actual=actual),
            }
        )
        # A column of its own for each that fails, so that a consumer finds it there.
        listed += [
            {
                "assertion": listed[-1]["assertion"],
                "success": False,
                "severity": verdict.severity,
                "name": f"{verdict.check}: {column}",
                "column": column,
                "actual": f"{failing} rows fail",
                **_some(expected=expected),
            }
            for column, failing in sorted(_failing(entry).items())
            if failing and not verdict.passed
        ]
    return standard("DataQualityAssertionsDatasetFacet", "1-1-0", assertions=listed)


def _expectation(entry: Entry) -> tuple[str, str, dict[str, Any]]:
    """What was expected, what was found, and the rest of what the check tells in numbers and short words."""
    told = dict(entry.metadata)
    expected = told.pop("expected", None)
    actual = next((told.pop(name) for name in ("observed", "actual") if name in told), None)
    verdict = entry.verdict
    assert verdict is not None
    if actual is None:
        actual = verdict.description or None
    rest = {k: v for k, v in told.items() if isinstance(v, int | float | str | bool) and v != ""}
    return _text(expected), _text(actual), rest


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)


def offsets(batches: Mapping[str, Any], namespace: str, name: str) -> Facets:
    """Which batches of a source what was read lay in, and which rows of each.

    Args:
        batches: batch → [first offset, last offset, rows].
        namespace, name: of the source.
    """
    listed = [
        {"batch": batch, "first": span[0], "last": span[1], "rows": span[2]} for batch, span in sorted(batches.items())
    ]
    return custom("OffsetsInputDatasetFacet", source={"namespace": namespace, "name": name}, batches=listed)
