"""Every rule of every contract as an asset check: what was found of each window, with its numbers, in the UI."""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from backbone.contracts import Contract, WindowRule
from backbone.sites import Site
from quality.judged import JUDGED, OF_SITES
from resources.bindings.plants import Plants

Evaluated = dg.AssetCheckEvaluation | dg.Output[None]


def window_checks(
    equipment_class: str,
    contracts: Mapping[str, Contract],
    sites: Sequence[Site],
    windows: dg.PartitionsDefinition,
    *,
    cap: float,
) -> dg.AssetChecksDefinition:
    """The checks of all windows of a class, made in one step: one a rule and asset, for each window of the run.

    Args:
        contracts: asset → its contract; those whose windows are not judged are left out.
        windows: the partitions of the assets, site × day.
        cap: the longest remaining useful life that a prognosis can be of.
    """
    checked = {name: contracts[name] for name in JUDGED if name in contracts}
    specs = [
        _spec(equipment_class, name, contract, rule, windows)
        for name, contract in checked.items()
        for rule in contract.rules
    ]

    @dg.multi_asset_check(
        name=f"{equipment_class}_window_checks",
        specs=specs,
        can_subset=True,
        description="Holds windows to the contracts of their data products, by Great Expectations.",
    )
    def quality(context: dg.AssetCheckExecutionContext, plants: Plants) -> Iterator[Evaluated]:
        from quality.evaluations import evaluated

        yield from evaluated(context, plants, equipment_class, checked, specs, sites, cap=cap)

    return quality


def checks_by_product(equipment_class: str, contracts: Mapping[str, Contract]) -> dict[str, list[dg.AssetCheckKey]]:
    """Product → its checks, of the products whose windows are judged."""
    checked = [(name, contracts[name]) for name in JUDGED if name in contracts]
    return {name: [check_key(equipment_class, name, rule) for rule in contract.rules] for name, contract in checked}


def asset_key(equipment_class: str, product: str) -> dg.AssetKey:
    """Of a product of a class."""
    return dg.AssetKey([equipment_class, product])


def check_key(equipment_class: str, product: str, rule: WindowRule) -> dg.AssetCheckKey:
    """Of a rule that a product of a class is held to."""
    return dg.AssetCheckKey(asset_key(equipment_class, product), rule.kind)


def _spec(
    equipment_class: str, product: str, contract: Contract, rule: WindowRule, windows: dg.PartitionsDefinition
) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name=rule.kind,
        asset=asset_key(equipment_class, product),
        description=rule.description,
        # A run over windows has no partitions that are sites.
        partitions_def=None if product in OF_SITES else windows,
        metadata={
            "severity": rule.severity,
            "dimension": rule.dimension,
            "contract": f"{contract.name} {contract.version}",
            **{name: value for name, value in rule.parameters.items() if isinstance(value, int | float)},
        },
    )
