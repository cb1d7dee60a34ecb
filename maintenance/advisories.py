"""Advisories: for each machine the best answer at hand, who gave it, and what people should do by when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from math import isnan, nan
from typing import NamedTuple

from maintenance.answers import Answer, Verdict
from maintenance.assessments import Assessments, Severity
from maintenance.equipment_class import EquipmentClass
from maintenance.prognosis import Prognoses
from maintenance.question import question_of
from maintenance.readings import Rows

RULES, SAFE_DEFAULT = "rules", "safe_default"

_OK, _UNKNOWN = Severity.OK, Severity.UNKNOWN
_SEVERITIES = {int(severity): severity for severity in Severity}
_DUE = {severity: severity not in (Severity.OK, Severity.WATCH) for severity in Severity}


class Advisory(NamedTuple):
    """What one machine needs, as of its newest reading. A tuple, as one is made of each reading.

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
    abstained: list[str | None] = prognoses.abstained.tolist()
    answers = prognoses.answers() if None in abstained else ()
    verdict, ruled = question_of(cls).verdict, writer.ruled(assessments)
    advisories = []
    for row, why in enumerate(abstained):
        if why is None:
            answer = answers[row]
            advisories.append(writer.by_model(row, releases[row], passed_over[row], answer, verdict(answer)))
        else:
            advisories.append(ruled(row, why))
    return tuple(advisories)


def advise_by_rules(cls: EquipmentClass, assessments: Assessments, why: Sequence[str]) -> list[Advisory]:
    """One advisory a row, of none of which a model answered, and why; as `advise` gives them."""
    ruled = _Writer(cls, assessments.rows).ruled(assessments)
    return [ruled(row, reason) for row, reason in enumerate(why)]


def advise_by_model(
    cls: EquipmentClass,
    rows: Rows,
    answers: Sequence[Answer],
    verdicts: Sequence[Verdict],
    *,
    answered: Sequence[int],
    release: str,
    passed_over: Sequence[str | None],
) -> list[Advisory]:
    """One advisory for each row that a release has answered; as `advise` gives them.

    Args:
        answered: which rows those are; `answers`, `verdicts` and `passed_over` are of them.
    """
    writer = _Writer(cls, rows)
    return [
        writer.by_model(row, release, why, answer, verdict)
        for row, why, answer, verdict in zip(answered, passed_over, answers, verdicts, strict=True)
    ]


class _Writer:
    """Advisories of rows, one at a time; what can be had of all rows at once is."""

    def __init__(self, cls: EquipmentClass, rows: Rows) -> None:
        self._class, self._equipment = cls, list(map(str, rows.equipment.tolist()))
        self._work: dict[tuple[Severity, str | None], tuple[str | None, str]] = {}
        """Component and action."""
        self._ts = [ts.replace(tzinfo=UTC) for ts in rows.ts.astype("datetime64[us]").tolist()]

    def by_model(
        self, row: int, release: str | None, passed_over: str | None, answer: Answer, verdict: Verdict
    ) -> Advisory:
        severity, reason, due_in, chance = verdict
        rul, low, high, driver, *_ = answer
        by = f"model:{release}"
        return self._advisory(
            row, by, passed_over, severity, driver, reason, due_in=due_in, rul=rul, low=low, high=high, chance=chance
        )

    def ruled(self, assessments: Assessments) -> Callable[[int, str], Advisory]:
        """What the rules say of a row, given why nobody better does; a safe default where they can say nothing."""
        severities, reason = assessments.severity.tolist(), assessments.reason
        ruls, symptoms = assessments.rul.tolist(), assessments.symptom.tolist()

        def advisory(row: int, why: str) -> Advisory:
            if (severity := severities[row]) == _UNKNOWN:
                return self.by_default(row, why)
            return self.by_rules(row, why, _SEVERITIES[severity], ruls[row], symptoms[row], reason(row))

        return advisory

    def by_rules(
        self, row: int, fallback_reason: str, severity: Severity, rul: float, symptom: str | None, reason: str
    ) -> Advisory:
        lead = self._class.lead
        due_in = 0.0 if severity is Severity.ACT else lead if isnan(rul) else min(lead, rul)
        return self._advisory(row, RULES, fallback_reason, severity, symptom, reason, due_in=due_in, rul=rul)

    def by_default(self, row: int, fallback_reason: str) -> Advisory:
        """Nothing can be read from the machine: what is then done is the class's to say."""
        why = "No watched sensor has a value."
        return safe_default(self._class, self._equipment[row], self._ts[row], fallback_reason, why)

    def _advisory(
        self,
        row: int,
        served_by: str,
        fallback_reason: str | None,
        severity: Severity,
        sensor: str | None,
        reason: str,
        *,
        due_in: float,
        rul: float,
        low: float = nan,
        high: float = nan,
        chance: float | None = None,
    ) -> Advisory:
        cls, ts = self._class, self._ts[row]
        work = self._work.get((severity, sensor))
        if work is None:
            component = cls.component(sensor) if sensor is not None and severity > _OK else None
            work = self._work[severity, sensor] = component, _action(cls, severity, sensor)
        component, action = work
        return Advisory(
            self._equipment[row],
            ts,
            served_by,
            fallback_reason,
            fallback_reason is not None,
            severity,
            component,
            action,
            reason,
            ts + timedelta(seconds=due_in * cls.rul.seconds) if _DUE[severity] else None,
            None if isnan(rul) else rul,
            None if isnan(low) else low,
            None if isnan(high) else high,
            chance,
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
