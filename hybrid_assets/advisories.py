"""Advisories and the maintenance plan: the better available answer for every machine, and what to do first."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backbone.errors import IntegrityError
from backbone.reasons import BLOCKED, INHERENT
from backbone.windows import WindowRange
from hybrid_assets import pictures
from hybrid_assets.fleet import Fleet, emit_per_window
from hybrid_assets.metadata import picture, preview, row_counts, tally
from hybrid_assets.prognosis_tables import numbers, prognoses_from_arrow, texts
from maintenance.advisories import Advisory, advise, safe_default
from maintenance.assessments import Assessments, Severity
from maintenance.equipment_class import EquipmentClass
from maintenance.plan import maintenance_plan as plan_of
from maintenance.prognosis import Prognoses
from maintenance.question import question_spec
from maintenance.readings import rows_from_arrow
from resources.bindings.partitions import SERVES
from resources.bindings.plants import Plants, failures
from resources.plant import Plant
from resources.state.answers import Answer
from resources.stores.answers import EPOCH
from resources.stores.tables import DATE

_PICTURE_DAYS = 120
_KNOWN_DAYS = 30


def give_advisories(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> dg.MaterializeResult:
    """Advise on every machine of the run's windows, or let the rules in another run's place."""
    cls = fleet.equipment_class
    advisory_schema = fleet.contracts["advisories"].arrow_schema
    answer_schema = advisory_schema.remove(advisory_schema.get_field_index(EPOCH))  # the table numbers them
    with failures():
        plant, windows, epoch = fleet.attempt(context, plants)
        # Taken before the answers are read, so that what lands meanwhile makes its window due again.
        ingested = plant.progress(fleet.name).ingested
        instead_of = context.run.tags.get(SERVES)
        if instead_of is None:
            answers = _answers(plant, cls, windows)
            blocked = [day for day in plant.verdicts(fleet.name).blocked() if day in windows]
            answers += _defaults(plant, cls, blocked, answers, BLOCKED)
        else:
            answers = _answers_in_place(plant, cls, windows, instead_of)
        given = _table(answers, answer_schema)
        table = plant.advisories(fleet.name)
        table.add(windows, given, epoch=epoch, run_id=context.run.run_id)
        # Not what was just given: the run this one stands in for may have died after it had answered.
        holds = table.of_epoch(windows, epoch)
        standing = _standing(holds, windows, epoch, plant.clock.now())
        kept = plant.answers(fleet.name).record(standing)
        served = {day: ingested[day] for day in kept if day in ingested}
        plant.state.answers_leave_out(fleet.name, windows.site, kept)
        plant.state.mark_windows("served", fleet.name, windows, served)
        rows = table.read(windows.site, windows.first, windows.last)
        health = _fleet_health(plant, cls, windows)
    machines = _by_machine(holds)
    told = {
        day: {"answer": _given(answer, machines.get(day, {}), holds=day in kept)} for day, answer in standing.items()
    }
    daily = {day: numbers | told[day] for day, numbers in _daily(rows, windows).items()}
    emit_per_window(context, fleet.key("advisories"), windows.site, daily)
    degraded = pc.sum(rows["degraded"].cast(pa.int64())).as_py() or 0
    return dg.MaterializeResult(
        metadata={
            "rows": rows.num_rows,
            "epoch": epoch,
            "superseded_windows": len(windows) - len(kept),
            "degraded": degraded,
            "fallback_share": degraded / rows.num_rows if rows.num_rows else 0.0,
            "served_by": tally(rows["served_by"]),
            "fallback_reasons": tally(rows["fallback_reason"].drop_null()),
            "breakers": _breakers(plant),
            "preview": preview(_most_urgent(rows), columns=advisory_schema.names[:9]),
            **health,
        }
    )


def rank_work(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> dg.MaterializeResult:
    """Rank the work of the run's windows."""
    cls = fleet.equipment_class
    plan_schema = fleet.contracts["maintenance_plan"].arrow_schema
    with failures():
        plant, windows, _ = fleet.attempt(context, plants)
        stored = plant.advisories(fleet.name).read(windows.site, windows.first, windows.last)
        planned: list[dict[str, Any]] = []
        for day, advised in _by_day(stored).items():
            planned += [{**asdict(work), DATE: day} for work in plan_of(cls, advised)]
        rows = _table(planned, plan_schema)
        plant.table(fleet.name, "maintenance_plan").replace(windows, rows, run_id=context.run.run_id)
    values = {day: numbers | {"saved_by_acting": 0.0} for day, numbers in row_counts(rows, windows).items()}
    for row in rows.to_pylist():
        numbers = values[row[DATE]]
        numbers["saved_by_acting"] += max((row["cost_of_waiting"] or row["cost_now"]) - row["cost_now"], 0.0)
    emit_per_window(context, fleet.key("maintenance_plan"), windows.site, values)
    newest = rows.filter(pc.equal(rows[DATE], pa.scalar(windows.last)))
    return dg.MaterializeResult(
        metadata={
            "rows": rows.num_rows,
            "currency": cls.cost.currency,
            "newest_window": preview(newest.sort_by("rank"), columns=plan_schema.names[:9]),
        }
    )


def _answers(plant: Plant, cls: EquipmentClass, windows: WindowRange) -> list[dict[str, Any]]:
    """Every machine's advisory for every window, as rows."""
    order = [(DATE, "ascending"), ("equipment_id", "ascending")]
    prognoses = plant.table(cls.name, "prognoses").read(windows.site, windows.first, windows.last).sort_by(order)
    assessed = plant.table(cls.name, "rule_assessments").read(windows.site, windows.first, windows.last).sort_by(order)
    if not prognoses.select(["equipment_id", "ts"]).equals(assessed.select(["equipment_id", "ts"])):
        raise IntegrityError(
            f"Prognoses and rule assessments of {windows.first} to {windows.last} are not of the same readings.",
            next_step=f"Materialize {cls.name}/prognoses and {cls.name}/rule_assessments for these windows.",
        )
    advised = advise(
        cls,
        _assessments(assessed),
        prognoses_from_arrow(cls, prognoses),
        releases=[None if version is None else f"v{version}" for version in prognoses["release"].to_pylist()],
        passed_over=prognoses["passed_over"].to_pylist(),
    )
    return [{**a._asdict(), DATE: day} for a, day in zip(advised, prognoses[DATE].to_pylist(), strict=True)]


def _answers_in_place(plant: Plant, cls: EquipmentClass, windows: WindowRange, reason: str) -> list[dict[str, Any]]:
    """The rules' answer for every machine they can tell something of, a safe default for all others."""
    assessed = plant.table(cls.name, "rule_assessments").read(windows.site, windows.first, windows.last)
    assessed = assessed.sort_by([(DATE, "ascending"), ("equipment_id", "ascending")])
    n = assessed.num_rows
    nothing, none = np.full(n, np.nan), np.full(n, None, dtype=object)
    reasons = np.full(n, reason, dtype=object)
    silent = Prognoses(rows_from_arrow(assessed), nothing, nothing, nothing, none, nothing, reasons, nothing)
    advised = advise(cls, _assessments(assessed), silent, releases=[None] * n, passed_over=[None] * n)
    found = [{**a._asdict(), DATE: day} for a, day in zip(advised, assessed[DATE].to_pylist(), strict=True)]
    return found + _defaults(plant, cls, windows, found, reason)


def _defaults(
    plant: Plant, cls: EquipmentClass, days: Iterable[date], given: Sequence[Mapping[str, Any]], reason: str
) -> list[dict[str, Any]]:
    """A safe default for every known machine that has no answer among those given for these days."""
    answered = {(row["equipment_id"], row[DATE]) for row in given}
    found = []
    for day in days:
        for machine in _known_machines(plant, cls, day):
            if (machine, day) not in answered:
                ts = datetime.combine(day, time(), UTC)
                default = safe_default(cls, machine, ts, reason, "Nothing is known of it in this window.")
                found.append({**default._asdict(), DATE: day})
    return found


def _known_machines(plant: Plant, cls: EquipmentClass, day: date) -> list[str]:
    """Machines that had an answer or a reading in the days before, so that one is due now."""
    since, machines = day - timedelta(days=_KNOWN_DAYS), set()
    for table in (plant.advisories(cls.name), plant.table(cls.name, "telemetry")):
        if table.exists:
            rows = table.read(plant.site.name, since, day, columns=["equipment_id"])
            machines |= set(pc.unique(rows["equipment_id"]).to_pylist())
    return sorted(machines)


def _standing(rows: pa.Table, windows: WindowRange, epoch: int, now: datetime) -> dict[date, Answer]:
    """How each window stands with these answers."""
    found = {}
    for day in windows:
        mine = rows.filter(pc.equal(rows[DATE], pa.scalar(day))).select(["served_by", "fallback_reason"]).to_pylist()
        reasons = Counter(r["fallback_reason"] for r in mine if r["fallback_reason"] is not None)
        found[day] = Answer(
            day=day,
            epoch=epoch,
            rows=len(mine),
            served_by=Counter(r["served_by"] for r in mine),
            degraded=sum(reasons.values()),
            mendable=sum(n for reason, n in reasons.items() if reason not in INHERENT),
            reasons=reasons,
            answered_at=now,
        )
    return found


def _breakers(plant: Plant) -> dg.MarkdownMetadataValue:
    """The circuit breakers of the site, those of its targets and of its models."""
    lines = ["| breaker | state | since | failing |", "|---|---|---|---|"]
    for prefix in (f"target/{plant.site.name}/", f"model/{plant.site.name}/"):
        for name, view in plant.breakers.states(prefix).items():
            since = f"{view.changed_at:%Y-%m-%d %H:%M} UTC"
            lines.append(f"| {name} | {view.mode} | {since} | {view.failure_share:.0%} |")
    return dg.MetadataValue.md("\n".join(lines) if len(lines) > 2 else "*all closed, none was ever used*")


def _assessments(table: pa.Table) -> Assessments:
    reasons = table["reason"].to_pylist()
    return Assessments(
        rows_from_arrow(table),
        table["severity"].to_numpy(),
        numbers(table, "rul"),
        texts(table, "symptom"),
        reasons.__getitem__,
    )


def _table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    named = [row | {"severity": Severity(row["severity"]).name.lower()} for row in rows]
    return pa.Table.from_pylist(named, schema)


def _by_day(table: pa.Table) -> dict[date, list[Advisory]]:
    names = set(Advisory._fields)
    found: dict[date, list[Advisory]] = {}
    for row in table.to_pylist():
        values = {name: value for name, value in row.items() if name in names}
        values["severity"] = Severity[row["severity"].upper()]
        found.setdefault(row[DATE], []).append(Advisory(**values))
    return found


def _most_urgent(rows: pa.Table) -> pa.Table:
    """The newest window's rows, those that are due first."""
    if not rows.num_rows:
        return rows
    newest = rows.filter(pc.equal(rows[DATE], pc.max(rows[DATE])))
    due_first = [("act_by", "ascending", "at_end"), ("rul", "ascending", "at_end")]
    return newest.take(pc.sort_indices(newest, due_first))


def _by_machine(rows: pa.Table) -> dict[date, dict[str, dict[str, Any]]]:
    """Day → machine → who answered and what it needs."""
    found: dict[date, dict[str, dict[str, Any]]] = {}
    names = ("served_by", "fallback_reason", "severity", "action")
    for row in rows.select([DATE, "equipment_id", *names]).to_pylist():
        found.setdefault(row[DATE], {})[row["equipment_id"]] = {n: row[n] for n in names if row[n] is not None}
    return found


def _given(answer: Answer, machines: dict[str, dict[str, Any]], *, holds: bool) -> dict[str, Any]:
    """What this run answered for a window, for those who trace it: no later answer changes that."""
    return {
        "epoch": answer.epoch,
        "rows": answer.rows,
        "served_by": dict(answer.served_by),
        "fallback_reasons": dict(answer.reasons),
        "degraded": answer.degraded,
        "holds": holds,
        "machines": machines,
    }


def _daily(rows: pa.Table, windows: WindowRange) -> dict[date, dict[str, Any]]:
    none = {"degraded": 0, "act_now": 0, "plan": 0}
    values = {day: numbers | none for day, numbers in row_counts(rows, windows).items()}
    for row in rows.select([DATE, "degraded", "severity"]).to_pylist():
        numbers = values[row[DATE]]
        numbers["degraded"] += int(row["degraded"])
        numbers["act_now"] += int(row["severity"] == "act")
        numbers["plan"] += int(row["severity"] == "plan")
    return values


def _fleet_health(plant: Plant, cls: EquipmentClass, windows: WindowRange) -> dict[str, Any]:
    """The fleet's remaining useful life over the last months, a row a machine; nothing where a risk is asked for."""
    if question_spec(cls).risk is not None:
        return {}
    since = windows.last - timedelta(days=_PICTURE_DAYS - 1)
    rows = plant.advisories(cls.name).read(windows.site, since, windows.last, columns=["equipment_id", DATE, "rul"])
    if not rows.num_rows:
        return {}
    days = sorted(set(rows[DATE].to_pylist()))
    machines = sorted(set(rows["equipment_id"].to_pylist()))
    column, line = {day: i for i, day in enumerate(days)}, {name: i for i, name in enumerate(machines)}
    rul = np.full((len(machines), len(days)), np.nan)
    for row in rows.to_pylist():
        if row["rul"] is not None:
            rul[line[row["equipment_id"]], column[row[DATE]]] = row["rul"]
    title = f"{windows.site}: health of every {cls.name}"
    return {
        "fleet_health": picture(
            pictures.fleet_health(days, machines, rul, cap=cls.rul.cap, unit=cls.rul.unit, title=title)
        )
    }
