"""Where every reading is that a gateway took: by its id, as its sender knows it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.compute as pc

from backbone.errors import IntegrityError
from gateway.exchange import Folders
from gateway.records import Record
from gateway.spool import SpoolReader
from resources.landing import READING_ID
from resources.plant import Plant
from resources.stores.tables import WindowTable, scan_batches

_FURTHER = 1 << 62


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Ids, as `machine/session/number`.

    Attributes:
        stored, dead_lettered: how often each is in the tables.
        spooled: in the spool's files; some of them have landed as well.
    """

    stored: Counter[str]
    dead_lettered: Counter[str]
    spooled: set[str]

    @property
    def everywhere(self) -> set[str]:
        return {*self.stored, *self.dead_lettered} | self.spooled

    @property
    def twice(self) -> list[str]:
        """Stored more than once, or stored and a dead letter as well. A dead letter may be kept again: that it is one
        is known as long as the spool holds it, or the process lasts."""
        again = {name for name, count in self.stored.items() if count > 1}
        return sorted(again | (self.stored.keys() & self.dead_lettered.keys()))


def whereabouts(plant: Plant, folders: Folders, fleet: str = "pump") -> Whereabouts:
    """Look for every reading. What leaves the spool meanwhile is seen in the tables, which are looked at last."""
    spooled = set(spooled_at(folders))
    landing = plant.landing(fleet).path("telemetry")
    stored = Counter(unquote(name) for (name,) in rows_of(landing, READING_ID) if name is not None)
    lettered = Counter(_id(source, raw) for source, raw in rows_of(plant.dead_letters().path, "source", "raw"))
    return Whereabouts(stored, lettered, spooled)


def spooled_at(folders: Folders) -> dict[str, int]:
    """What the spool holds: reading → its position, the first if it is there again."""
    held: dict[str, int] = {}
    with suppress(FileNotFoundError):
        for position, data in SpoolReader(folders.spool).read(0, _FURTHER):
            with suppress(IntegrityError):
                record = Record.from_bytes(data)
                held.setdefault(_id(record.source, record.raw), position)
    return held


def _id(source: str, raw: bytes) -> str:
    told: dict[str, Any] = json.loads(raw)
    return f"{source}/{told.get('session', '')}/{told['seq']}"


def rows_of(table: Path, *names: str) -> Iterator[tuple[Any, ...]]:
    """Columns of a Delta table, row by row; none where there is no table."""
    if WindowTable(table).exists:
        for batch in scan_batches(table, pc.scalar(True), names):
            yield from zip(*(batch[name].to_pylist() for name in names), strict=True)
