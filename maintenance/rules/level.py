"""Level: several sensors stand further from normal than they should."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from backbone.errors import ConfigurationError
from maintenance.assessments import Finding, RuleSpec, Severity
from maintenance.equipment_class import EquipmentClass, Positive
from maintenance.features import Features
from maintenance.watched import Direction, agreed, check_watched, directions, towards_harm


@dataclass(frozen=True, slots=True)
class LevelSettings:
    """`watch`, `plan` and `act` are z-scores of the shortest rolling mean that `agreeing` sensors reach.

    `harmful` names the sensors to watch and the direction of harm (`up`, `down`, `either`); empty: all, either.
    """

    watch: Positive = 2.0
    plan: Positive = 3.0
    act: Positive = 4.0
    agreeing: Annotated[int, Field(ge=1)] = 1
    harmful: Mapping[str, Direction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.watch <= self.plan <= self.act:
            raise ConfigurationError(
                f"watch, plan and act are {self.watch}, {self.plan} and {self.act}.", next_step="Let them rise."
            )


def _assess(cls: EquipmentClass, settings: LevelSettings, features: Features) -> Finding:
    import numpy as np

    z = features.of_kind(cls, f"mean_{cls.features.means[0]}")
    reached, sensor = agreed(towards_harm(z, directions(cls, settings.harmful)), settings.agreeing)
    severity = np.searchsorted((settings.watch, settings.plan, settings.act), reached, side="right").astype(np.int8)
    severity[np.isnan(reached)] = Severity.UNKNOWN

    inputs = cls.contract.inputs

    def explain(row: int) -> str:
        name = inputs[sensor[row]]
        others = f" and {settings.agreeing - 1} more" if settings.agreeing > 1 else ""
        return f"{name} stands at z = {z[row, sensor[row]]:+.1f}{others}, {reached[row]:.1f} or more from normal"

    return Finding(severity, np.full(len(features), np.nan), sensor, explain)


SPEC = RuleSpec(
    name="level",
    summary="Flags a machine when several sensors stand further from their regime's normal than set limits.",
    cannot=(
        "tell how long is left: a level has no speed",
        "see a fault that no sensor shows, or one the operating baseline was taken with",
    ),
    settings=LevelSettings,
    check=lambda cls, settings: check_watched(cls, settings.harmful),
    assess=_assess,
)
