"""Histories of runs, made by hand and at random."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from hypothesis import strategies as st

from backbone.lineage.history import (
    Asset,
    Carried,
    Code,
    ColumnSource,
    Dataset,
    Entry,
    EntryKind,
    Facts,
    Failure,
    RunHistory,
    Tried,
    Verdict,
)

RUN = "3f1c8a52-6f0e-4c5e-9f52-0a3c2a4f7d10"
BEGAN = datetime(2025, 3, 1, 12, tzinfo=UTC)
WINDOW = "2025-02-01|north"
OTHER_WINDOW = "2025-02-02|north"


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def history(*entries: Entry, tags: dict[str, str] | None = None, **more: Any) -> RunHistory:
    return RunHistory(RUN, "pump_serve", BEGAN, entries, tags or {"hybrid/fleet": "pump/north"}, **more)


def entry(kind: EntryKind, seconds: float, step: str | None = None, asset: str | None = None, **more: Any) -> Entry:
    return Entry(kind, at(seconds), step, asset, **more)


def table(name: str, **more: Any) -> Dataset:
    return Dataset("file", f"/stores/on_prem/pump/{name}", layer="delta", **more)


DATASETS = {
    ("pump/telemetry", "north"): table("telemetry"),
    ("pump/condition_features", "north"): table("condition_features"),
    ("pump/prognoses", "north"): table("prognoses"),
    ("pump/advisories", "north"): table("advisories", adds=True),
    ("pump/model_release", "north"): Dataset("file", "/stores/on_prem/pump/registry/north", kind="MODEL", adds=True),
}
ASSETS = {
    "pump/telemetry": Asset("pump/telemetry", windowed=True, columns=({"name": "ts", "type": "timestamp"},)),
    "pump/condition_features": Asset(
        "pump/condition_features",
        description="Statistics.",
        owners=("team:reliability",),
        tags={"hybrid/location": "on_prem"},
        kinds=("python",),
        upstream=("pump/telemetry",),
        windowed=True,
        code=Code("hybrid_assets/features.py", 61, "https://example.org/repo/blob/abc/hybrid_assets/features.py#L61"),
        columns=({"name": "ts", "type": "timestamp"}, {"name": "flow.last", "type": "float"}),
        column_sources={
            "ts": (ColumnSource("pump/telemetry", "ts", "DIRECT", "IDENTITY"),),
            "flow.last": (
                ColumnSource("pump/telemetry", "flow", "DIRECT", "TRANSFORMATION"),
                ColumnSource("pump/maintenance_history", "ts", "INDIRECT", "WINDOW"),
            ),
            "gone": (ColumnSource("pump/telemetry", "ts", "DIRECT", "IDENTITY"),),
            "": (ColumnSource("pump/telemetry", "speed", "INDIRECT", "CONDITIONAL"),),
        },
        contract="condition-features 1.0.0",
        classification="internal",
        retention_days=730,
    ),
    "pump/prognoses": Asset(
        "pump/prognoses",
        upstream=("pump/condition_features", "pump/model_release"),
        windowed=True,
        workload="scoring",
    ),
    "pump/advisories": Asset("pump/advisories", upstream=("pump/prognoses",), windowed=True),
    "pump/model_release": Asset("pump/model_release"),
}
FACTS = Facts(
    "plants",
    assets=ASSETS,
    datasets=DATASETS,
    engine_version="1.13.27",
    product_version="0.1.0",
    secrets=("tell-nobody-1", "hunter2-and-more"),
    crossings=(
        Carried("pump/condition_features", "on_prem:a", "cloud:a", 2, 300, "sha256:" + "0" * 64, at(12)),
        Carried("pump/condition_features", "on_prem:a", "cloud:a", 2, 300, "sha256:" + "1" * 64, at(99)),
    ),
    tries=(
        Tried("scoring", "full", "box", "edge", "edge", at(11), "failed", 1.0, 0.0, 0.1, "it fell over"),
        Tried("scoring", "full", "server", "on_prem", "on_prem", at(12), "succeeded", 2.0, 0.0, 0.2, ""),
        Tried("training", "full", "cloud", "cloud", "cloud", at(12), "succeeded", 2.0, 0.0, 0.2, ""),
    ),
    currency="EUR",
)

_STEPS = {"ingestion": ("pump/telemetry", "pump/quarantine"), "score": ("pump/prognoses",), "checks": ()}
_PARTITIONS = (None, WINDOW, OTHER_WINDOW)
_KINDS: tuple[EntryKind, ...] = get_args(EntryKind)


@st.composite
def _any_entry(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(_KINDS))
    step = draw(st.sampled_from(sorted(_STEPS)))
    asset = draw(st.sampled_from(sorted(ASSETS)))
    failure = draw(st.none() | st.builds(Failure, st.just("Broken"), st.text(max_size=9), st.just(""), st.booleans()))
    metadata: dict[str, Any] = draw(
        st.sampled_from(
            [
                {},
                {"reads": {"/stores/on_prem/pump/telemetry": 3}, "writes": {"/stores/on_prem/pump/prognoses": 4}},
                {"rows": 7, "not_made_because": "no failures"},
                {"HYBRID_HOME": "/home", "HYBRID_API_TOKEN": "tell-nobody-1"},
            ]
        )
    )
    return Entry(
        kind,
        at(draw(st.floats(-5, 50))),
        None if kind.startswith("run_") else step,
        asset if kind in ("planned", "check_planned", "materialized", "observed", "checked") else None,
        draw(st.sampled_from(_PARTITIONS)),
        metadata,
        failure if kind in ("run_failed", "run_cancelled", "step_failed", "step_to_retry", "step_skipped") else None,
        Verdict("in_range", draw(st.booleans()), "error", draw(st.booleans())) if kind == "checked" else None,
        "in_range" if kind == "check_planned" else None,
    )


def any_history() -> st.SearchStrategy[RunHistory]:
    """Any entries in any order, also such as no orchestrator would record: processes die, clocks differ."""
    return st.builds(lambda entries: history(*entries), st.lists(_any_entry(), max_size=30))
