"""Ingestion as assets: telemetry, maintenance history and what was refused."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from hybrid_assets.fleet import Fleet
from resources.bindings.plants import Plants


def ingestion_assets(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """`telemetry`, `telemetry_quarantine` and `maintenance_history` of a class, stored in one step."""
    contract = fleet.equipment_class.contract
    stored = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=48), warn_window=timedelta(hours=26))
    specs = [
        fleet.spec(
            "telemetry",
            f"Readings of every {fleet.name} that hold the contract {contract.name} {contract.version}, each once.",
            kinds={"deltalake"},
            location="on_prem",
            freshness=stored,
        ),
        fleet.spec(
            "telemetry_quarantine",
            "Rows and batches that were refused, with the reason and what was sent. Nothing is thrown away.",
            kinds={"deltalake"},
            location="on_prem",
        ),
        fleet.spec(
            "maintenance_history",
            "Failures and renewals, as the maintenance system records them; they end the lives of machines.",
            kinds={"deltalake"},
            location="on_prem",
        ),
    ]

    @fleet.by_window("ingestion", *specs)
    def ingestion(context: dg.AssetExecutionContext, plants: Plants) -> Iterator[dg.MaterializeResult]:
        from hybrid_assets.ingestion import ingest

        yield from ingest(context, plants, fleet)

    return [ingestion]
