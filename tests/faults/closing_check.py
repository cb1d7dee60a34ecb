"""What holds of a plant when a fault is over, whatever the fault was."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date

import dagster as dg

from quality.reconciliation import reconcile
from resources.bindings.partitions import EPOCH, STEP, run_windows
from resources.plant import Plant


def nothing_is_missing_or_twice(plant: Plant, fleet: str, instance: dg.DagsterInstance) -> None:
    """Every landed window is answered, once an epoch; the degraded ones are made good; no work and no row is lost."""
    site, advisories = plant.site.name, plant.advisories(fleet)
    history = advisories.history(site, columns=["equipment_id", "date", "epoch"]).to_pylist()
    told = Counter((r["equipment_id"], r["date"], r["epoch"]) for r in history)
    assert [key for key, n in told.items() if n > 1] == []
    holds = advisories.read(site, columns=["equipment_id", "date", "epoch", "served_by"]).to_pylist()
    landed = plant.progress(fleet).landed
    assert {r["date"] for r in holds} == set(landed)
    _answers_agree(plant, fleet, holds)
    _nobody_stood_in_twice(site, instance)
    assert plant.works.left_running() == []
    reconciled = reconcile(plant, fleet)
    assert {day for day, _, _ in reconciled} == set(landed)
    assert [r for r in reconciled if r[1] != r[2]] == []


def _answers_agree(plant: Plant, fleet: str, holds: list[dict[str, object]]) -> None:
    epochs: defaultdict[object, set[object]] = defaultdict(set)
    served: defaultdict[object, Counter[object]] = defaultdict(Counter)
    for row in holds:
        epochs[row["date"]].add(row["epoch"])
        served[row["date"]][row["served_by"]] += 1
    answers = plant.answers(fleet).all()
    assert {day: {a.epoch} for day, a in answers.items()} == epochs
    assert {day: Counter(a.served_by) for day, a in answers.items()} == served
    assert {day: a.reasons for day, a in answers.items() if a.mendable} == {}


def _nobody_stood_in_twice(site: str, instance: dg.DagsterInstance) -> None:
    stood_in: Counter[tuple[date, str]] = Counter()
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])):
        windows = run_windows(run.tags, [site])
        if run.tags.get(STEP) == "fallback" and windows is not None:
            stood_in.update((day, run.tags[EPOCH]) for day in windows)
    assert [key for key, n in stood_in.items() if n > 1] == []
