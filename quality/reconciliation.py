"""Accepted = stored + quarantined, for every window that was ingested."""

from __future__ import annotations

from collections import Counter
from datetime import date

from backbone.sources import Stream
from resources.plant import Plant

STREAMS: tuple[Stream, ...] = ("telemetry", "maintenance")
STORED = ("telemetry", "maintenance_history", "telemetry_quarantine")


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
