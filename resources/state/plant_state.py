"""Conduit crossings, how far each window came, and where each source stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from backbone.conduit import Crossing, StorePath
from backbone.windows import Omission, WindowRange, left_out, listed
from resources.state.database import Database, upsert, utc

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
    from sqlalchemy import BigInteger, Column, Date, DateTime, Integer, MetaData, String, Table, Text

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
        "omissions": Table(
            "omissions",
            metadata,
            *fleet(),
            Column("day", Date, primary_key=True),
            Column("features", Text),
            Column("features_run", String),
            Column("answer", Text),
            Column("answer_run", String),
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

    def features_leave_out(
        self, equipment_class: str, windows: WindowRange, blocked: Collection[date], *, run_id: str
    ) -> None:
        """Note which earlier days the features of windows leave out; what never left out anything has no entry."""
        table = _tables()["omissions"]
        keyed = [
            {
                "site": windows.site,
                "equipment_class": equipment_class,
                "day": day,
                "features": listed(left_out(blocked, day)),
                "features_run": run_id,
            }
            for day in windows
        ]
        with self._database.writing(table, alone=f"omissions/{windows.site}/{equipment_class}") as connection:
            mine = (*_of(table, windows.site, equipment_class), table.c.day.between(windows.first, windows.last))
            known = {row.day for row in connection.execute(table.select().where(*mine))}
            upsert(connection, table, [row for row in keyed if row["features"] or row["day"] in known])

    def answers_leave_out(self, equipment_class: str, site: str, days: Collection[date]) -> None:
        """Note that the answers of these days now rest on their features as those are."""
        table = _tables()["omissions"]
        with self._database.writing(table) as connection:
            mine = (*_of(table, site, equipment_class), table.c.day.in_(list(days)))
            values = {"answer": table.c.features, "answer_run": table.c.features_run}
            connection.execute(table.update().where(*mine).values(values))

    def omissions(self, site: str, equipment_class: str) -> dict[date, Omission]:
        """What the answer of each window leaves out, where it or its features ever left out anything."""
        table = _tables()["omissions"]
        with self._database.reading(table) as connection:
            rows = connection.execute(table.select().where(*_of(table, site, equipment_class)))
            return {row.day: Omission(_days(row.answer), row.answer_run or "") for row in rows}

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


def _of(table: Table, site: str, equipment_class: str) -> tuple[Any, ...]:
    return table.c.site == site, table.c.equipment_class == equipment_class


def _days(text: str | None) -> frozenset[date]:
    return frozenset(date.fromisoformat(day) for day in text.split(",")) if text else frozenset()
