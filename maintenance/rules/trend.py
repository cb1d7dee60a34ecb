"""Trend: where sensors drift towards a limit, when do they get there?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from maintenance.assessments import Finding, RuleSpec, Severity
from maintenance.equipment_class import EquipmentClass, Positive
from maintenance.features import Features
from maintenance.watched import Direction, agreed, check_watched, directions, towards_harm


@dataclass(frozen=True, slots=True)
class TrendSettings:
    """A straight line through the longest slope's readings, drawn on to a `limit`, a z-score.

    `agreeing` sensors must get there. A slope counts if it makes at least `least_rise` z per cap of RUL units;
    smaller ones are noise. `harmful` as in the rule `level`.
    """

    limit: Positive = 4.0
    agreeing: Annotated[int, Field(ge=1)] = 1
    least_rise: Positive = 1.0
    harmful: Mapping[str, Direction] = field(default_factory=dict)


def _assess(cls: EquipmentClass, settings: TrendSettings, features: Features) -> Finding:
    import numpy as np

    direction = directions(cls, settings.harmful)
    level = features.of_kind(cls, f"mean_{cls.features.means[0]}")
    slope = features.of_kind(cls, f"slope_{cls.features.slopes[-1]}")
    # Where either direction harms, drift away from normal on the side the sensor is on is what counts.
    side = np.where(direction == 0, np.sign(level), direction)
    rise = slope * side
    distance = settings.limit - towards_harm(level, direction)
    rising = rise >= settings.least_rise / cls.rul.cap
    time_left = np.where(rising, np.maximum(distance, 0.0) / np.where(rising, rise, 1.0), np.inf)
    time_left[np.isnan(level) | np.isnan(slope) | np.isnan(direction)] = np.nan
    negative, sensor = agreed(-time_left, settings.agreeing)
    rul = -negative
    severity = np.where(rul <= cls.lead, Severity.PLAN, np.where(rul <= cls.rul.cap / 2, Severity.WATCH, Severity.OK))
    severity = np.where(np.isnan(rul), Severity.UNKNOWN, severity).astype(np.int8)

    inputs = cls.contract.inputs

    def explain(row: int) -> str:
        name = inputs[sensor[row]]
        return (
            f"{name} moves {slope[row, sensor[row]]:+.2f} z a {cls.rul.unit} and would reach its limit "
            f"of {settings.limit:g} z in about {rul[row]:.0f} {cls.rul.unit}s"
        )

    return Finding(severity, np.where(rul < cls.rul.cap, rul, np.nan), sensor, explain)


SPEC = RuleSpec(
    name="trend",
    summary="Draws each sensor's recent slope on to a limit and takes the time it needs as remaining life.",
    cannot=(
        "ask for more than planning: a line drawn through noise is no reason to stop a machine",
        "foresee wear that speeds up, or a fault without a slow onset",
    ),
    settings=TrendSettings,
    check=lambda cls, settings: check_watched(cls, settings.harmful),
    assess=_assess,
)
