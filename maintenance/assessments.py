"""What the rules say of each reading: how severe, why, and how long is left.

Rules need no failures to learn from, so they serve a class from its first day, and whenever a model cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import maintenance.rules
from backbone import plugins
from maintenance.equipment_class import EquipmentClass
from maintenance.features import Features

if TYPE_CHECKING:
    import numpy as np

    from maintenance.readings import Rows


class Severity(IntEnum):
    """How urgent something is; `UNKNOWN` when nothing could be read."""

    UNKNOWN = -1
    OK = 0
    WATCH = 1
    PLAN = 2
    ACT = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's view of n readings.

    Attributes:
        severity: (n,) int8, values of `Severity`.
        rul: (n,) estimate in RUL units, NaN where the rule has none.
        sensor: (n,) index into the class's inputs of what the rule saw; -1: no sensor.
        explain: one row's reason, for people.
    """

    severity: np.ndarray
    rul: np.ndarray
    sensor: np.ndarray
    explain: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """How a rule presents itself: one `SPEC` a module of `maintenance.rules`, named like the module.

    `settings` is the frozen dataclass of its thresholds, every one with a bound checked. `check` raises
    `ConfigurationError` where settings do not fit the class. `cannot` says what the rule is blind to.
    """

    name: str
    summary: str
    cannot: tuple[str, ...]
    settings: type[Any]
    check: Callable[[EquipmentClass, Any], None]
    assess: Callable[[EquipmentClass, Any, Features], Finding]


@dataclass(frozen=True, slots=True)
class Assessments:
    """All rules' joint view of n readings.

    Attributes:
        severity: (n,) int8, that of the most severe rule.
        rul: (n,) the shortest estimate in RUL units; NaN where no rule has one.
        symptom: (n,) the sensor that the most severe rule saw, or None.
        reason: why a row is judged as it is; a text is made when it is asked for.
    """

    rows: Rows
    severity: np.ndarray
    rul: np.ndarray
    symptom: np.ndarray
    reason: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.severity)

    @property
    def act(self) -> np.ndarray:
        """(n,) whether the rules would replace the machine now."""
        return self.severity == Severity.ACT

    def reasons(self) -> list[str]:
        """`reason` of every row."""
        return [self.reason(row) for row in range(len(self))]


def assess(cls: EquipmentClass, features: Features) -> Assessments:
    """Ask every rule of the class and keep the most severe answer; on a tie, the rule listed first."""
    import numpy as np

    names = tuple(cls.rules)
    findings = tuple(plugins.load(maintenance.rules, n).assess(cls, cls.rules[n], features) for n in names)
    severity = np.stack([f.severity for f in findings])
    leading = severity.argmax(axis=0)
    rul = np.fmin.reduce([f.rul for f in findings])
    sensor = np.choose(leading, [f.sensor for f in findings])
    inputs = np.array([*cls.contract.inputs, None], dtype=object)
    worst = severity.max(axis=0)
    each, by = worst.tolist(), leading.tolist()

    def reason(row: int) -> str:
        if each[row] == Severity.UNKNOWN:
            return "No watched sensor has a value."
        if each[row] == Severity.OK:
            return "Every rule is content."
        return f"{names[by[row]]}: {findings[by[row]].explain(row)}"

    return Assessments(features.rows, worst, rul, inputs[sensor], reason)
