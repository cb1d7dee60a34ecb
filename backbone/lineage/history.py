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
        metadata: plain JSON values: what an asset or a check told of itself.
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
    """Where something is written. `path` is relative to the root of the code; `version` is a revision or a release."""

    path: str
    line: int
    repository: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Asset:
    """What is known of an asset beforehand.

    Attributes:
        upstream: keys of the assets it is made from.
        columns: (name, type, description, unit) in order, as its contract has them; empty: it is no table.
        contract: `name version` of the contract it holds; empty: none.
        classification, retention_days: of its data.
    """

    key: str
    description: str = ""
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    group: str = ""
    upstream: tuple[str, ...] = ()
    code: Code | None = None
    code_version: str = ""
    columns: tuple[tuple[str, str, str, str], ...] = ()
    contract: str = ""
    classification: str = ""
    retention_days: int | None = None


@dataclass(frozen=True, slots=True)
class RunHistory:
    """One run, so far.

    Attributes:
        entries: in the order they were recorded; a longer history of the same run begins with the same entries.
        parent, root: (run id, job) of the run it goes on from, and of the first of them all; None: it is the first.
        settings: its configuration, as plain JSON.
        made_by_step: step → keys of the assets it makes, also those it has not come to.
    """

    run_id: str
    job: str
    created: datetime
    entries: tuple[Entry, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: tuple[str, str] | None = None
    root: tuple[str, str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Where the bytes of an asset lie, by the naming specification of OpenLineage.

    Attributes:
        kind: TABLE, MODEL, FILE, TOPIC.
        layer, format: of the storage, such as `delta` and `parquet`.
        subset: partition columns that a partition's values go by, such as (`site`, `date`).
    """

    namespace: str
    name: str
    kind: str = "TABLE"
    layer: str = ""
    format: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run and its plant outside the run's own history.

    Attributes:
        namespace: of jobs and of asset keys.
        assets: by key.
        datasets: (asset, site) → where it lies.
        engine, engine_version: of the orchestrator.
        product_version: of this product.
        environment: variables worth telling, already without secrets.
        site_of: name of a site → its partition.
    """

    namespace: str
    assets: Mapping[str, Asset] = field(default_factory=dict)
    datasets: Mapping[tuple[str, str], Dataset] = field(default_factory=dict)
    engine: str = "Dagster"
    engine_version: str = ""
    product_version: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    crossings: tuple[Mapping[str, Any], ...] = ()
    placements: tuple[Mapping[str, Any], ...] = ()
