"""Advice as assets: the better available answer for every machine, and what to do first."""

from datetime import timedelta

import dagster as dg

from hybrid_assets.fleet import Fleet
from resources.bindings.plants import Plants


def advisory_assets(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """`advisories` and `maintenance_plan`, by window."""
    cls = fleet.equipment_class
    served = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=48), warn_window=timedelta(hours=26))

    @fleet.by_window(
        "advisories",
        fleet.spec(
            "advisories",
            "What every machine needs by when, and who says so: the model, else the rules, else a safe default.",
            deps=fleet.same_window("prognoses", "rule_assessments"),
            kinds={"python", "deltalake"},
            location="on_prem",
            freshness=served,
        ),
    )
    def advisories(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        from hybrid_assets.advisories import give_advisories

        return give_advisories(context, plants, fleet)

    @fleet.by_window(
        "maintenance_plan",
        fleet.spec(
            "maintenance_plan",
            f"Work ranked by urgency, with its cost now and the expected cost of waiting ({cls.cost.currency}).",
            deps=fleet.same_window("advisories"),
            kinds={"python", "deltalake"},
            location="on_prem",
        ),
    )
    def maintenance_plan(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        from hybrid_assets.advisories import rank_work

        return rank_work(context, plants, fleet)

    return [advisories, maintenance_plan]
