"""The maintenance plan: what to do first, and what waiting would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from maintenance.advisories import Advisory
from maintenance.assessments import Severity
from maintenance.equipment_class import EquipmentClass

_INTERVAL_SCALES = 2 * 1.6449
"""Width of a normal distribution's central 90 % in standard deviations."""


@dataclass(frozen=True, slots=True)
class PlannedWork:
    """One machine's place in the plan.

    Attributes:
        rank: 1 is most urgent.
        failure_probability: of failing within the lead time, from the prognosis and its interval, or within the
            horizon of the class's question; None where only the rules, who give none, have answered.
        cost_now: of planned work.
        cost_of_waiting: expected, over one more lead time, in the same currency; None with the probability.
    """

    rank: int
    equipment_id: str
    severity: Severity
    action: str
    act_by: datetime | None
    served_by: str
    failure_probability: float | None
    cost_now: float
    cost_of_waiting: float | None


def maintenance_plan(cls: EquipmentClass, advisories: Sequence[Advisory]) -> tuple[PlannedWork, ...]:
    """Machines that need something, the most urgent first: by severity, then by when, then by what waiting costs.

    A machine whose state is unknown ranks with those to plan for: nobody can say that it may wait.
    """
    due = [a for a in advisories if a.severity not in (Severity.OK, Severity.WATCH)]
    priced = [(a, _failure_probability(cls, a)) for a in due]

    def urgency(item: tuple[Advisory, float | None]) -> tuple[int, datetime, float, str]:
        advisory, probability = item
        severity = Severity.PLAN if advisory.severity == Severity.UNKNOWN else advisory.severity
        return -severity, advisory.act_by or advisory.ts, -(probability or 0.0), advisory.equipment_id

    return tuple(
        PlannedWork(
            rank=rank,
            equipment_id=advisory.equipment_id,
            severity=advisory.severity,
            action=advisory.action,
            act_by=advisory.act_by,
            served_by=advisory.served_by,
            failure_probability=probability,
            cost_now=cls.cost.planned,
            cost_of_waiting=_waiting(cls, probability),
        )
        for rank, (advisory, probability) in enumerate(sorted(priced, key=urgency), start=1)
    )


def _failure_probability(cls: EquipmentClass, advisory: Advisory) -> float | None:
    """As it was answered; else P(RUL ≤ lead), with the interval read as the central 90 % of a normal distribution."""
    if advisory.failure_probability is not None:
        return advisory.failure_probability
    if advisory.rul is None or advisory.rul_low is None or advisory.rul_high is None:
        return None
    scale = max((advisory.rul_high - advisory.rul_low) / _INTERVAL_SCALES, np.finfo(float).tiny)
    # The logistic approximation of the normal distribution function errs by less than 0.01.
    return float(1 / (1 + np.exp(np.clip(-1.702 * (cls.lead - advisory.rul) / scale, -500, 500))))


def _waiting(cls: EquipmentClass, probability: float | None) -> float | None:
    """Either it fails meanwhile, or the planned work is still to be done."""
    if probability is None:
        return None
    return probability * cls.cost.failure + (1 - probability) * cls.cost.planned
