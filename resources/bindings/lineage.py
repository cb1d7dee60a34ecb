"""OpenLineage events of runs that Dagster keeps."""

import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from backbone.lineage.events import Event
from backbone.lineage.history import Asset, Dataset, Facts, RunHistory
from backbone.lineage.naming import dimensions, store_name
from backbone.lineage.translate import translate
from resources.bindings.plants import Plants
from resources.bindings.run_history import history_of, known_assets

NAMESPACE = "hybrid-assets"
"""Namespace of jobs where `OPENLINEAGE_NAMESPACE` names none."""
ROOT = Path(__file__).resolve().parents[2]


def events_of_run(
    instance: dg.DagsterInstance, run_id: str, plants: Plants, *, graph: AssetGraph | None = None
) -> list[Event]:
    """A run's events so far, in the order in which they became known; asked again later, these and perhaps more.

    Args:
        graph: what the definitions say of the assets: `context.repository_def.asset_graph` in a sensor,
            `defs.resolve_asset_graph()` elsewhere. Without it, events lack what only the code tells:
            upstream assets of runs that failed, owners, descriptions, columns.
    """
    history = history_of(instance, run_id)
    if history is None:
        return []
    return translate(history, facts_of(history, plants, _assets(graph) if graph is not None else {}))


@cache
def _assets(graph: AssetGraph) -> dict[str, Asset]:
    return known_assets(graph, root=ROOT, version=version("hybrid-assets"))


def facts_of(history: RunHistory, plants: Plants, assets: Mapping[str, Asset]) -> Facts:
    """What is known of a run outside of its own record."""
    return Facts(
        namespace=os.environ.get("OPENLINEAGE_NAMESPACE") or NAMESPACE,
        assets=assets,
        datasets=_datasets(history, plants, assets),
        engine_version=version("dagster"),
        product_version=version("hybrid-assets"),
    )


_DOCUMENTS = {"operating_baseline": "FILE", "trained_model": "MODEL", "model_evaluation": "FILE"}


def _datasets(history: RunHistory, plants: Plants, assets: Mapping[str, Asset]) -> dict[tuple[str, str], Dataset]:
    """Where the bytes of every asset of the run lie, and those of what it is made from."""
    keys = {e.asset for e in history.entries if e.asset} | {
        up for e in history.entries if e.asset in assets for up in assets[e.asset].upstream
    }
    partitions = {e.partition for e in history.entries if e.partition}
    sites = {dimensions(p)["site"] for p in partitions} & set(plants.catalog.sites)
    fleet_site = history.tags.get("hybrid/fleet", "").rpartition("/")[2]
    if not sites and fleet_site in plants.catalog.sites:
        sites = {fleet_site}
    sites = sites or set(plants.catalog.sites)
    return {(key, site): _dataset(plants, key, site) for key in sorted(keys) for site in sorted(sites)}


def _dataset(plants: Plants, key: str, site: str) -> Dataset:
    equipment_class, _, name = key.partition("/")
    root = str(plants.plant(site).root("on_prem").resolve())
    if name in _DOCUMENTS:
        where = store_name(root, f"{equipment_class}/{name}/{site}")
        return Dataset(*where, kind=_DOCUMENTS[name], layer="file", format="json")
    if name == "model_release":
        where = store_name(root, f"{equipment_class}/registry/{site}")
        return Dataset(*where, kind="MODEL", layer="file", format="onnx")
    return Dataset(*store_name(root, f"{equipment_class}/{name}"), kind="TABLE", layer="delta", format="parquet")


def runless_events(instance: dg.DagsterInstance, plants: Plants, *, graph: Any = None) -> list[Event]:  # noqa: ARG001
    """Events of what happened outside of runs: none so far."""
    return []
