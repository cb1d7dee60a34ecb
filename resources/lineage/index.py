"""What our own events say, laid out for questions: which step made which version from which, and what was checked.

Written in the transaction that keeps the events, read by traces. A *step* is one of our runs that is of an asset (or of
its checks): one partition, one attempt. It *uses* data sets: reads, writes or checks them, each in a version, each for
a site and, where the data set has windows, a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from resources.state.database import Database, upsert
from resources.state.outbox import Event

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

Way = Literal["in", "out", "check"]
_CHUNK = 400
_RUN_FACTS = ("hybrid_placement", "hybrid_crossings", "hybrid_answer", "hybrid_notMade", "errorMessage")
_LOCATION = "hybrid/location"
_KINDS = ("asset", "checks", "observation")


@dataclass(frozen=True, slots=True)
class Step:
    """One of our runs.

    Attributes:
        source: the orchestrator's run it is of.
        state: START while it goes on, then COMPLETE, FAIL or ABORT.
        day: ISO date; None where it is of a whole site.
        facts: facets of the run that traces tell of, by name.
    """

    run_id: str
    source: str
    kind: str
    asset: str
    site: str | None
    day: str | None
    attempt: int
    state: str
    began: str | None
    ended: str | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Use:
    """What a step read, wrote or checked.

    Attributes:
        dataset: namespace and name.
        asset: its key; empty where it is none of ours.
        number: the version, where it is one that grows.
        facts: facets that traces tell of, by name.
    """

    id: int
    run_id: str
    way: Way
    dataset: str
    asset: str
    version: str | None
    number: int | None
    site: str | None
    day: str | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """One machine's answer in one window, as one attempt gave it."""

    site: str
    equipment_class: str
    equipment: str
    day: str
    epoch: int
    run_id: str
    facts: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.site}/{self.equipment_class}/{self.equipment}/{self.day}/e{self.epoch}"


class Write(NamedTuple):
    """One time that a window of a data set was written; `at` is the time of the event."""

    run_id: str
    day: str | None
    number: int | None
    version: str | None
    at: str
    id: int


@cache
def _tables() -> dict[str, Table]:
    from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text

    metadata = MetaData()
    return {
        "steps": Table(
            "lineage_steps",
            metadata,
            Column("run_id", String, primary_key=True),
            Column("source", String, nullable=False),
            Column("kind", String, nullable=False),
            Column("asset", String, nullable=False),
            Column("site", String),
            Column("day", String),
            Column("attempt", Integer, nullable=False),
            Column("state", String, nullable=False),
            Column("began", String),
            Column("ended", String),
            Column("facts", Text, nullable=False),
            Index("lineage_steps_asset", "asset", "site", "day"),
        ),
        "uses": Table(
            "lineage_uses",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("run_id", String, nullable=False, index=True),
            Column("way", String, nullable=False),
            Column("dataset", String, nullable=False),
            Column("asset", String, nullable=False),
            Column("version", String),
            Column("number", Integer),
            Column("site", String),
            Column("day", String),
            Column("at", String, nullable=False),
            Column("facts", Text, nullable=False),
            Index("lineage_uses_dataset", "dataset", "way", "site", "day", "number"),
        ),
        "answers": Table(
            "lineage_answers",
            metadata,
            Column("site", String, primary_key=True),
            Column("equipment_class", String, primary_key=True),
            Column("equipment", String, primary_key=True),
            Column("day", String, primary_key=True),
            Column("epoch", Integer, primary_key=True),
            Column("run_id", String, nullable=False),
            Column("facts", Text, nullable=False),
            Index("lineage_answers_equipment", "equipment", "site", "equipment_class"),
            Index("lineage_answers_run", "run_id"),
            Index("lineage_answers_day", "site", "equipment_class", "day"),
        ),
        "columns": Table(
            "lineage_columns",
            metadata,
            Column("asset", String, primary_key=True),
            Column("name", String, primary_key=True),
            Column("source_asset", String, primary_key=True),
            Column("source", String, primary_key=True),
            Column("how", String, nullable=False),
            Index("lineage_columns_source", "source_asset", "source"),
        ),
    }


# ---- writing


class LineageIndex:
    """Takes up events, and answers what traces ask."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def tables(self) -> Sequence[Table]:
        """See `resources.state.outbox.Index`."""
        return tuple(_tables().values())

    def write(self, connection: Connection, events: Sequence[Event]) -> None:
        """See `resources.state.outbox.Index`."""
        steps: dict[str, dict[str, Any]] = {}
        uses: list[dict[str, Any]] = []
        answers: dict[tuple[Any, ...], dict[str, Any]] = {}
        newest: dict[str, Event] = {}
        for event in events:
            step = _step_row(event)
            if step is None:
                continue
            before = steps.get(step["run_id"], {})
            steps[step["run_id"]] = {**step, "began": step["began"] or before.get("began")}
            if event["eventType"] == "START":
                continue
            uses += _use_rows(event, step)
            for row in _answer_rows(event, step):
                answers[tuple(row[k] for k in ("site", "equipment_class", "equipment", "day", "epoch"))] = row
            if any("columnLineage" in made.get("facets", {}) for made in event.get("outputs", ())):
                newest[step["asset"]] = event  # the columns of an asset are those of its code, not of a window
        tables = _tables()
        upsert(connection, tables["steps"], list(steps.values()), filled=("began",))
        if uses:
            connection.execute(tables["uses"].insert(), uses)
        upsert(connection, tables["answers"], list(answers.values()))
        columns = {key: row for asset, event in newest.items() for key, row in _column_rows(event, asset)}
        upsert(connection, tables["columns"], list(columns.values()))

    # ---- reading

    def steps(self, run_ids: Iterable[str]) -> dict[str, Step]:
        """Steps by id."""
        table = _tables()["steps"]
        return {r.run_id: _step(r) for r in self._chunked(table, table.c.run_id, run_ids)}

    def uses_of(self, run_ids: Iterable[str], ways: Sequence[Way]) -> list[Use]:
        """What steps read, wrote or checked."""
        table = _tables()["uses"]
        return [_use(r) for r in self._chunked(table, table.c.run_id, run_ids, table.c.way.in_(list(ways)))]

    def writes(self, dataset: str, site: str | None, days: Sequence[str | None] | None) -> list[Write]:
        """Every time windows of a data set were written, oldest version first.

        Args:
            days: None: every window there is, and what is of the site as a whole.
        """
        from sqlalchemy import select

        table = _tables()["uses"]
        columns = (table.c.run_id, table.c.day, table.c.number, table.c.version, table.c.at, table.c.id)
        query = select(*columns).where(table.c.dataset == dataset, table.c.way == "out")
        if site is not None:
            query = query.where(table.c.site == site)
        queries = [query]
        if days is not None:
            queries = [query.where(table.c.day.in_(some)) for some in _chunks([d for d in days if d is not None])]
            queries += [query.where(table.c.day.is_(None))] if None in days else []
        with self._database.reading(*self.tables) as connection:
            found = [row for one in queries for row in connection.execute(one)]
        return sorted((Write(*row) for row in found), key=lambda w: (-1 if w.number is None else w.number, w.at, w.id))

    def checks(self, dataset: str, site: str | None, days: Sequence[str | None]) -> list[Use]:
        """What was checked of windows of a data set, oldest first."""
        table = _tables()["uses"]
        mine = [table.c.dataset == dataset, table.c.way == "check", table.c.site == site]
        named = [d for d in days if d is not None]
        found = [_use(r) for r in self._chunked(table, table.c.day, named, *mine)]
        if None in days:
            with self._database.reading(*self.tables) as connection:
                query = table.select().where(*mine, table.c.day.is_(None))
                found += [_use(r) for r in connection.execute(query)]
        return sorted(found, key=lambda use: use.id)

    def written(self, asset_dataset: str, site: str, days: Sequence[str]) -> list[Use]:
        """Every time windows of a data set were written."""
        table = _tables()["uses"]
        mine = (table.c.dataset == asset_dataset, table.c.way == "out", table.c.site == site)
        return [_use(r) for r in self._chunked(table, table.c.day, days, *mine)]

    def written_after(self, dataset: str, site: str, day: str) -> list[Use]:
        """Every time later windows of a data set were written."""
        table = _tables()["uses"]
        mine = (table.c.dataset == dataset, table.c.way == "out", table.c.site == site, table.c.day > day)
        with self._database.reading(*self.tables) as connection:
            return [_use(r) for r in connection.execute(table.select().where(*mine))]

    def read_by(self, dataset: str, site: str, days: Sequence[str | None]) -> list[Use]:
        """Every time windows of a data set were read; those who read a whole site among them."""
        from sqlalchemy import or_

        table = _tables()["uses"]
        mine = (table.c.dataset == dataset, table.c.way == "in", table.c.site == site)
        named = [d for d in days if d is not None]
        found = []
        with self._database.reading(*self.tables) as connection:
            for some in _chunks(named) if named else [[]]:
                query = table.select().where(*mine, or_(table.c.day.is_(None), table.c.day.in_(some)))
                found += [_use(r) for r in connection.execute(query)]
        return list({use.id: use for use in found}.values())

    def datasets_of(self, asset: str, site: str) -> list[str]:
        """Where an asset's bytes lie, or lay."""
        from sqlalchemy import select

        steps, uses = _tables()["steps"], _tables()["uses"]
        one = select(steps.c.run_id).where(steps.c.asset == asset, steps.c.site == site, steps.c.state == "COMPLETE")
        query = select(uses.c.dataset).where(uses.c.run_id.in_(one), uses.c.way == "out").distinct()
        with self._database.reading(*self.tables) as connection:
            return sorted(str(d) for (d,) in connection.execute(query))

    def answers(self, site: str | None, equipment_class: str | None, equipment: str, day: str | None) -> list[Told]:
        """What a machine was told, newest window and attempt first."""
        table = _tables()["answers"]
        named = {"site": site, "equipment_class": equipment_class, "equipment": equipment, "day": day}
        mine = [table.c[name] == value for name, value in named.items() if value is not None]
        query = table.select().where(*mine).order_by(table.c.day.desc(), table.c.epoch.desc())
        with self._database.reading(*self.tables) as connection:
            return [_told(r) for r in connection.execute(query)]

    def holding(self, site: str, equipment_class: str, run_ids: Iterable[str]) -> list[Told]:
        """Answers that these steps gave and no later attempt has superseded."""
        table = _tables()["answers"]
        mine = (table.c.site == site, table.c.equipment_class == equipment_class)
        given = [_told(r) for r in self._chunked(table, table.c.run_id, run_ids, *mine)]
        last: dict[tuple[str, str], int] = {}
        light = table.select().with_only_columns(table.c.equipment, table.c.day, table.c.epoch)
        with self._database.reading(*self.tables) as connection:
            for some in _chunks(sorted({told.day for told in given})):
                for equipment, day, epoch in connection.execute(light.where(*mine, table.c.day.in_(some))):
                    last[(equipment, day)] = max(epoch, last.get((equipment, day), epoch))
        return [told for told in given if told.epoch == last[(told.equipment, told.day)]]

    def newest_windows(self, site: str, equipment_class: str) -> dict[str, str]:
        """Machine → day of its newest answer."""
        from sqlalchemy import func, select

        table = _tables()["answers"]
        query = select(table.c.equipment, func.max(table.c.day)).group_by(table.c.equipment)
        with self._database.reading(*self.tables) as connection:
            found = connection.execute(query.where(table.c.site == site, table.c.equipment_class == equipment_class))
            return {str(row[0]): str(row[1]) for row in found}

    def fleets_of(self, equipment: str, site: str | None) -> list[tuple[str, str]]:
        """(site, class) of machines of this name."""
        from sqlalchemy import select

        table = _tables()["answers"]
        query = select(table.c.site, table.c.equipment_class).where(table.c.equipment == equipment).distinct()
        if site is not None:
            query = query.where(table.c.site == site)
        with self._database.reading(*self.tables) as connection:
            return sorted((s, c) for s, c in connection.execute(query))

    def machines(self) -> list[tuple[str, str, str, str, str]]:
        """(site, class, equipment, first day, last day) of everything that ever had an answer."""
        from sqlalchemy import func, select

        table = _tables()["answers"]
        who = (table.c.site, table.c.equipment_class, table.c.equipment)
        query = select(*who, func.min(table.c.day), func.max(table.c.day)).group_by(*who).order_by(*who)
        with self._database.reading(*self.tables) as connection:
            return [tuple(row) for row in connection.execute(query)]

    def columns_from(self, asset: str, name: str) -> list[tuple[str, str, str]]:
        """(asset, column, how) of what is made from a column; a column without a name stands for all of them."""
        table = _tables()["columns"]
        query = table.select().where(table.c.source_asset == asset, table.c.source == name)
        with self._database.reading(*self.tables) as connection:
            return [(r.asset, r.name, r.how) for r in connection.execute(query)]

    def columns_of(self, asset: str) -> list[str]:
        """Columns of an asset: those that are made from something, and those that something is made from."""
        from sqlalchemy import select, union

        table = _tables()["columns"]
        made = select(table.c.name).where(table.c.asset == asset, table.c.name != "")
        query = union(made, select(table.c.source).where(table.c.source_asset == asset))
        with self._database.reading(*self.tables) as connection:
            return sorted(str(name) for (name,) in connection.execute(query))

    def assets_with_columns(self) -> set[str]:
        """Assets of which it is told what their columns are made from."""
        from sqlalchemy import select

        table = _tables()["columns"]
        with self._database.reading(*self.tables) as connection:
            return {str(asset) for (asset,) in connection.execute(select(table.c.asset).distinct())}

    def answered(self, site: str, equipment_class: str, days: Sequence[str]) -> set[tuple[str, str]]:
        """(day, run id) of every attempt that gave anybody of a fleet an answer."""
        from sqlalchemy import select

        table = _tables()["answers"]
        mine = (table.c.site == site, table.c.equipment_class == equipment_class)
        found: set[tuple[str, str]] = set()
        with self._database.reading(*self.tables) as connection:
            for some in _chunks(days):
                query = select(table.c.day, table.c.run_id).where(*mine, table.c.day.in_(some)).distinct()
                found |= {(day, run_id) for day, run_id in connection.execute(query)}
        return found

    def _chunked(self, table: Table, column: Any, values: Iterable[Any], *mine: Any) -> Iterator[Any]:
        with self._database.reading(*self.tables) as connection:
            for some in _chunks(sorted(set(values))):
                yield from connection.execute(table.select().where(column.in_(some), *mine))


# ---- from an event to rows


def _step_row(event: Event) -> dict[str, Any] | None:
    facets = event["run"].get("facets", {}) if "run" in event else {}
    ours = facets.get("hybrid_run", {})
    if ours.get("kind") not in _KINDS:
        return None
    began = event["eventType"] == "START"
    site, day = _where(ours.get("partition"))
    return {
        "run_id": event["run"]["runId"],
        "source": ours.get("dagsterRunId", ""),
        "kind": ours["kind"],
        "asset": ours.get("asset", ""),
        "site": site,
        "day": day,
        "attempt": int(ours.get("attempt", 0)),
        "state": event["eventType"],
        "began": event["eventTime"] if began else None,
        "ended": None if began else event["eventTime"],
        "facts": json.dumps({n: _bare(facets[n]) for n in _RUN_FACTS if n in facets} | _location(event)),
    }


def _location(event: Event) -> dict[str, str]:
    """Where an asset is made that nothing places, as its tags have it."""
    tags = event["job"].get("facets", {}).get("tags", {}).get("tags", ())
    at = next((tag["value"] for tag in tags if tag["key"] == _LOCATION), None)
    return {} if at is None else {"location": at}


def _where(partition: str | None) -> tuple[str | None, str | None]:
    """(site, day) of a partition's key."""
    from backbone.lineage.naming import dimensions

    said = dimensions(partition) if partition else {}
    return said.get("site"), said.get("date")


def _use_rows(event: Event, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    reading: Way = "check" if step["kind"] == "checks" else "in"
    for way, side, about in ((reading, "inputs", "inputFacets"), ("out", "outputs", "outputFacets")):
        if way == "out" and step["state"] != "COMPLETE":
            continue  # what did not end well has written nothing that anybody may rely on
        for dataset in event.get(side, ()):
            facets, own = dataset.get("facets", {}), dataset.get(about, {})
            version = facets.get("version", {}).get("datasetVersion")
            site, day = _subset(own.get("subset"))
            if own.get("subset") is None:
                site, day = step["site"], step["day"] if way != "in" else None
            yield {
                "run_id": step["run_id"],
                "way": way,
                "dataset": f"{dataset['namespace']} {dataset['name']}",
                "asset": _asset_of(facets),
                "version": version,
                "number": _number(version),
                "site": site or step["site"],
                "day": day,
                "at": event["eventTime"],
                "facts": json.dumps(_use_facts(facets, own)),
            }


def _number(version: Any) -> int | None:
    """A version that grows; a digest may happen to be all digits, and would not fit."""
    text = str(version)
    return int(text) if text.isdecimal() and len(text) <= 9 else None


def _use_facts(facets: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {n: _bare(facets[n]) for n in ("hybrid_model",) if n in facets}
    found |= {n: _bare(own[n]) for n in ("hybrid_offsets",) if n in own}
    if "dataQualityAssertions" in own:
        found["checks"] = [
            {k: a[k] for k in ("name", "assertion", "success", "severity", "expected", "actual") if k in a}
            | _numbers(a)
            for a in own["dataQualityAssertions"]["assertions"]
        ]
    for name in ("outputStatistics", "inputStatistics"):
        if "rowCount" in own.get(name, {}):
            found["rows"] = own[name]["rowCount"]
    if sources := facets.get("lineage", {}).get("inputs", ()):
        found["made_from"] = [f"{s['namespace']} {s['name']}" for s in sources]
    return found


def _numbers(assertion: Mapping[str, Any]) -> dict[str, Any]:
    """What a check that failed has counted and measured."""
    if assertion.get("success", True):
        return {}
    told = assertion.get("params", {}).items()
    return {"numbers": {n: v for n, v in told if isinstance(v, int | float) and not isinstance(v, bool)}}


def _subset(subset: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    condition = (subset or {}).get("inputCondition") or (subset or {}).get("outputCondition") or {}
    for partition in condition.get("partitions", ()):
        said = partition.get("dimensions", {})
        return said.get("site"), said.get("date")
    return None, None


def _asset_of(facets: Mapping[str, Any]) -> str:
    for identifier in facets.get("symlinks", {}).get("identifiers", ()):
        if str(identifier.get("namespace", "")).startswith("dagster://"):
            return str(identifier["name"])
    return ""


def _answer_rows(event: Event, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    answer = event["run"]["facets"].get("hybrid_answer", {})
    if step["state"] != "COMPLETE" or step["day"] is None or "epoch" not in answer:
        return
    for equipment, told in (answer.get("machines") or {}).items():
        yield {
            "site": step["site"],
            "equipment_class": step["asset"].partition("/")[0],
            "equipment": equipment,
            "day": step["day"],
            "epoch": int(answer["epoch"]),
            "run_id": step["run_id"],
            "facts": json.dumps(told),
        }


def _column_rows(event: Event, made_asset: str) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    assets = {(d["namespace"], d["name"]): _asset_of(d.get("facets", {})) for d in event.get("inputs", ())}
    for made in event.get("outputs", ()):
        lineage = made.get("facets", {}).get("columnLineage")
        if not lineage:
            continue
        fields = [(n, f["inputFields"]) for n, f in lineage.get("fields", {}).items()]
        for name, sources in [*fields, ("", lineage.get("dataset", ()))]:
            for source in sources:
                asset = assets.get((source["namespace"], source["name"]), "")
                how = (source.get("transformations") or [{}])[0].get("type", "")
                row = {"asset": made_asset, "name": name, "source_asset": asset, "source": source["field"]}
                yield tuple(row.values()), {**row, "how": how}


def _bare(facet: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facet.items() if not name.startswith("_")}


# ---- rows


def _step(row: Any) -> Step:
    return Step(
        row.run_id,
        row.source,
        row.kind,
        row.asset,
        row.site,
        row.day,
        row.attempt,
        row.state,
        row.began,
        row.ended,
        json.loads(row.facts),
    )


def _use(row: Any) -> Use:
    return Use(
        row.id,
        row.run_id,
        row.way,
        row.dataset,
        row.asset,
        row.version,
        row.number,
        row.site,
        row.day,
        json.loads(row.facts),
    )


def _told(row: Any) -> Told:
    return Told(row.site, row.equipment_class, row.equipment, row.day, row.epoch, row.run_id, json.loads(row.facts))


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))
