"""OpenLineage events of runs that Dagster keeps."""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC
from functools import cache
from importlib.metadata import version
from pathlib import Path

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from backbone.contracts import Contract, schema_fields
from backbone.lineage.events import Event
from backbone.lineage.history import Asset, Carried, Dataset, Facts, RunHistory, Tried
from backbone.lineage.naming import dimensions, source_name, store_name
from backbone.lineage.secrets import is_secret_name
from backbone.lineage.translate import translate, translate_backfill
from backbone.sites import Site
from resources.bindings.partitions import FLEET
from resources.bindings.plants import Plants
from resources.bindings.run_history import REPORTED, backfills_of, history_of, known_assets, reported
from resources.plant import MAINTENANCE, Plant

NAMESPACE = "hybrid-assets"
"""Namespace of jobs where `OPENLINEAGE_NAMESPACE` names none."""
REPOSITORY = "HYBRID_REPOSITORY_URL"
"""Variable that names the repository of the code, so that consumers can follow a job to its lines."""
ROOT = Path(__file__).resolve().parents[2]


def events_of_run(
    instance: dg.DagsterInstance, run_id: str, plants: Plants, *, graph: AssetGraph | None = None
) -> list[Event]:
    """A run's events so far, in the order in which they became known; asked again later, these and perhaps more.

    Args:
        graph: what the definitions say of the assets: `context.repository_def.asset_graph` in a sensor,
            `defs.resolve_asset_graph()` elsewhere. Without it, events lack what only the code tells:
            what a run that failed should have read, owners, descriptions, columns.
    """
    history = history_of(instance, run_id)
    if history is None:
        return []
    return translate(history, facts_of(history, plants, _assets(graph) if graph is not None else {}))


@cache
def _assets(graph: AssetGraph) -> dict[str, Asset]:
    repository = os.environ.get(REPOSITORY, "").rstrip("/")
    return known_assets(graph, root=ROOT, repository=repository, revision=_revision())


@cache
def _revision() -> str:
    """Of the code, where it lies in a repository; else the release of the product."""
    git = ROOT / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).exists():
            return (git / name).read_text(encoding="utf-8").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next(line.split()[0] for line in packed if line.endswith(f" {name}"))
    except (OSError, StopIteration):
        return version("hybrid-assets")


def facts_of(history: RunHistory, plants: Plants, assets: Mapping[str, Asset]) -> Facts:
    """What is known of a run outside of its own record."""
    classes = {e.asset.partition("/")[0] for e in history.entries if e.asset}
    sites = _sites(history, plants)
    known = {key: _promised(asset, plants.catalog.contracts) for key, asset in assets.items()}
    for equipment_class in classes:
        known |= _landing_assets(equipment_class, known, plants.catalog.contracts)
    keys = {key for key in known if key.partition("/")[0] in classes} | {e.asset for e in history.entries if e.asset}
    ledgers = sites if history.job != REPORTED else []
    works = [work for site in ledgers for work in plants.plant(site.name).works.all(run_id=history.run_id)]
    crossings = plants.plant(sites[0].name).state.crossings(history.run_id) if ledgers else []
    return replace(
        _bare_facts(),
        assets=known,
        datasets={
            (key, site.name): dataset
            for site in sites
            for key in sorted(keys)
            if (dataset := _dataset(plants.plant(site.name), key)) is not None
        },
        secrets=_secrets(sites),
        crossings=tuple(
            Carried(c.what, str(c.source), str(c.destination), c.files, c.size_bytes, c.digest, c.at.astimezone(UTC))
            for c in crossings
        ),
        tries=tuple(
            Tried(
                workload=w.workload,
                alternative=w.alternative,
                target=w.target,
                location=w.location,
                location_kind=w.location_kind,
                began=w.began.astimezone(UTC),
                state=w.state,
                seconds=w.seconds,
                moved_gb=w.moved_gb,
                cost=w.cost,
                why=w.why,
                candidates=tuple(w.placement.get("candidates", ())),
            )
            for w in works
        ),
        currency=sites[0].currency if len(sites) == 1 else "",
    )


def _bare_facts() -> Facts:
    """What holds for every event of this installation."""
    return Facts(
        namespace=os.environ.get("OPENLINEAGE_NAMESPACE") or NAMESPACE,
        engine_version=version("dagster"),
        product_version=version("hybrid-assets"),
    )


def _sites(history: RunHistory, plants: Plants) -> list[Site]:
    """The sites a run is of; all of them where it does not say."""
    known = plants.catalog.sites
    named = {dimensions(e.partition)["site"] for e in history.entries if e.partition}
    named.add(history.tags.get(FLEET, "").rpartition("/")[2])
    return [site for name, site in sorted(known.items()) if name in named] or list(known.values())


def _secrets(sites: list[Site]) -> tuple[str, ...]:
    """Values of variables and of sites' settings whose names are a secret's."""
    found = {value for name, value in os.environ.items() if is_secret_name(name)}
    for site in sites:
        for settings in (*(f.settings for f in site.fleets), *(t.settings for t in site.targets)):
            found |= {v for k, v in settings.items() if isinstance(v, str) and is_secret_name(k)}
    return tuple(sorted(found))


# ---- contracts
def _promised(asset: Asset, contracts: Mapping[str, Contract]) -> Asset:
    """An asset with the service levels of its contract."""
    contract = _contract_of(asset.key, contracts)
    if contract is None:
        return asset
    return replace(
        asset,
        retention_days=contract.retention_days,
        latency_s=contract.latency_s,
        completeness=contract.completeness,
        classification=asset.classification or contract.classification,
        contract=asset.contract or f"{contract.id} {contract.version}",
    )


def _contract_of(key: str, contracts: Mapping[str, Contract]) -> Contract | None:
    equipment_class, _, product = key.partition("/")
    if product == "telemetry":
        return contracts.get(equipment_class)
    return next((c for c in contracts.values() if c.product == product), None)


# ---- what no asset is: the landing, and the source behind it
LANDED = {"telemetry": "telemetry", "maintenance": "maintenance_history"}
"""Stream of the landing → the asset its rows become; those that are refused go to quarantine."""


def landing_key(equipment_class: str, stream: str) -> str:
    return f"{equipment_class}/landing/{stream}"


def _landing_assets(
    equipment_class: str, known: Mapping[str, Asset], contracts: Mapping[str, Contract]
) -> dict[str, Asset]:
    """The landing's streams as assets, and the assets of ingestion as made from them."""
    found = {}
    for stream in LANDED:
        contract = contracts.get(equipment_class if stream == "telemetry" else MAINTENANCE)
        found[landing_key(equipment_class, stream)] = Asset(
            landing_key(equipment_class, stream),
            description=f"What the edge has taken up of {stream}, as it was sent.",
            windowed=True,
            columns=tuple(schema_fields(contract)) if contract is not None else (),
        )
    makes: dict[str, tuple[str, ...]] = {
        f"{equipment_class}/{asset}": (landing_key(equipment_class, s),) for s, asset in LANDED.items()
    }
    letters = landing_key(equipment_class, "dead_letters")
    if f"{equipment_class}/dead_letters" in known:
        found[letters] = Asset(letters, description="What gateways acknowledged and could not use, as it was sent.")
        makes[f"{equipment_class}/dead_letters"] = (letters,)
    makes[f"{equipment_class}/telemetry_quarantine"] = tuple(landing_key(equipment_class, s) for s in LANDED)
    return found | {key: replace(known[key], upstream=ups) for key, ups in makes.items() if key in known}


# ---- where bytes lie
_DOCUMENTS = {"operating_baseline": "FILE", "trained_model": "MODEL", "model_evaluation": "FILE"}


def _dataset(plant: Plant, key: str) -> Dataset | None:
    """Where an asset's bytes lie at a site; None where the site has no such class."""
    equipment_class, _, name = key.partition("/")
    site = plant.site
    if equipment_class not in site.classes:
        return None
    if name.startswith("landing/"):
        fleet = site.fleet(equipment_class)
        folder = plant.catalog.home.drop_folder(site.name, equipment_class)
        source = source_name(fleet.source, fleet.settings, f"{site.name}/{equipment_class}", str(folder))
        edge, stream = plant.root("edge"), name.removeprefix("landing/")
        path = f"{equipment_class}/landing/{site.name}/{stream}"
        if stream == "dead_letters":  # of all classes of the site
            path = plant.dead_letters().path.relative_to(edge).as_posix()
        where = store_name(str(edge.resolve()), path)
        return Dataset(*where, layer="delta", adds=True, made_from=source)
    root = str(plant.root("on_prem").resolve())
    if name in _DOCUMENTS:
        where = store_name(root, f"{equipment_class}/{name}/{site.name}")
        return Dataset(*where, kind=_DOCUMENTS[name], format="json", adds=True)
    if name == "model_release":
        where = store_name(root, f"{equipment_class}/registry/{site.name}")
        return Dataset(*where, kind="MODEL", format="onnx", adds=True)
    return Dataset(*store_name(root, f"{equipment_class}/{name}"), layer="delta", adds=name == "advisories")


def runless_events(instance: dg.DagsterInstance, plants: Plants, *, graph: AssetGraph | None = None) -> list[Event]:
    """Events of what happened outside of runs: backfills, and what people or other systems reported; the newest."""
    assets = _assets(graph) if graph is not None else {}
    found = []
    for history in backfills_of(instance):
        found += translate_backfill(history, _bare_facts())
    for history in reported(instance):
        found += translate(history, facts_of(history, plants, assets))
    return found
