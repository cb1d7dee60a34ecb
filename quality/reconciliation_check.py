"""Every row that was accepted is somewhere: one asset check over all windows of a class."""

from collections.abc import Sequence

import dagster as dg

from backbone.sites import Site
from resources.bindings.plants import Plants


def reconciliation_check(equipment_class: str, sites: Sequence[Site]) -> dg.AssetChecksDefinition:
    """An asset check over all ingested windows of a class; each side is counted by the table that keeps it.

    Windows for which more has landed since are left out: they are due to be ingested again.
    """

    @dg.asset_check(
        asset=dg.AssetKey([equipment_class, "telemetry"]),
        name="accepted_equals_stored_plus_quarantined",
        description="Every row the edge accepted is stored or quarantined, and none of them twice.",
    )
    def accepted_equals_stored_plus_quarantined(plants: Plants) -> dg.AssetCheckResult:
        from quality.reconciliation import reconcile

        accepted, kept, wrong = 0, 0, []
        for site in sites:
            for day, landed, stored in reconcile(plants.plant(site.name), equipment_class):
                accepted, kept = accepted + landed, kept + stored
                if landed != stored:
                    wrong.append(f"{site.name} {day}: {landed} accepted, {stored} kept")
        return dg.AssetCheckResult(
            passed=not wrong,
            metadata={"accepted": accepted, "kept": kept, "windows_wrong": len(wrong), "examples": wrong[:10]},
            description="; ".join(wrong[:3]) or None,
        )

    return accepted_equals_stored_plus_quarantined
