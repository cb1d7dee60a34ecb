"""Advisories: for each machine the best answer at hand, who gave it, and what people should do by when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isnan, nan

from maintenance.answers import Answer, Verdict
from maintenance.assessments import Assessments, Severity
from maintenance.equipment_class import EquipmentClass
from maintenance.prognosis import Prognoses
from maintenance.question import question_of
from maintenance.readings import Rows

RULES, SAFE_DEFAULT = "rules", "safe_default"

_OK, _NOTHING_DUE = Severity.OK, (Severity.OK, Severity.WATCH)


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
    writer = _Writer(cls, prognoses.rows)
    verdict, answers = question_of(cls).verdict, prognoses.answers()
    advisories = []
    for row, abstained in enumerate(prognoses.abstained.tolist()):
        if abstained is None:
            answer = answers[row]
            advisory = writer.by_model(row, releases[row], passed_over[row], answer, verdict(answer))
        elif assessments.severity[row] == Severity.UNKNOWN:
            advisory = writer.by_default(row, abstained)
        else:
            advisory = writer.by_rules(row, abstained, assessments)
        advisories.append(advisory)
    return tuple(advisories)


def advise_by_model(
    cls: EquipmentClass,
    rows: Rows,
    answers: Sequence[Answer],
    verdicts: Sequence[Verdict],
    *,
    release: str,
    passed_over: Sequence[str | None],
) -> list[Advisory]:
    """One advisory a row, all of which one release has answered; as `advise` gives them."""
    writer = _Writer(cls, rows)
    return [
        writer.by_model(row, release, why, answer, verdict)
        for row, (why, answer, verdict) in enumerate(zip(passed_over, answers, verdicts, strict=True))
    ]


class _Writer:
    """Advisories of rows, one at a time; what can be had of all rows at once is."""

    def __init__(self, cls: EquipmentClass, rows: Rows) -> None:
        self._class, self._equipment = cls, rows.equipment.tolist()
        self._work: dict[tuple[Severity, str | None], tuple[str | None, str]] = {}
        """Component and action."""
        self._ts = [ts.replace(tzinfo=UTC) for ts in rows.ts.astype("datetime64[us]").tolist()]

    def by_model(
        self, row: int, release: str | None, passed_over: str | None, answer: Answer, verdict: Verdict
    ) -> Advisory:
        return self._advisory(
            row,
            (f"model:{release}", passed_over),
            (verdict.severity, answer.driver, verdict.reason),
            due_in=verdict.due_in,
            rul=(answer.rul, answer.low, answer.high),
            chance=verdict.chance,
        )

    def by_rules(self, row: int, fallback_reason: str, assessments: Assessments) -> Advisory:
        cls = self._class
        severity, rul = Severity(int(assessments.severity[row])), float(assessments.rul[row])
        due_in = 0.0 if severity == Severity.ACT else cls.lead if isnan(rul) else min(cls.lead, rul)
        answer = (severity, assessments.symptom[row], assessments.reason(row))
        return self._advisory(row, (RULES, fallback_reason), answer, due_in=due_in, rul=(rul, nan, nan))

    def by_default(self, row: int, fallback_reason: str) -> Advisory:
        """Nothing can be read from the machine: what is then done is the class's to say."""
        why = "No watched sensor has a value."
        return safe_default(self._class, str(self._equipment[row]), self._ts[row], fallback_reason, why)

    def _advisory(
        self,
        row: int,
        by: tuple[str, str | None],
        answer: tuple[Severity, str | None, str],
        *,
        due_in: float,
        rul: tuple[float, float, float],
        chance: float | None = None,
    ) -> Advisory:
        (served_by, fallback_reason), (severity, sensor, reason), (left, low, high) = by, answer, rul
        cls, ts = self._class, self._ts[row]
        work = self._work.get((severity, sensor))
        if work is None:
            component = cls.component(sensor) if sensor is not None and severity > _OK else None
            work = self._work[severity, sensor] = component, _action(cls, severity, sensor)
        component, action = work
        due = severity not in _NOTHING_DUE
        return Advisory(
            equipment_id=str(self._equipment[row]),
            ts=ts,
            served_by=served_by,
            fallback_reason=fallback_reason,
            degraded=fallback_reason is not None,
            severity=severity,
            component=component,
            action=action,
            reason=reason,
            act_by=ts + timedelta(seconds=due_in * cls.rul.seconds) if due else None,
            rul=None if isnan(left) else left,
            rul_low=None if isnan(low) else low,
            rul_high=None if isnan(high) else high,
            failure_probability=chance,
        )


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
