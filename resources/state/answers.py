"""Which attempt answered each window, how well, and which windows are still to be made good."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from backbone.windows import WindowRange
from resources.state.database import Database, utc

if TYPE_CHECKING:
    from sqlalchemy import Table

RETRY_S = 60.0
RETRY_MOST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """How one window of a fleet stands answered.

    Attributes:
        epoch: of the attempt that answered; a later epoch supersedes an earlier one.
        rows: machines answered for.
        served_by: who → for how many.
        degraded: machines for which another than the newest release answered.
        mendable: those of them whose reason can pass, so that the window is worth scoring again.
        reasons: reason → for how many machines.
    """

    day: date
    epoch: int
    rows: int
    served_by: Mapping[str, int]
    degraded: int
    mendable: int
    reasons: Mapping[str, int]
    answered_at: datetime
    tries: int = 0
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run that set out to answer windows. Its number, the epoch, only ever grows."""

    epoch: int
    run_id: str
    kind: str
    first: date
    last: date
    began: datetime


@cache
def _tables() -> dict[str, Table]:
    from sqlalchemy import Column, Date, DateTime, Integer, MetaData, String, Table, Text

    metadata = MetaData()
    return {
        "attempts": Table(
            "attempts",
            metadata,
            Column("epoch", Integer, primary_key=True),
            Column("site", String, nullable=False, index=True),
            Column("equipment_class", String, nullable=False),
            Column("run_id", String, nullable=False, unique=True),
            Column("kind", String, nullable=False),
            Column("first", Date, nullable=False),
            Column("last", Date, nullable=False),
            Column("began", DateTime(timezone=True), nullable=False),
            sqlite_autoincrement=True,  # a number is never given twice, even if the newest row goes
        ),
        "answers": Table(
            "answers",
            metadata,
            Column("site", String, primary_key=True),
            Column("equipment_class", String, primary_key=True),
            Column("day", Date, primary_key=True),
            Column("epoch", Integer, nullable=False),
            Column("rows", Integer, nullable=False),
            Column("served_by", Text, nullable=False),
            Column("degraded", Integer, nullable=False),
            Column("mendable", Integer, nullable=False),
            Column("reasons", Text, nullable=False),
            Column("answered_at", DateTime(timezone=True), nullable=False),
            Column("tries", Integer, nullable=False),
            Column("retry_at", DateTime(timezone=True)),
        ),
        "degradations": Table(
            "degradations",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("site", String, nullable=False, index=True),
            Column("equipment_class", String, nullable=False),
            Column("day", Date, nullable=False),
            Column("epoch", Integer, nullable=False),
            Column("degraded", Integer, nullable=False),
            Column("reasons", Text, nullable=False),
            Column("at", DateTime(timezone=True), nullable=False),
            Column("mended_at", DateTime(timezone=True)),
        ),
    }


class Answers:
    """The answers of one fleet."""

    def __init__(self, database: Database, site: str, equipment_class: str) -> None:
        self._database, self._site, self._class = database, site, equipment_class

    def epoch(self, run_id: str, windows: WindowRange, kind: str, at: datetime) -> int:
        """The epoch of a run, given to it the first time it asks."""
        table = _tables()["attempts"]
        with self._database.writing(table, alone=f"attempts/{self._site}/{self._class}") as connection:
            mine = table.select().where(table.c.run_id == run_id)
            row = connection.execute(mine).one_or_none()
            if row is not None:
                return int(row.epoch)
            values = {
                "site": self._site,
                "equipment_class": self._class,
                "run_id": run_id,
                "kind": kind,
                "first": windows.first,
                "last": windows.last,
                "began": at,
            }
            return int(connection.execute(table.insert().values(values).returning(table.c.epoch)).scalar_one())

    def epoch_of(self, run_id: str) -> int | None:
        """The epoch a run was given; None where it never asked for one."""
        table = _tables()["attempts"]
        with self._database.reading(table) as connection:
            row = connection.execute(table.select().where(table.c.run_id == run_id)).one_or_none()
        return None if row is None else int(row.epoch)

    def attempts(self) -> list[Attempt]:
        """Every attempt, oldest first."""
        table = _tables()["attempts"]
        query = table.select().where(*self._mine(table)).order_by(table.c.epoch)
        with self._database.reading(table) as connection:
            return [
                Attempt(r.epoch, r.run_id, r.kind, r.first, r.last, utc(r.began)) for r in connection.execute(query)
            ]

    def record(self, answers: Mapping[date, Answer]) -> list[date]:
        """Keep the answers of windows, but for those that a later epoch has answered meanwhile.

        Returns:
            The days whose answer these now are.
        """
        table, log = _tables()["answers"], _tables()["degradations"]
        kept = []
        with self._database.writing(table, log, alone=f"answers/{self._site}/{self._class}") as connection:
            query = table.select().where(*self._mine(table), table.c.day.in_(list(answers))).with_for_update()
            held = {row.day: row for row in connection.execute(query)}
            for day, answer in answers.items():
                before = held.get(day)
                if before is not None and before.epoch > answer.epoch:
                    continue
                kept.append(day)
                if before is not None and before.rows and not answer.rows:
                    continue  # nothing was said, so what was said before still holds
                values = self._values(answer, before)
                mine = (*self._mine(table), table.c.day == day)
                if before is None:
                    key = {"site": self._site, "equipment_class": self._class, "day": day}
                    connection.execute(table.insert().values(**key, **values))
                else:
                    connection.execute(table.update().where(*mine).values(**values))
                self._log(connection, log, answer)
        return kept

    def _values(self, answer: Answer, before: Any) -> dict[str, Any]:
        """Tries of a window that stays degraded are counted, so that they come ever more seldom."""
        again = answer.mendable > 0 and before is not None and before.mendable > 0
        tries = before.tries + 1 if again else 0
        wait = min(RETRY_S * 2 ** min(tries, 10), RETRY_MOST_S)
        return {
            "epoch": answer.epoch,
            "rows": answer.rows,
            "served_by": json.dumps(answer.served_by),
            "degraded": answer.degraded,
            "mendable": answer.mendable,
            "reasons": json.dumps(answer.reasons),
            "answered_at": answer.answered_at,
            "tries": tries,
            "retry_at": answer.answered_at + timedelta(seconds=wait) if answer.mendable else None,
        }

    def _log(self, connection: Any, log: Table, answer: Answer) -> None:
        """Every time a window was degraded stays on record, with when it was made good."""
        mine = (*self._mine(log), log.c.day == answer.day, log.c.mended_at.is_(None))
        open_ = connection.execute(log.select().where(*mine)).first()
        if answer.mendable and open_ is None:
            connection.execute(
                log.insert().values(
                    site=self._site,
                    equipment_class=self._class,
                    day=answer.day,
                    epoch=answer.epoch,
                    degraded=answer.mendable,
                    reasons=json.dumps(answer.reasons),
                    at=answer.answered_at,
                )
            )
        elif not answer.mendable and open_ is not None:
            connection.execute(log.update().where(*mine).values(mended_at=answer.answered_at))

    def all(self) -> dict[date, Answer]:
        """How every window stands answered, by day."""
        table = _tables()["answers"]
        query = table.select().where(*self._mine(table)).order_by(table.c.day)
        with self._database.reading(table) as connection:
            return {row.day: _answer(row) for row in connection.execute(query)}

    def to_mend(self, now: datetime, *, limit: int) -> list[Answer]:
        """Degraded windows that are due to be scored again, oldest first."""
        latest = now + timedelta(seconds=RETRY_MOST_S)  # beyond it, the clock went back
        table = _tables()["answers"]
        retry_at = table.c.retry_at
        is_due = retry_at.is_(None) | (retry_at <= now) | (retry_at > latest)
        query = table.select().where(*self._mine(table), table.c.mendable > 0, is_due)
        with self._database.reading(table) as connection:
            return [_answer(row) for row in connection.execute(query.order_by(table.c.day).limit(limit))]

    def degradations(self, since: datetime, until: datetime) -> list[tuple[date, int, datetime, datetime | None]]:
        """(day, machines, degraded at, made good at) of each time a window stood degraded within [since, until)."""
        log = _tables()["degradations"]
        query = log.select().where(*self._mine(log), log.c.at < until)
        query = query.where(log.c.mended_at.is_(None) | (log.c.mended_at > since)).order_by(log.c.id)
        with self._database.reading(log) as connection:
            return [
                (r.day, r.degraded, utc(r.at), utc(r.mended_at) if r.mended_at else None)
                for r in connection.execute(query)
            ]

    def _mine(self, table: Table) -> tuple[Any, ...]:
        return table.c.site == self._site, table.c.equipment_class == self._class


def _answer(row: Any) -> Answer:
    return Answer(
        day=row.day,
        epoch=row.epoch,
        rows=row.rows,
        served_by=json.loads(row.served_by),
        degraded=row.degraded,
        mendable=row.mendable,
        reasons=json.loads(row.reasons),
        answered_at=utc(row.answered_at),
        tries=row.tries,
        retry_at=utc(row.retry_at) if row.retry_at else None,
    )
