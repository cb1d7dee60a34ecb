"""The story of one run as plain records: what an orchestrator tells, without the orchestrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

EntryKind = Literal[
    "planned",
    "check_planned",
    "run_started",
    "run_succeeded",
    "run_failed",
    "run_cancelled",
    "step_started",
    "step_succeeded",
    "step_failed",
    "step_to_retry",
    "step_skipped",
    "materialized",
    "observed",
    "checked",
    "environment",
]


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, in its own words.

    Attributes:
        kind: class of the error, such as `StorageFull`.
        stack: as the language prints it; empty where there is none.
        interrupted: the work was stopped from outside and did not fail by itself.
    """

    kind: str
    message: str
    stack: str = ""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check said of one asset's partition.

    Attributes:
        severity: `error` or `warning`.
        blocking: what depends on the asset does not run where the check fails.
    """

    check: str
    passed: bool
    severity: str
    blocking: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. What a kind does not have is None.

    Attributes:
        at: when, UTC.
        asset: its key as text, `pump/telemetry`.
        metadata: plain JSON values: what an asset or a check told of itself; of `environment`, the variables that a
            process of the run had, secrets taken out.
    """

    kind: EntryKind
    at: datetime
    step: str | None = None
    asset: str | None = None
    partition: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    verdict: Verdict | None = None
    check: str | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """Where something is written.

    Attributes:
        path: relative to the root of the code.
        url: of that place: in its repository, where that is known, else of the file.
        version: a revision, or the release of the product.
    """

    path: str
    line: int
    url: str
    repository: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """A column that another one is made from, with the standard's words for how.

    Attributes:
        asset: whose column it is.
        kind: DIRECT (its values go in) or INDIRECT (it decides which do).
        how: IDENTITY, TRANSFORMATION, AGGREGATION; or JOIN, FILTER, SORT, WINDOW, CONDITIONAL.
    """

    asset: str
    column: str
    kind: str
    how: str


@dataclass(frozen=True, slots=True)
class Asset:
    """What is known of an asset beforehand.

    Attributes:
        upstream: keys of what it is made from.
        windowed: its partitions are windows; else sites.
        workload: what sites call the work of it; empty: it is placed nowhere.
        columns: as the standard's schema facet has them, `name`, `type` and perhaps `description`.
        column_sources: column → what it is made from; under the empty name what decides on all of them.
        contract: identifier and version of its contract; empty: it has none.
        retention_days, latency_s, completeness: what that promises.
    """

    key: str
    description: str = ""
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    windowed: bool = False
    workload: str = ""
    code: Code | None = None
    code_version: str = ""
    columns: tuple[Mapping[str, str], ...] = ()
    column_sources: Mapping[str, tuple[ColumnSource, ...]] = field(default_factory=dict)
    contract: str = ""
    classification: str = ""
    retention_days: int | None = None
    latency_s: float | None = None
    completeness: float | None = None


@dataclass(frozen=True, slots=True)
class Backfill:
    """Runs over many partitions that were asked for at once.

    Attributes:
        ended: None while it goes on; then `outcome` says how: COMPLETE, FAIL or ABORT.
    """

    id: str
    began: datetime
    ended: datetime | None = None
    outcome: Literal["COMPLETE", "FAIL", "ABORT"] = "COMPLETE"
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class RunHistory:
    """One run, so far.

    Attributes:
        entries: in the order they were recorded; a longer history of the same run begins with the same entries.
        parent, root: (run id, job) of the run it goes on from, and of the first of them all; None: it is the first.
        settings: its configuration, as plain JSON.
        tags: as the orchestrator keeps them.
        backfill: what it is a part of; it stands above every run that goes on from no other.
    """

    run_id: str
    job: str
    created: datetime
    entries: tuple[Entry, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: tuple[str, str] | None = None
    root: tuple[str, str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    backfill: Backfill | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Where the bytes of an asset lie, by the naming specification of OpenLineage.

    Attributes:
        kind: TABLE, MODEL, FILE or TOPIC.
        layer, format: of the storage, such as `delta` and `parquet`.
        adds: what is written joins what is there, and takes the place of nothing.
        made_from: (namespace, name) of what feeds it outside of any run.
    """

    namespace: str
    name: str
    kind: str = "TABLE"
    layer: str = "file"
    format: str = "parquet"
    adds: bool = False
    made_from: tuple[str, str] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Carried:
    """A crossing of a conduit: what went where, with the digest of the bytes that arrived."""

    what: str
    source: str
    destination: str
    files: int
    size_bytes: int
    digest: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Tried:
    """One try of an asset's work at a target, and why there.

    Attributes:
        state: `running`, `succeeded` or `failed`; `why` says why it failed.
        candidates: every target that was weighed: `target`, `location`, `alternative`, `rank`, `rejected`.
    """

    workload: str
    alternative: str
    target: str
    location: str
    location_kind: str
    began: datetime
    state: str
    seconds: float | None
    moved_gb: float
    cost: float
    why: str
    candidates: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run and its plant outside the run's own history.

    Attributes:
        namespace: of jobs and of asset keys.
        assets: by key.
        datasets: (asset, site) → where it lies.
        versions: of the orchestrator and of this product.
        secrets: values that must not be told.
        currency: of a site's costs.
    """

    namespace: str
    assets: Mapping[str, Asset] = field(default_factory=dict)
    datasets: Mapping[tuple[str, str], Dataset] = field(default_factory=dict)
    engine: str = "Dagster"
    engine_version: str = ""
    product_version: str = ""
    secrets: tuple[str, ...] = ()
    crossings: tuple[Carried, ...] = ()
    tries: tuple[Tried, ...] = ()
    currency: str = ""
