"""Age: the machine has served as long as it was meant to."""

from __future__ import annotations

from dataclasses import dataclass

from maintenance.assessments import Finding, RuleSpec, Severity
from maintenance.equipment_class import EquipmentClass, Positive
from maintenance.features import AGE, Features


@dataclass(frozen=True, slots=True)
class AgeSettings:
    """`life` is the age to replace at, in RUL units."""

    life: Positive


def _check(cls: EquipmentClass, settings: AgeSettings) -> None:
    """Any age fits any class."""


def _assess(cls: EquipmentClass, settings: AgeSettings, features: Features) -> Finding:
    import numpy as np

    left = np.maximum(settings.life - features[AGE.name], 0.0)
    severity = np.where(left <= 0, Severity.ACT, np.where(left <= cls.lead, Severity.PLAN, Severity.OK))

    def explain(row: int) -> str:
        return f"{settings.life - left[row]:.0f} of {settings.life:g} {cls.rul.unit}s served, or more"

    return Finding(severity.astype(np.int8), left, np.full(len(features), -1), explain)


SPEC = RuleSpec(
    name="age",
    summary="Asks for replacement at a set age, counted from the first reading of the machine's life.",
    cannot=(
        "see the machine's condition: a young failure goes unnoticed, a good old machine is replaced",
        "know how old a machine was before its first reading",
    ),
    settings=AgeSettings,
    check=_check,
    assess=_assess,
)
