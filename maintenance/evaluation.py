"""Whether a trained model earns its release, judged on machines that no release ever learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from maintenance.equipment_class import EquipmentClass
from maintenance.prognosis import Scorer
from maintenance.question import question_of, question_spec
from maintenance.training_set import TrainingSet

OTHER_FEATURES = "The release before was made for other features, so it cannot serve any longer."


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


def compare(
    cls: EquipmentClass, data: TrainingSet, candidate: Scorer, incumbent: tuple[Scorer, TrainingSet] | None = None
) -> Evaluation:
    """Judge a candidate against the rules and the release it would replace, as the class's question has it.

    Args:
        data: held-out machines, with features against the candidate's baseline.
        incumbent: the release in force, and the same rows with features against its own baseline.
    """
    question = question_of(cls)
    if not question.cases(data):
        return Evaluation(False, (question_spec(cls).unjudged,), {})
    return question.judge(data, candidate, incumbent)


@dataclass(frozen=True, slots=True)
class Standing:
    """Error, in whatever the question has one, and long-run cost per RUL unit; less is better of both."""

    error: float
    cost: float


def judge_standings(
    metrics: dict[str, float],
    model: Standing,
    rules: Standing,
    before: Callable[[], Standing] | None,
    *,
    comparable: bool,
    text: Callable[[Standing], str],
    told: Callable[[Standing], dict[str, float]],
) -> Evaluation:
    """A model passes if it beats the rules in error and in cost, and the incumbent in one of the two while being no
    worse in the other.

    Args:
        before: of the release in force; None if there is none.
        comparable: that release takes the same features and answers the same question as this one.
        text: a standing in words.
        told: what the metrics say of the release in force.
    """
    against: list[str] = []
    pro: list[str] = []
    for what, ours, theirs in (("error", model.error, rules.error), ("cost", model.cost, rules.cost)):
        (pro if ours < theirs else against).append(
            f"{what.capitalize()} {ours:.4g} is {'below' if ours < theirs else 'not below'} the rules' {theirs:.4g}."
        )
    if before is not None and comparable:
        previous = before()
        metrics = metrics | told(previous)
        better = (model.error < previous.error and model.cost <= previous.cost) or (
            model.cost < previous.cost and model.error <= previous.error
        )
        (pro if better else against).append(
            f"{'Better' if better else 'No better'} than the release before: {text(model)}, against {text(previous)}."
        )
    elif before is not None:
        pro.append(OTHER_FEATURES)
    return Evaluation(not against, tuple(against or pro), metrics)
