"""Features as assets: the operating baseline of a plant, and each window's condition features."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from hybrid_assets.fleet import Fleet
from resources.bindings.plants import Plants


def feature_assets(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """`operating_baseline` (by site) and `condition_features` (by window)."""

    @fleet.by_site(
        "operating_baseline",
        fleet.spec(
            "operating_baseline",
            "Operating regimes found in the settings, and the level and scale of every sensor in each.",
            deps=fleet.same_site("telemetry"),
            kinds={"python", "json"},
            location="on_prem",
        ),
    )
    def operating_baseline(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        from hybrid_assets.features import fit_operating_baseline

        return fit_operating_baseline(context, plants, fleet)

    @fleet.by_window(
        "condition_features",
        fleet.spec(
            "condition_features",
            "Causal statistics of every sensor against the operating baseline, one row a reading.",
            deps=[*fleet.same_window("telemetry", "maintenance_history"), *fleet.same_site("operating_baseline")],
            kinds={"python", "deltalake"},
            location="on_prem",
            freshness=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=48)),
        ),
    )
    def condition_features(context: dg.AssetExecutionContext, plants: Plants) -> Iterator[dg.MaterializeResult]:
        from hybrid_assets.features import compute_condition_features

        yield from compute_condition_features(context, plants, fleet)

    return [operating_baseline, condition_features]
