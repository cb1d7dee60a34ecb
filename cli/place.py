"""`hybrid place`: where an asset's work would run now, and why nowhere else."""

from __future__ import annotations

from backbone.errors import UnknownName
from backbone.placement import NoCandidate
from backbone.requirements import WORKLOADS
from cli.reporting import Report
from resources.home import Home
from resources.plant import Catalog, Plant


def explain(asset: str, site: str, *, as_json: bool) -> None:
    """Place the work of an asset as things stand now; nothing is started.

    Args:
        asset: `class/asset`, the asset's bare name, or the name of a workload.

    Raises:
        UnknownName: there is no such site, or nothing of that name is placed; lists what is.
        NoCandidate: there is nowhere to run it now; its text is the whole table.
    """
    plant = Plant(Catalog(Home.from_environment()), site)
    placement = plant.dispatcher.place(_workload(asset))
    document = {"site": site, "asset": asset, "currency": plant.site.currency, **placement.to_dict()}
    Report(as_json=as_json).result(document, [*placement.table(), f"costs are in {plant.site.currency}"])
    if placement.chosen is None:
        raise NoCandidate(placement)


def _workload(asset: str) -> str:
    if asset in WORKLOADS:
        return asset
    from hybrid_assets.definitions import defs
    from hybrid_assets.fleet import WORKLOAD

    placed = {s.key.to_user_string(): s.tags[WORKLOAD] for s in defs.resolve_all_asset_specs() if WORKLOAD in s.tags}
    bare = {key.rpartition("/")[2]: workload for key, workload in placed.items()}
    if asset not in placed | bare:
        raise UnknownName("asset whose work is placed", asset, placed | bare, next_step="All others run on premises.")
    return (placed | bare)[asset]
