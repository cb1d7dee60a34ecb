"""The ledger of placed work: what ran where, how long, what it cost; and what is blocked for a while."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from backbone.placement import BlockedTarget, Placement
from resources.state.database import Database, utc

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Table

WorkState = Literal["running", "succeeded", "failed"]

BLOCK_S = 60.0
BLOCK_MOST_S = 3600.0
FORGIVEN_AFTER = 3
"""A target blocked again before this many successes in a row is blocked for twice as long: it comes back slower than
it left, so that one that flaps is left alone."""
RUNS_LOOKED_AT = 20
LEFT_RUNNING = " (it could not be ended then)"
"""At the end of the `why` of work that was given up and went on."""


@dataclass(frozen=True, slots=True)
class Work:
    """One try of one workload at one target.

    Attributes:
        fleet: `class/site`.
        alternative: which way of doing the workload, see `backbone.requirements.Alternative`.
        until: when it was to be given up at the latest.
        seconds: from launch to result; None while it runs, and of work that was lost with its launcher.
        moved_gb, cost: there and back; the cost in the site's currency, with the prices of its location at that time.
    """

    id: int
    site: str
    fleet: str
    workload: str
    alternative: str
    run_id: str
    target: str
    location: str
    location_kind: str
    state: WorkState
    began: datetime
    until: datetime
    handle: str | None
    seconds: float | None
    moved_gb: float
    cost: float
    why: str
    placement: Mapping[str, Any]


@cache
def _tables() -> dict[str, Table]:
    from sqlalchemy import Boolean, Column, DateTime, Float, Integer, MetaData, String, Table, Text

    metadata = MetaData()
    return {
        "works": Table(
            "works",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("site", String, nullable=False, index=True),
            Column("fleet", String, nullable=False),
            Column("workload", String, nullable=False),
            Column("alternative", String, nullable=False),
            Column("run_id", String, nullable=False, index=True),
            Column("target", String, nullable=False),
            Column("location", String, nullable=False),
            Column("location_kind", String, nullable=False),
            Column("state", String, nullable=False),
            Column("began", DateTime(timezone=True), nullable=False),
            Column("until", DateTime(timezone=True), nullable=False),
            Column("handle", String),
            Column("seconds", Float),
            Column("moved_gb", Float, nullable=False),
            Column("cost", Float, nullable=False),
            Column("why", Text, nullable=False),
            Column("placement", Text, nullable=False),
        ),
        "left_alone": Table(
            "left_alone",
            metadata,
            Column("site", String, primary_key=True),
            Column("scope", String, primary_key=True),
            Column("announced", Boolean, primary_key=True),
            Column("target", String),
            Column("location", String),
            Column("workload", String),
            Column("until", DateTime(timezone=True), nullable=False),
            Column("why", Text, nullable=False),
            Column("strikes", Integer, nullable=False),
            Column("successes", Integer, nullable=False),
            Column("unreachable_at", String),
        ),
    }


class Works:
    """The ledger of one site's work."""

    def __init__(self, database: Database, site: str) -> None:
        self._database, self._site = database, site

    def begin(
        self, fleet: str, placement: Placement, *, run_id: str, until: datetime, capacity: int | None
    ) -> int | None:
        """Note that work starts; counted and noted in one transaction, so that a location is never over-full.

        Args:
            until: when it is given up at the latest; after that it takes no place any more, whatever became of it.

        Returns:
            The work's id; None where its location is full by now.
        """
        from sqlalchemy import func, select

        assert placement.chosen is not None
        table, chosen = _tables()["works"], placement.chosen
        with self._database.writing(table, alone=f"works/{self._site}") as connection:
            if capacity is not None:
                taken = select(func.count()).where(*self._running(table, placement.at))
                taken = taken.where(table.c.location == chosen.candidate.location)
                if connection.execute(taken).scalar_one() >= capacity:
                    return None
            row = {
                "site": self._site,
                "fleet": fleet,
                "workload": placement.workload,
                "alternative": chosen.alternative,
                "run_id": run_id,
                "target": chosen.candidate.target,
                "location": chosen.candidate.location,
                "location_kind": chosen.candidate.location_kind,
                "state": "running",
                "began": placement.at,
                "until": until,
                "moved_gb": 0.0,
                "cost": 0.0,
                "why": "",
                "placement": json.dumps(placement.to_dict()),
            }
            return int(connection.execute(table.insert().values(row).returning(table.c.id)).scalar_one())

    def launched(self, work: int, handle: str) -> None:
        """Note the handle, so that another process can end the work of one that died."""
        self._change(work, {"handle": handle})

    def end(self, work: int, state: WorkState, *, seconds: float, moved_gb: float, cost: float, why: str = "") -> None:
        self._change(work, {"state": state, "seconds": seconds, "moved_gb": moved_gb, "cost": cost, "why": why[:2000]})

    def still_runs(self, work: int) -> None:
        """Note that work which was given up could not be ended: it is left running until somebody has ended it.

        Its seconds then go on to that end; that they are not those it was waited for stands in its `why`.
        """
        table = _tables()["works"]
        self._change(work, {"state": "running", "why": table.c.why + LEFT_RUNNING})

    def _change(self, work: int, values: Mapping[str, Any]) -> None:
        table = _tables()["works"]
        with self._database.writing(table) as connection:
            connection.execute(table.update().where(table.c.id == work).values(**values))

    def write_off(self, work: int, *, seconds: float, cost: float, why: str) -> None:
        """Note that work was lost, unless somebody has noted its end by now."""
        table = _tables()["works"]
        lost = table.update().where(table.c.id == work, table.c.state == "running")
        with self._database.writing(table) as connection:
            connection.execute(lost.values(state="failed", seconds=seconds, cost=cost, why=why[:2000]))

    def _running(self, table: Table, now: datetime) -> tuple[Any, ...]:
        return table.c.site == self._site, table.c.state == "running", table.c.until > now

    def running(self, now: datetime) -> dict[str, int]:
        """Location → pieces of work under way there."""
        from sqlalchemy import func, select

        table = _tables()["works"]
        query = select(table.c.location, func.count()).where(*self._running(table, now)).group_by(table.c.location)
        with self._database.reading(table) as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def seconds(self, workload: str) -> dict[tuple[str, str], list[float]]:
        """(alternative, target) → how long its last runs took, those that succeeded."""
        table = _tables()["works"]
        query = (
            table.select()
            .with_only_columns(table.c.alternative, table.c.target, table.c.seconds)
            .where(table.c.site == self._site, table.c.workload == workload, table.c.state == "succeeded")
            .order_by(table.c.id.desc())
            .limit(RUNS_LOOKED_AT * 20)
        )
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        with self._database.reading(table) as connection:
            for alternative, target, seconds in connection.execute(query):
                if len(found[alternative, target]) < RUNS_LOOKED_AT:
                    found[alternative, target].append(seconds)
        return dict(found)

    def all(
        self, *, since: datetime | None = None, until: datetime | None = None, run_id: str | None = None
    ) -> list[Work]:
        """The work that began in [since, until), or that of one run; oldest first."""
        table = _tables()["works"]
        query = table.select().where(table.c.site == self._site).order_by(table.c.id)
        if since is not None:
            query = query.where(table.c.began >= since)
        if until is not None:
            query = query.where(table.c.began < until)
        if run_id is not None:
            query = query.where(table.c.run_id == run_id)
        with self._database.reading(table) as connection:
            return [_work(row) for row in connection.execute(query)]

    def left_running(self) -> list[Work]:
        """Work that nobody has said the end of: under way, or lost with the process that launched it."""
        table = _tables()["works"]
        query = table.select().where(table.c.site == self._site, table.c.state == "running").order_by(table.c.id)
        with self._database.reading(table) as connection:
            return [_work(row) for row in connection.execute(query)]


class Blocks:
    """What of a site is left alone for a while: targets that failed, locations out of reach, and what people announce.

    What failures and what people block is kept apart: neither shortens, lengthens or ends the other's.
    """

    def __init__(self, database: Database, site: str) -> None:
        self._database, self._site = database, site

    def failed(self, target: str, why: str, now: datetime) -> BlockedTarget:
        """Block a target: for `BLOCK_S`, and for twice as long each time it fails again before it is forgiven."""
        with self._writing() as connection:
            return self._strike(connection, _Scope(target), why, now)

    def unreachable(self, target: str, location: str, why: str, now: datetime) -> BlockedTarget | None:
        """Note that a target that was just blocked could not be reached at all.

        Where another target of the location is blocked for the same cause, it is the location that is out of reach: all
        of it is blocked, so that no try is lost on its other targets. It ends and doubles as a target's block does.

        Returns:
            The location's block; None where so far this target alone is known to be out of reach.
        """
        table = _tables()["left_alone"]
        others = table.select().where(
            table.c.site == self._site,
            table.c.unreachable_at == location,
            table.c.until > now,
            table.c.until <= now + timedelta(seconds=BLOCK_MOST_S),
            table.c.target != target,
        )
        with self._writing() as connection:
            mine = table.update().where(*self._mine(table, _Scope(target), False))
            connection.execute(mine.values(unreachable_at=location))
            also = [row.target for row in connection.execute(others)]
            if not also:
                return None
            both = " and ".join(sorted([target, *also]))
            return self._strike(connection, _Scope(None, location), f"{both} are out of reach: {why}", now)

    def announce(
        self,
        until: datetime,
        why: str,
        *,
        target: str | None = None,
        location: str | None = None,
        workload: str | None = None,
    ) -> BlockedTarget:
        """Block what somebody says is not to be used; said again of the same, the later word holds."""
        scope = _Scope(target, location, workload)
        with self._writing() as connection:
            self._put(connection, scope, True, {"until": until, "why": why[:500]})
        return BlockedTarget(until, why[:500], target, location, workload, announced=True)

    def lift(self, *, target: str | None = None, location: str | None = None, workload: str | None = None) -> int:
        """End what blocks exactly this, announced or not, and forget its failures; returns how many that were."""
        table, scope = _tables()["left_alone"], _Scope(target, location, workload)
        mine = table.delete().where(table.c.site == self._site, table.c.scope == scope.key)
        with self._writing() as connection:
            return int(connection.execute(mine).rowcount)

    def succeeded(self, target: str, location: str | None = None) -> None:
        """Count a success of a target and its location; enough in a row and earlier failures are forgiven."""
        scopes = [_Scope(target), *([_Scope(None, location)] if location is not None else [])]
        with self._database.reading(_tables()["left_alone"]) as connection:
            struck = [scope for scope in scopes if self._row(connection, scope).get("strikes", 0)]
        if not struck:
            return
        with self._writing() as connection:
            for scope in struck:
                row = self._row(connection, scope)
                successes = row.get("successes", 0) + 1
                strikes = 0 if successes >= FORGIVEN_AFTER else row.get("strikes", 0)
                self._put(connection, scope, False, {"strikes": strikes, "successes": successes})

    def active(self, now: datetime) -> Sequence[BlockedTarget]:
        """What is blocked now, what ends first before the others.

        What failed, and would stay blocked for longer than any failure can (the clock went back), is not.
        """
        table = _tables()["left_alone"]
        query = table.select().where(table.c.site == self._site, table.c.until > now).order_by(table.c.until)
        latest = now + timedelta(seconds=BLOCK_MOST_S)
        with self._database.reading(table) as connection:
            found = [
                BlockedTarget(utc(r.until), r.why, r.target, r.location, r.workload, announced=r.announced)
                for r in connection.execute(query)
            ]
        return [block for block in found if block.announced or block.until <= latest]

    def _writing(self) -> AbstractContextManager[Connection]:
        return self._database.writing(_tables()["left_alone"], alone=f"blocks/{self._site}")

    def _strike(self, connection: Connection, scope: _Scope, why: str, now: datetime) -> BlockedTarget:
        strikes = self._row(connection, scope).get("strikes", 0) + 1
        until = now + timedelta(seconds=min(BLOCK_S * 2 ** min(strikes - 1, 10), BLOCK_MOST_S))
        values = {"until": until, "why": why[:500], "strikes": strikes, "successes": 0, "unreachable_at": None}
        self._put(connection, scope, False, values)
        return BlockedTarget(until, why[:500], *scope)

    def _row(self, connection: Connection, scope: _Scope) -> Mapping[str, Any]:
        """What failures have left of a scope; empty where nothing has."""
        table = _tables()["left_alone"]
        query = table.select().where(*self._mine(table, scope, False)).with_for_update()
        return dict(connection.execute(query).mappings().one_or_none() or {})

    def _put(self, connection: Connection, scope: _Scope, announced: bool, values: Mapping[str, Any]) -> None:
        table = _tables()["left_alone"]
        mine = table.update().where(*self._mine(table, scope, announced))
        if not connection.execute(mine.values(**values)).rowcount:
            key = {"site": self._site, "scope": scope.key, "announced": announced, **scope._asdict()}
            connection.execute(table.insert().values(**{"strikes": 0, "successes": 0, **key, **values}))

    def _mine(self, table: Table, scope: _Scope, announced: bool) -> tuple[Any, ...]:
        return table.c.site == self._site, table.c.scope == scope.key, table.c.announced == announced


class _Scope(NamedTuple):
    """What a block covers; None is a wildcard."""

    target: str | None = None
    location: str | None = None
    workload: str | None = None

    @property
    def key(self) -> str:
        """For a primary key, whose columns are never null."""
        return json.dumps(self)


def _work(row: Any) -> Work:
    return Work(
        id=row.id,
        site=row.site,
        fleet=row.fleet,
        workload=row.workload,
        alternative=row.alternative,
        run_id=row.run_id,
        target=row.target,
        location=row.location,
        location_kind=row.location_kind,
        state=row.state,
        began=utc(row.began),
        until=utc(row.until),
        handle=row.handle,
        seconds=row.seconds,
        moved_gb=row.moved_gb,
        cost=row.cost,
        why=row.why,
        placement=json.loads(row.placement),
    )
