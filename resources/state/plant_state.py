"""Conduit crossings, how far each window came, and where each source stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING

from backbone.conduit import Crossing, StorePath
from backbone.windows import WindowRange
from resources.state.database import Database, utc

if TYPE_CHECKING:
    from sqlalchemy import Table


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """The fingerprints of what a window's telemetry (`ingested`) and advisories (`served`) were built from."""

    day: date
    ingested: str | None
    served: str | None


@cache
def _tables() -> dict[str, Table]:
    from sqlalchemy import BigInteger, Column, Date, DateTime, Integer, MetaData, String, Table

    metadata = MetaData()
    fleet = lambda: (  # noqa: E731 - columns belong to one table only, so each gets its own
        Column("site", String, primary_key=True),
        Column("equipment_class", String, primary_key=True),
    )
    return {
        "crossings": Table(
            "crossings",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("what", String, nullable=False),
            Column("source_location", String, nullable=False),
            Column("source_path", String, nullable=False),
            Column("destination_location", String, nullable=False),
            Column("destination_path", String, nullable=False),
            Column("files", Integer, nullable=False),
            Column("size_bytes", BigInteger, nullable=False),
            Column("digest", String, nullable=False),
            Column("at", DateTime(timezone=True), nullable=False),
            Column("run_id", String, nullable=False, index=True),
        ),
        "windows": Table(
            "windows",
            metadata,
            *fleet(),
            Column("day", Date, primary_key=True),
            Column("ingested", String),
            Column("served", String),
        ),
        "positions": Table(
            "positions",
            metadata,
            *fleet(),
            Column("position", String),
            Column("at", DateTime(timezone=True), nullable=False),
        ),
    }


class State:
    """Conduit crossings, how far each window came, and where each source stands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record_crossing(self, crossing: Crossing) -> None:
        with self._database.writing(_tables()["crossings"]) as connection:
            connection.execute(
                _tables()["crossings"]
                .insert()
                .values(
                    what=crossing.what,
                    source_location=crossing.source.location,
                    source_path=crossing.source.path,
                    destination_location=crossing.destination.location,
                    destination_path=crossing.destination.path,
                    files=crossing.files,
                    size_bytes=crossing.size_bytes,
                    digest=crossing.digest,
                    at=crossing.at,
                    run_id=crossing.run_id,
                )
            )

    def crossings(self, run_id: str | None = None) -> list[Crossing]:
        """Every crossing, or those of one run, oldest first."""
        table = _tables()["crossings"]
        query = table.select().order_by(table.c.id)
        if run_id is not None:
            query = query.where(table.c.run_id == run_id)
        with self._database.reading(table) as connection:
            return [
                Crossing(
                    what=row.what,
                    source=StorePath(row.source_location, row.source_path),
                    destination=StorePath(row.destination_location, row.destination_path),
                    files=row.files,
                    size_bytes=row.size_bytes,
                    digest=row.digest,
                    at=utc(row.at),
                    run_id=row.run_id,
                )
                for row in connection.execute(query)
            ]

    def windows(self, site: str, equipment_class: str) -> list[WindowRecord]:
        """How far each window of a fleet came, by day."""
        table = _tables()["windows"]
        query = table.select().where(table.c.site == site, table.c.equipment_class == equipment_class)
        with self._database.reading(table) as connection:
            return [WindowRecord(r.day, r.ingested, r.served) for r in connection.execute(query.order_by(table.c.day))]

    def mark_windows(
        self, stage: str, equipment_class: str, windows: WindowRange, fingerprints: Mapping[date, str]
    ) -> None:
        """Note what content each window's telemetry (`ingested`) or advisories (`served`) were built from."""
        if stage not in ("ingested", "served"):
            raise ValueError(f"No stage {stage!r}.")
        keyed = [
            {"site": windows.site, "equipment_class": equipment_class, "day": day, stage: fingerprints[day]}
            for day in windows
            if day in fingerprints
        ]
        self._database.upsert(_tables()["windows"], keyed)

    def position(self, site: str, equipment_class: str) -> tuple[str | None, datetime] | None:
        """Where a fleet's source stands, and since when; None before its first batch."""
        table = _tables()["positions"]
        query = table.select().where(table.c.site == site, table.c.equipment_class == equipment_class)
        with self._database.reading(table) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (row.position, utc(row.at))

    def set_position(self, site: str, equipment_class: str, position: str | None, at: datetime) -> None:
        row = {"site": site, "equipment_class": equipment_class, "position": position, "at": at}
        self._database.upsert(_tables()["positions"], [row])
