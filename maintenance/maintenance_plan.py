"""The maintenance plan: which work comes first, and what waiting would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from maintenance.advisories import Advisory
from maintenance.assessments import Severity
from maintenance.equipment_class import EquipmentClass


@dataclass(frozen=True, slots=True)
class PlannedWork:
    """One machine's place in the plan; `rank` 1 comes first.

    Attributes:
        failure_probability: that the machine fails within the class's lead time.
        cost_now: of replacing now: the planned cost, and the share of it that the thrown-away life had paid for.
        cost_waiting: expected, of waiting one lead time first. These three are None where no RUL is known.
    """

    rank: int
    equipment: str
    severity: Severity
    action: str
    act_by: datetime | None
    served_by: str
    failure_probability: float | None
    cost_now: float | None
    cost_waiting: float | None

    @property
    def saving(self) -> float | None:
        """What acting now saves over waiting; below zero: waiting is cheaper."""
        if self.cost_now is None or self.cost_waiting is None:
            return None
        return self.cost_waiting - self.cost_now


def plan(cls: EquipmentClass, advisories: Sequence[Advisory]) -> tuple[PlannedWork, ...]:
    """Every machine, the most urgent first: by severity, then by what acting now saves, then by name.

    A machine nobody can say anything about stands with the work to be planned, since somebody must look at it.
    """
    works = sorted((_planned(cls, a) for a in advisories), key=_key)
    return tuple(replace(work, rank=rank) for rank, work in enumerate(works, start=1))


def _planned(cls: EquipmentClass, advisory: Advisory) -> PlannedWork:
    probability = now = waiting = None
    if advisory.rul is not None:
        quantiles = _quantiles(advisory.rul, advisory.rul_low, advisory.rul_high)
        probability = _probability(quantiles, cls.lead)
        # The machine would serve this much of the lead time, were it left alone.
        grid = np.linspace(0, cls.lead, 33)
        served = float(np.trapezoid([1 - _probability(quantiles, t) for t in grid], grid))
        whole_life = max(advisory.age + advisory.rul, cls.lead)
        now = cls.cost.planned * (1 + served / whole_life)
        waiting = probability * cls.cost.failure + (1 - probability) * cls.cost.planned
    return PlannedWork(
        0,
        advisory.equipment,
        advisory.severity,
        advisory.action,
        advisory.act_by,
        advisory.served_by,
        probability,
        now,
        waiting,
    )


def _quantiles(rul: float, low: float | None, high: float | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """RUL at rising probabilities; without an interval, anything between nothing and twice the estimate."""
    low, high = (0.0, 2 * rul) if low is None or high is None else (low, high)
    return (0.0, low, rul, high, 2 * high - rul + 1e-9), (0.0, 0.05, 0.5, 0.95, 1.0)


def _probability(quantiles: tuple[tuple[float, ...], tuple[float, ...]], time: float) -> float:
    """That the machine fails within `time`, by straight lines between the quantiles."""
    return float(np.interp(time, *quantiles))


def _urgency(severity: Severity) -> int:
    return Severity.PLAN if severity == Severity.UNKNOWN else severity


def _key(work: PlannedWork) -> tuple[int, float, str]:
    return -_urgency(work.severity), -(work.saving or 0.0), work.equipment
