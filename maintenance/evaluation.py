"""Whether a trained model earns its release, judged on machines that no release ever learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maintenance.assessments import assess
from maintenance.equipment_class import EquipmentClass
from maintenance.metrics import best_fixed_age, coverage, nasa_score, policy_cost, rmse, width
from maintenance.prognosis import Scorer
from maintenance.training_set import TrainingSet


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`reasons` say what stands against the release, or, if it passed, what speaks for it."""

    passed: bool
    reasons: tuple[str, ...]
    metrics: dict[str, float]


def held_out(machines: Sequence[str], share: float) -> np.ndarray:
    """(m,) which machines are kept for judging releases.

    A machine's name alone decides, so it stays on its side as others come. Only where a side would be
    empty does the machine nearest to it change over.

    Args:
        machines: each once; those with a failed life.
    """
    place = np.array([int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12 for name in machines])
    held = place < share
    if len(place) > 1:
        held[place.argmin()] = True
        held[place.argmax()] = False
    return held


def split(cls: EquipmentClass, data: TrainingSet) -> tuple[TrainingSet, TrainingSet]:
    """What may be learnt from, and what is held out."""
    machines = np.unique(data.rows.machine)
    held = held_out([str(m) for m in data.rows.machines[machines]], cls.models.held_out)
    mask = np.isin(data.rows.machine, machines[held])
    return data.take(~mask), data.take(mask)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Error in RUL units and long-run cost per RUL unit."""

    error: float
    cost: float

    def text(self, unit: str) -> str:
        return f"error {self.error:.2f} {unit}s, cost {self.cost:.4f} a {unit}"


def compare(
    cls: EquipmentClass, data: TrainingSet, candidate: Scorer, incumbent: tuple[Scorer, TrainingSet] | None = None
) -> Evaluation:
    """Judge a candidate against the rules and the release it would replace.

    It passes if it beats the rules in error and in cost, and the incumbent in one of the two while being
    no worse in the other.

    Args:
        data: held-out machines, with features against the candidate's baseline.
        incumbent: the release in force, and the same rows with features against its own baseline.
    """
    if not len(data):
        return Evaluation(False, ("No held-out machine has failed so far, so nothing can be judged.",), {})
    runs, unit = data.runs, cls.rul.unit
    by_rules = assess(cls, data.features)
    # Where the rules have no estimate they see nothing wrong: as long as a label can say.
    estimate = np.where(np.isnan(by_rules.rul), cls.rul.cap, np.minimum(by_rules.rul, cls.rul.cap))
    rules = _Standing(rmse(data.rul, estimate), policy_cost(runs, by_rules.act, cls.cost).rate)
    predicted = candidate.predict(candidate.select(data.features))
    low, high = candidate.interval(predicted)
    model = _standing(cls, data, predicted, candidate.act_below)
    _, by_age = best_fixed_age(runs, cls.cost)
    metrics = {
        "rmse": model.error,
        "nasa_score": nasa_score(data.rul, predicted),
        "coverage": coverage(data.rul, low, high),
        "width": width(low, high),
        "cost_ratio": model.cost / by_age.rate,
        "rules_rmse": rules.error,
        "rules_cost_ratio": rules.cost / by_age.rate,
        "held_out_failures": float(len(runs)),
    }
    against: list[str] = []
    pro: list[str] = []
    for what, ours, theirs in (("error", model.error, rules.error), ("cost", model.cost, rules.cost)):
        (pro if ours < theirs else against).append(
            f"{what.capitalize()} {ours:.4g} is {'below' if ours < theirs else 'not below'} the rules' {theirs:.4g}."
        )
    if incumbent is not None and incumbent[0].feature_digest == candidate.feature_digest:
        scorer, rows = incumbent
        before = _standing(cls, rows, scorer.predict(scorer.select(rows.features)), scorer.act_below)
        metrics |= {"previous_rmse": before.error, "previous_cost_ratio": before.cost / by_age.rate}
        better = (model.error < before.error and model.cost <= before.cost) or (
            model.cost < before.cost and model.error <= before.error
        )
        (pro if better else against).append(
            f"{'Better' if better else 'No better'} than the release before: "
            f"{model.text(unit)}, against {before.text(unit)}."
        )
    elif incumbent is not None:
        pro.append("The release before was made for other features, so it cannot serve any longer.")
    return Evaluation(not against, tuple(against or pro), metrics)


def _standing(cls: EquipmentClass, data: TrainingSet, predicted: np.ndarray, act_below: float) -> _Standing:
    return _Standing(rmse(data.rul, predicted), policy_cost(data.runs, predicted <= act_below, cls.cost).rate)
