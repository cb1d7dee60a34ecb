"""What must hold when a rehearsal has ended, read from what the plant keeps."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg

from chaos.daemon import RUN_KEY
from chaos.stage import EQUIPMENT_CLASS, Stage
from chaos.witness import Witness
from maintenance.advisories import SAFE_DEFAULT
from quality.judged import JUDGED
from quality.reconciliation import reconcile
from resources.dispatch import latest_s, most_tries
from resources.plant import Plant
from resources.state.outbox import Outbox, key_of
from resources.state.verdicts import ANSWER_RESTS_ON
from resources.state.works import LEFT_RUNNING, Work
from sensors.quality import unjudged

_ROUNDING_S = 1e-3
"""Of times that the ledger keeps in microseconds."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Counts over the windows of the rehearsal, and what did not hold."""

    due: int
    given: int
    missing: int
    twice: int
    by_rung: dict[str, int]
    violations: list[str]


def examine(stage: Stage, plant: Plant, instance: dg.DagsterInstance, witness: Witness, since: date) -> Findings:
    """Everything that can be read at the end; windows before `since` were there before the rehearsal."""
    site, violations = stage.site.name, []
    readings = plant.table(EQUIPMENT_CLASS, "telemetry").read(site, since, columns=["equipment_id", "ts", "date"])
    newest: dict[tuple[date, str], Any] = {}
    for row in readings.to_pylist():
        pair = (row["date"], row["equipment_id"])
        newest[pair] = max(row["ts"], newest.get(pair, row["ts"]))
    due = set(newest)
    landed = {day for day in plant.progress(EQUIPMENT_CLASS).landed if day >= since}
    table, answers = plant.advisories(EQUIPMENT_CLASS), plant.answers(EQUIPMENT_CLASS).all()
    history, current = table.history(site, since).to_pylist(), table.read(site, since).to_pylist()

    given = Counter((r["date"], r["equipment_id"]) for r in current)
    missing = sorted(due - set(given))
    violations += [f"{day}: {machine} has readings and no answer" for day, machine in missing]
    violations += [
        f"{r['date']}: {r['equipment_id']} is answered for as of {r['ts']:%H:%M}, and has later readings"
        for r in current
        if r["served_by"] != SAFE_DEFAULT and r["ts"] < newest.get((r["date"], r["equipment_id"]), r["ts"])
    ]
    unanswered = sorted(landed - set(answers))
    violations += [f"{day}: readings have landed, and no run ever answered" for day in unanswered]

    ever = Counter((r["date"], r["equipment_id"], r["epoch"]) for r in history)
    repeated = [f"{d}: {m} has {n} answers of epoch {e}" for (d, m, e), n in sorted(ever.items()) if n > 1]
    repeated += [f"{d}: {n} runs stood in for epoch {e}" for (d, e), n in sorted(witness.stood_in.items()) if n > 1]
    keys = Counter(r.tags[RUN_KEY] for r in instance.get_runs() if RUN_KEY in r.tags)
    repeated += [f"{n} runs have the key {key}" for key, n in sorted(keys.items()) if n > 1]
    violations += repeated

    violations += _told_who(history)
    violations += _one_story(current, answers, since)
    violations += [
        f"{day}: still degraded, {a.mendable} machines: {dict(sorted(a.reasons.items()))}, tries {a.tries}"
        for day, a in answers.items()
        if a.mendable
    ]
    violations += [
        f"{day}: {accepted} rows accepted, {kept} kept"
        for day, accepted, kept in reconcile(plant, EQUIPMENT_CLASS)
        if accepted != kept
    ]
    progress = plant.progress(EQUIPMENT_CLASS)
    violations += [
        f"{day}: landed readings were never served"
        for day in sorted(landed)
        if progress.served.get(day) != progress.landed[day]
    ]
    violations += _judged(plant, since)
    violations += _told(stage, plant, instance)
    violations += _work(stage, plant)
    unfinished = [r for r in instance.get_runs() if not r.is_finished]
    violations += [f"a run of {r.job_name} is {r.status.value} for ever" for r in unfinished]
    rungs = Counter(r["served_by"] or "nobody" for r in history)
    answered = sum(pair in given for pair in due)
    return Findings(len(due), answered, len(missing), len(repeated), dict(sorted(rungs.items())), violations)


def _told_who(history: list[dict[str, Any]]) -> list[str]:
    wrong = []
    for row in history:
        if not row["served_by"]:
            wrong.append(f"{row['date']}: nobody says who answered for {row['equipment_id']}, epoch {row['epoch']}")
        if row["degraded"] != (row["fallback_reason"] is not None):
            wrong.append(f"{row['date']}: {row['equipment_id']}, epoch {row['epoch']}, is degraded without a reason")
    return wrong


def _one_story(current: list[dict[str, Any]], answers: Any, since: date) -> list[str]:
    """The advisories that hold and the record of answers tell the same."""
    by_day: defaultdict[date, list[dict[str, Any]]] = defaultdict(list)
    for row in current:
        by_day[row["date"]].append(row)
    wrong = []
    for day, answer in answers.items():
        if day < since:
            continue
        epochs, who = {r["epoch"] for r in by_day[day]}, Counter(r["served_by"] for r in by_day[day])
        if epochs - {answer.epoch}:
            wrong.append(f"{day}: the advisories are of epoch {max(epochs)}, the record says {answer.epoch}")
        elif dict(who) != dict(answer.served_by):
            told = f"{dict(sorted(who.items()))}, the record says {dict(sorted(answer.served_by.items()))}"
            wrong.append(f"{day}: the advisories are by {told}")
    return wrong


def _judged(plant: Plant, since: date) -> list[str]:
    """Every window was judged as it now stands, and no verdict forbids what has been mended."""
    products = [name for name in JUDGED if any(c.product == name for c in plant.catalog.contracts.values())]
    due = unjudged(plant, EQUIPMENT_CLASS, [p for p in products if plant.table(EQUIPMENT_CLASS, p).exists])
    wrong = [f"{day}: written and never judged: {', '.join(late)}" for day, late in sorted(due.items())]
    blocked = plant.verdicts(EQUIPMENT_CLASS).blocked(ANSWER_RESTS_ON)
    return wrong + [
        f"{day}: {verdict.product} is blocked at the end: {dict(sorted(verdict.failed.items()))}"
        for day, verdicts in blocked.items()
        if day >= since
        for verdict in verdicts
    ]


def _told(stage: Stage, plant: Plant, instance: dg.DagsterInstance) -> list[str]:
    """Lineage: every event is on file once, and every run has its beginning and one end there."""
    outbox = Outbox(plant.database)
    lines = stage.told.read_bytes().splitlines() if stage.told.exists() else []
    keys = Counter(key_of(json.loads(line)) for line in lines)
    wrong = [f"lineage: {n} events are {key.type} of {key.subject} at {key.time}" for key, n in keys.items() if n > 1]
    kept = outbox.standing()
    if kept.pending or kept.set_aside or kept.delivered != len(keys):
        wrong.append(
            f"lineage: {len(keys)} events are on file, {kept.delivered} were delivered, {kept.pending} wait, "
            f"{kept.set_aside} were set aside"
        )
    wrong += [f"lineage: run {held.run_id} could not be read: {held.trouble}" for held in outbox.troubles()]
    told: defaultdict[str, Counter[bool]] = defaultdict(Counter)
    for key in keys:
        told[key.subject][key.type == "START"] += 1
    for run in instance.get_runs():
        begun, ended = told[run.run_id][True], told[run.run_id][False]
        if (begun, ended) != (1, 1):
            wrong.append(f"lineage: a run of {run.job_name} has {begun} beginnings and {ended} ends on file")
    return wrong


def _work(stage: Stage, plant: Plant) -> list[str]:
    """All tries of a run's workload are bounded together, whatever they ask; those after the first by one deadline."""
    wrong = [f"{w.workload} on {w.target} runs for ever in the ledger" for w in plant.works.left_running()]
    by_run: defaultdict[tuple[str, str], list[Work]] = defaultdict(list)
    for work in plant.works.all():
        by_run[work.run_id, work.workload].append(work)
    for (_, workload), tries in by_run.items():
        most, deadline_s = most_tries(stage.site, workload), latest_s(stage.site, workload)
        if len(tries) > most:
            wrong.append(f"{workload} was tried {len(tries)} times in one run, at most {most} are allowed")
        took_s = sum(_given_s(work) for work in tries[1:])
        if deadline_s is not None and took_s > deadline_s + _ROUNDING_S:
            wrong.append(f"{workload} went on for {took_s:.1f} s after its first try, {deadline_s:g} s are allowed")
    return wrong


def _given_s(work: Work) -> float:
    """How long a try was waited for, at least. One that was lost is on the books until somebody found and ended it."""
    if work.why.endswith(LEFT_RUNNING):
        return 0.0
    given_s = (work.until - work.began).total_seconds()
    return given_s if work.seconds is None else min(work.seconds, given_s)
