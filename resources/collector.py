"""Takes up what a plant's source has to give, and lands it. The gateway takes this over where it runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from resources.plant import Plant
from resources.stores.durable import confirm, take_back_torn
from resources.stores.tables import storage_errors

if TYPE_CHECKING:
    from resources.landing import Receipt

BATCHES_A_COMMIT = 64
"""A long history is landed in few commits; a crash repeats no more than this many batches."""


@dataclass(frozen=True, slots=True)
class Landed:
    """One batch that was taken up just now."""

    stream: str
    origin: str
    receipt: Receipt


def due_until(plant: Plant, equipment_class: str, now: datetime) -> datetime:
    """Up to when readings are due: now, or for a commissioned plant with `day_s`, ahead of it up to midnight."""
    site = plant.site
    if site.day_s is None:
        return now
    position = plant.state.position(site.name, equipment_class)
    midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    commissioned = plant.baselines(equipment_class).current() is not None
    if position is None or position[1].date() < now.date() or not commissioned:
        return now
    last_s = (now - position[1]).total_seconds()
    reached = max(now, _reached(position[0], now))
    return min(reached + timedelta(days=last_s / site.day_s), midnight)


def _reached(position: str | None, now: datetime) -> datetime:
    """The instant a replaying source has come to, where its position is one."""
    try:
        reached = datetime.fromisoformat(position or "")
    except ValueError:
        return now
    return reached if reached.tzinfo else reached.replace(tzinfo=UTC)


def collect(plant: Plant, equipment_class: str, *, until: datetime, now: datetime) -> Iterator[Landed]:
    """Land every batch that is due, oldest first.

    A crash between landing a batch and noting the position repeats that batch, which then has no effect. A source may
    hand over more than was asked for, as one that takes whole files: what is later than `until`, but not than `now`, is
    good.
    """
    landing, state, site = plant.landing(equipment_class), plant.state, plant.site.name
    source = plant.source(equipment_class)
    held = state.position(site, equipment_class)
    batches = source.batches(held[0] if held else None, until)
    looked_at = set[Path]()
    while some := list(itertools.islice(batches, BATCHES_A_COMMIT)):
        tables = {landing.path(batch.stream) for batch in some}
        with storage_errors(landing.path(some[0].stream)):
            for table in tables - looked_at:
                take_back_torn(table)  # before anything rests on it
            looked_at |= tables
        receipts = landing.take_up(some, until=max(until, now))
        with storage_errors(landing.path(some[0].stream)):
            for table in tables:
                confirm(table)  # what the source is told of, and the position, would outlive a power failure
        for batch in some:
            source.taken_up(batch)
        state.set_position(site, equipment_class, some[-1].position, now)
        for batch, receipt in zip(some, receipts, strict=True):
            if receipt.new:
                yield Landed(batch.stream, batch.origin, receipt)
