"""`hybrid place`: where an asset's work would run now, and why nowhere else."""

from __future__ import annotations

from backbone.errors import TargetFailed, UnknownName
from cli.as_it_stands import PlantAsItStands
from cli.reporting import Report
from resources.dispatch import alternatives_of
from resources.home import Home
from resources.plant import Catalog


def explain(asset: str, site: str, *, as_json: bool) -> None:
    """Place the work of an asset as things stand now; nothing is started, and nothing is made.

    Args:
        asset: `class/asset`, the asset's bare name, or the name of a workload or of one of its alternatives.

    Raises:
        UnknownName: there is no such site, or nothing of that name is placed; lists what is.
        TargetFailed: there is nowhere to run it now; the whole table was printed.
    """
    plant, report = PlantAsItStands(Catalog(Home.from_environment()), site), Report(as_json=as_json)
    workload, alternative = _work(asset, alternatives_of(plant.site))
    placement = plant.dispatcher.place(workload, alternative=alternative)
    if plant.untouched is not None:
        report.note(plant.untouched)
    document = {"site": site, "asset": asset, "currency": plant.site.currency, **placement.to_dict()}
    report.result(document, [*placement.table(), f"costs are in {plant.site.currency}"])
    if placement.chosen is None:
        raise TargetFailed(
            f"No target can take {alternative or workload} now.",
            next_step="Wait for what is blocked, or change the site's [workloads] or [[targets]].",
        )


def _work(asset: str, workloads: dict[str, str]) -> tuple[str, str | None]:
    """The workload, and which of its alternatives alone is asked for."""
    if asset in workloads:
        return workloads[asset], None if workloads[asset] == asset else asset
    from hybrid_assets.definitions import defs
    from resources.bindings.asset_metadata import WORKLOAD

    placed = {s.key.to_user_string(): s.tags[WORKLOAD] for s in defs.resolve_all_asset_specs() if WORKLOAD in s.tags}
    bare = {key.rpartition("/")[2]: workload for key, workload in placed.items()}
    if asset not in placed | bare:
        raise UnknownName(
            "workload, or asset whose work is placed,",
            asset,
            placed | bare | workloads,
            next_step="All other assets run on premises.",
        )
    return (placed | bare)[asset], None
