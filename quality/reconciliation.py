"""Accepted = stored + quarantined, for every window that was ingested."""

from collections import Counter
from collections.abc import Sequence
from datetime import date

import dagster as dg

from backbone.sites import Site
from backbone.sources import Stream
from resources.bindings.plants import Plants
from resources.plant import Plant

STREAMS: tuple[Stream, ...] = ("telemetry", "maintenance")
STORED = ("telemetry", "maintenance_history", "telemetry_quarantine")


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


def reconcile(plant: Plant, equipment_class: str) -> list[tuple[date, int, int]]:
    """(day, rows accepted at the edge, rows stored or quarantined) of every window ingested as it now stands."""
    progress = plant.progress(equipment_class)
    current = {day for day, fingerprint in progress.ingested.items() if progress.landed.get(day) == fingerprint}
    landing = plant.landing(equipment_class)
    accepted: Counter[date] = Counter()
    for stream in STREAMS:
        accepted.update(landing.counts(stream))
    kept: Counter[date] = Counter()
    for name in STORED:
        kept.update(plant.table(equipment_class, name).rows_by_day(plant.site.name))
    return [(day, accepted[day], kept[day]) for day in sorted(current)]
