"""Advisories: for each machine the best answer at hand, who gave it, and what people should do by when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from maintenance.assessments import Assessments, Severity
from maintenance.equipment_class import EquipmentClass
from maintenance.prognosis import Prognoses
from maintenance.question import Question, question_of
from maintenance.readings import Rows

RULES, SAFE_DEFAULT = "rules", "safe_default"


@dataclass(frozen=True, slots=True)
class Advisory:
    """What one machine needs, as of its newest reading.

    Attributes:
        ts: of that reading, UTC.
        served_by: `model:<release>`, `rules` or `safe_default`.
        fallback_reason: why the newest release did not answer, None if it did.
        degraded: another than the newest release answered.
        component: what to work on, None where nothing points anywhere.
        act_by: when the work is due, None where none is.
        rul, rul_low, rul_high: RUL units, None where nobody can say.
        failure_probability: of failing within the horizon of the class's question, None where none was asked for,
            or nobody can say.
    """

    equipment_id: str
    ts: datetime
    served_by: str
    fallback_reason: str | None
    degraded: bool
    severity: Severity
    component: str | None
    action: str
    reason: str
    act_by: datetime | None
    rul: float | None
    rul_low: float | None
    rul_high: float | None
    failure_probability: float | None = None


def advise(
    cls: EquipmentClass,
    assessments: Assessments,
    prognoses: Prognoses,
    *,
    releases: Sequence[str | None],
    passed_over: Sequence[str | None],
) -> tuple[Advisory, ...]:
    """One advisory a row: the model's answer, else the rules', else a safe default.

    Args:
        assessments, prognoses: of the same rows.
        releases: each row's release, such as `v3`; None where none answered.
        passed_over: why a newer release than that did not answer, None where there is none; its answer then counts
            as degraded.
    """
    question = question_of(cls)
    advisories = []
    for row in range(len(prognoses)):
        abstained = prognoses.abstained[row]
        if abstained is None:
            answer = _by_model(question, prognoses, row, f"model:{releases[row]}", passed_over[row])
        elif assessments.severity[row] == Severity.UNKNOWN:
            answer = _by_default(cls, prognoses.rows, row, abstained)
        else:
            answer = _by_rules(cls, assessments, row, abstained)
        advisories.append(answer)
    return tuple(advisories)


def _by_model(question: Question, prognoses: Prognoses, row: int, served_by: str, passed_over: str | None) -> Advisory:
    verdict = question.verdict(prognoses, row)
    answer = (verdict.severity, prognoses.driver[row], verdict.reason)
    rul, low, high = (float(a[row]) for a in (prognoses.rul, prognoses.low, prognoses.high))
    by = (served_by, passed_over)
    return _advisory(
        question.cls,
        prognoses.rows,
        row,
        by,
        answer,
        due_in=verdict.due_in,
        rul=(rul, low, high),
        chance=verdict.chance,
    )


def _by_rules(cls: EquipmentClass, assessments: Assessments, row: int, fallback_reason: str) -> Advisory:
    severity, rul = Severity(int(assessments.severity[row])), float(assessments.rul[row])
    due_in = 0.0 if severity == Severity.ACT else cls.lead if np.isnan(rul) else min(cls.lead, rul)
    answer = (severity, assessments.symptom[row], assessments.reason(row))
    by = (RULES, fallback_reason)
    return _advisory(cls, assessments.rows, row, by, answer, due_in=due_in, rul=(rul, np.nan, np.nan))


def _by_default(cls: EquipmentClass, rows: Rows, row: int, fallback_reason: str) -> Advisory:
    """Nothing can be read from the machine: what is then done is the class's to say."""
    ts = rows.ts[row].astype("datetime64[us]").item().replace(tzinfo=UTC)
    return safe_default(cls, str(rows.equipment[row]), ts, fallback_reason, "No watched sensor has a value.")


def safe_default(cls: EquipmentClass, equipment_id: str, ts: datetime, fallback_reason: str, reason: str) -> Advisory:
    """The answer for a machine of which nothing is known, as its class states it."""
    within = cls.safe_default.within if cls.safe_default.within is not None else cls.lead
    return Advisory(
        equipment_id=equipment_id,
        ts=ts,
        served_by=SAFE_DEFAULT,
        fallback_reason=fallback_reason,
        degraded=True,
        severity=Severity.UNKNOWN,
        component=None,
        action=cls.safe_default.action,
        reason=reason,
        act_by=ts + timedelta(seconds=within * cls.rul.seconds),
        rul=None,
        rul_low=None,
        rul_high=None,
    )


_ACTIONS = {
    Severity.OK: "Nothing to do.",
    Severity.WATCH: "Watch the {component}.",
    Severity.PLAN: "Plan work on the {component}.",
    Severity.ACT: "Overhaul or replace the {component} now.",
}
_ACTIONS_BY_SENSOR = {
    Severity.OK: "Nothing to do.",
    Severity.WATCH: "Watch {sensor}.",
    Severity.PLAN: "Plan work; look at {sensor}.",
    Severity.ACT: "Overhaul or replace the machine now; look at {sensor}.",
}
"""Where the class names no component that the sensor tells about: nobody works on a reading."""


def _action(cls: EquipmentClass, severity: Severity, sensor: str | None) -> str:
    named = cls.named_component(sensor) if sensor is not None else "machine"
    if named is None:
        return _ACTIONS_BY_SENSOR[severity].format(sensor=sensor)
    return _ACTIONS[severity].format(component=named)


def _advisory(
    cls: EquipmentClass,
    rows: Rows,
    row: int,
    by: tuple[str, str | None],
    answer: tuple[Severity, str | None, str],
    *,
    due_in: float,
    rul: tuple[float, float, float],
    chance: float | None = None,
) -> Advisory:
    (served_by, fallback_reason), (severity, sensor, reason) = by, answer
    ts = rows.ts[row].astype("datetime64[us]").item().replace(tzinfo=UTC)
    component = cls.component(sensor) if sensor is not None and severity > Severity.OK else None
    left, low, high = (None if np.isnan(v) else v for v in rul)
    due = severity not in (Severity.OK, Severity.WATCH)
    return Advisory(
        equipment_id=str(rows.equipment[row]),
        ts=ts,
        served_by=served_by,
        fallback_reason=fallback_reason,
        degraded=fallback_reason is not None,
        severity=severity,
        component=component,
        action=_action(cls, severity, sensor),
        reason=reason,
        act_by=ts + timedelta(seconds=due_in * cls.rul.seconds) if due else None,
        rul=left,
        rul_low=low,
        rul_high=high,
        failure_probability=chance,
    )
