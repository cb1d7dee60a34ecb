"""Dead letters as an asset: what the gateways of a class's plants acknowledged without being able to use it."""

import dagster as dg

from hybrid_assets.fleet import Fleet
from resources.bindings.plants import Plants


def dead_letter_assets(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """`dead_letters`, by site, of those that have a gateway for the class."""

    @fleet.by_site(
        "dead_letter_count",
        fleet.spec(
            "dead_letters",
            "What the plant's gateways took in beside telemetry and could not use, by day, source and reason.",
            # Of all sites: Dagster maps a window to its site only where the sites on both sides are the same.
            deps=[dg.AssetDep(fleet.key("telemetry"), partition_mapping=dg.AllPartitionMapping())],
            kinds={"deltalake"},
            location="on_prem",
        ),
        partitions_def=fleet.plants_with_gateway,
        pool="dead_letters",
    )
    def dead_letters(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        from hybrid_assets.dead_letters import tell_dead_letters

        return tell_dead_letters(context, plants, fleet)

    return [dead_letters]
