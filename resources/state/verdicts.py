"""What the checks of each window found, and of which content: the verdict that holds until the next one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from resources.state.database import Database, utc

if TYPE_CHECKING:
    from sqlalchemy import Table

RESTS_ON = ("telemetry", "maintenance_history", "condition_features")
"""What a model's answer, and its training, rest on: a window in which one of these is blocked is kept from both."""

ANSWER_RESTS_ON = (*RESTS_ON, "prognoses")
"""Where one of these is blocked, the model's answer does not stand."""
WHOLE = ("training_set",)
"""Products that are judged as a whole, not by window; their verdict is kept under the first day of the plant."""

Standing = Literal["passed", "warned", "blocked"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one window of one data product.

    Attributes:
        fingerprint: of the content that was judged, see `resources.stores.fingerprints`.
        standing: `blocked` where a check of severity error failed, `warned` where only others did.
        failed: kind of rule → what was seen, of each check that failed.
        run_id: of the run that judged.
        since: the run that judged first so, without another standing between: with it, one verdict is told from the
            next.
    """

    product: str
    day: date
    fingerprint: str
    standing: Standing
    failed: Mapping[str, str]
    run_id: str
    judged_at: datetime
    since: str = ""


@cache
def _tables() -> dict[str, Table]:
    from sqlalchemy import Column, Date, DateTime, MetaData, String, Table, Text

    return {
        "verdicts": Table(
            "verdicts",
            MetaData(),
            Column("site", String, primary_key=True),
            Column("equipment_class", String, primary_key=True),
            Column("product", String, primary_key=True),
            Column("day", Date, primary_key=True),
            Column("fingerprint", String, nullable=False),
            Column("standing", String, nullable=False),
            Column("failed", Text, nullable=False),
            Column("run_id", String, nullable=False),
            Column("since", String, nullable=False),
            Column("judged_at", DateTime(timezone=True), nullable=False),
        )
    }


class Verdicts:
    """The verdicts of one fleet."""

    def __init__(self, database: Database, site: str, equipment_class: str) -> None:
        self._database, self._site, self._class = database, site, equipment_class

    def record(self, verdicts: Sequence[Verdict]) -> None:
        """Put verdicts in the place of those before them."""
        table = _tables()["verdicts"]
        with self._database.writing(table, alone=f"verdicts/{self._site}/{self._class}") as connection:
            for verdict in verdicts:
                mine = (*self._mine(table), table.c.product == verdict.product, table.c.day == verdict.day)
                before = connection.execute(table.select().where(*mine)).one_or_none()
                same = before is not None and before.standing == verdict.standing
                values = {
                    "fingerprint": verdict.fingerprint,
                    "standing": verdict.standing,
                    "failed": json.dumps(dict(verdict.failed)),
                    "run_id": verdict.run_id,
                    "since": before.since if before is not None and same else verdict.run_id,
                    "judged_at": verdict.judged_at,
                }
                if before is None:
                    key = {"product": verdict.product, "day": verdict.day}
                    fleet = {"site": self._site, "equipment_class": self._class}
                    connection.execute(table.insert().values(**fleet, **key, **values))
                else:
                    connection.execute(table.update().where(*mine).values(**values))

    def all(self) -> dict[tuple[str, date], Verdict]:
        """(product, day) → the verdict that holds."""
        table = _tables()["verdicts"]
        query = table.select().where(*self._mine(table)).order_by(table.c.day, table.c.product)
        with self._database.reading(table) as connection:
            return {(row.product, row.day): _verdict(row) for row in connection.execute(query)}

    def blocked(self, products: Sequence[str] = RESTS_ON) -> dict[date, list[Verdict]]:
        """Day → the verdicts that block one of the products there."""
        table = _tables()["verdicts"]
        mine = (*self._mine(table), table.c.standing == "blocked", table.c.product.in_(products))
        found: dict[date, list[Verdict]] = {}
        with self._database.reading(table) as connection:
            for row in connection.execute(table.select().where(*mine).order_by(table.c.day, table.c.product)):
                found.setdefault(row.day, []).append(_verdict(row))
        return found

    def _mine(self, table: Table) -> tuple[Any, ...]:
        return table.c.site == self._site, table.c.equipment_class == self._class


def _verdict(row: Any) -> Verdict:
    return Verdict(
        product=row.product,
        day=row.day,
        fingerprint=row.fingerprint,
        standing=row.standing,
        failed=json.loads(row.failed),
        run_id=row.run_id,
        judged_at=utc(row.judged_at),
        since=row.since,
    )
