"""Takes up what a plant's source has to give, and lands it. The gateway takes this over where it runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from resources.landing import Receipt
from resources.plant import Plant

BATCHES_A_COMMIT = 64
"""A long history is landed in few commits; a crash repeats no more than this many batches."""


@dataclass(frozen=True, slots=True)
class Landed:
    """One batch that was taken up just now."""

    stream: str
    origin: str
    receipt: Receipt


def due_until(plant: Plant, equipment_class: str, now: datetime) -> date:
    """The last day whose readings are due.

    A plant that only replays hands over its history at once, then a day every `day_s` seconds; any other
    plant is due up to today, or to the end of its calendar.
    """
    site = plant.site
    today = min(now.date(), site.last_day or now.date())
    if site.replay_until is None:
        return today
    position = plant.state.position(site.name, equipment_class)
    landed = plant.landing(equipment_class).fingerprints()
    if position is None or not landed or max(landed) < site.replay_until:
        return min(site.replay_until, today)
    waited_s = (now - position[1]).total_seconds()
    arrived = site.day_s is not None and waited_s >= site.day_s
    return min(max(landed) + timedelta(days=1 if arrived else 0), today)


def collect(plant: Plant, equipment_class: str, *, until: date, now: datetime) -> Iterator[Landed]:
    """Land every batch that is due, oldest first.

    A crash between landing a batch and noting the position repeats that batch, which then has no effect.
    """
    landing, state, site = plant.landing(equipment_class), plant.state, plant.site.name
    source = plant.source(equipment_class)
    held = state.position(site, equipment_class)
    batches = source.batches(held[0] if held else None, until)
    while some := list(itertools.islice(batches, BATCHES_A_COMMIT)):
        receipts = landing.take_up(some)
        for batch in some:
            source.taken_up(batch)
        state.set_position(site, equipment_class, some[-1].position, now)
        for batch, receipt in zip(some, receipts, strict=True):
            if receipt.new:
                yield Landed(batch.stream, batch.origin, receipt)
