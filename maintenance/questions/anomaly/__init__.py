"""Whether a reading is unlike normal ones: a score, by an outlier detector that no failure teaches.

A detector is an estimator with three methods: `set_params(names, weights)` says what the columns are and what each
counts, `fit(X, y)` learns from normal readings, of which y is 1 where they surely are and 0 where they may not be, and
`score_samples(X)` is -1 at the limit of alarm and below it beyond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from backbone.contracts import Column
from backbone.errors import ConfigurationError, UnknownName
from backbone.requirements import NotNegative
from maintenance.equipment_class import EquipmentClass, Fraction
from maintenance.question import CardText, Question, QuestionSpec

SCORE = "anomaly_score"


@dataclass(frozen=True, slots=True)
class AnomalySettings:
    """What is taken as normal, and what an alarm is.

    Attributes:
        normal_readings: so many readings at the beginning of each life are taken as normal.
        warm_up: so many of them are not learnt from, since their windows are not full (None: one less than the
            longest mean or deviation spans).
        weights: what a sensor counts, where it is not 1; less for one that wanders while all is well.
        watch: a machine is watched from this score on; 1 is the limit of alarm, from which on work is planned.
        act: and stopped from this one on.
        most_false_alarms: share of normal readings of held-out machines that a release may give alarm on.
    """

    normal_readings: Annotated[int, Field(ge=20)]
    warm_up: Annotated[int, Field(ge=0)] | None = None
    weights: Mapping[str, NotNegative] = field(default_factory=dict)
    watch: Fraction = 0.8
    act: Annotated[float, Field(ge=1)] = 3.0
    most_false_alarms: Fraction = 0.05


def warm_up(cls: EquipmentClass) -> int:
    """Readings of a life that are not learnt from."""
    asked = cls.asked.warm_up
    return asked if asked is not None else max(*cls.features.means, *cls.features.deviations, 1) - 1


def _about(cls: EquipmentClass) -> Question:
    from maintenance.questions.anomaly.of_class import Anomaly

    return Anomaly(cls)


def _check(cls: EquipmentClass) -> None:
    for sensor in cls.asked.weights:
        if sensor not in cls.contract.inputs:
            raise UnknownName(f"input of class {cls.name}", sensor, cls.contract.inputs)
    if len(cls.models.candidates) != 1:
        raise ConfigurationError(
            f"class {cls.name} names {len(cls.models.candidates)} detectors.",
            next_step="Name one of them in models.candidates: without labels nothing tells which is better.",
        )
    if warm_up(cls) >= cls.asked.normal_readings:
        raise ConfigurationError(
            f"class {cls.name}: warmUp is {warm_up(cls)}, normalReadings is {cls.asked.normal_readings}.",
            next_step="Let more readings be normal than are needed to fill the windows, or warm up for less long.",
        )


def _card(manifest: Mapping[str, Any]) -> CardText:
    metrics, asked = manifest["metrics"], manifest["asked"]
    on = "machines it had not learnt from" if manifest["policy"]["judged_elsewhere"] else "its own readings"
    return CardText(
        title=f"Anomalies of a {manifest['equipment_class']}",
        purpose=("Tells how unlike normal readings a reading is; 1 is the limit of alarm.",),
        learnt_from=f"learnt from {metrics['rows']} readings, at the beginning of {metrics['lives']} lives of "
        f"{metrics['machines']} machines, that were taken as normal; no failure taught it",
        table=(
            f"| model | alarm on normal readings of {on} |",
            "|---|---|",
            *(f"| {' + '.join(c['model'])} | {c['false_alarm_share']:.1%} |" for c in manifest["candidates"]),
        ),
        figures=(
            "- what it misses is not known: nothing says which readings were not normal",
            f"- its ONNX form differs by at most {metrics['onnx_max_abs_diff']:.2g}",
        ),
        limits=(
            f"- It takes the first {asked['normal_readings']} readings of a life as normal, whatever they are.",
            "- It does not say what is wrong, nor how long the machine will last.",
            "- It abstains where a sensor it needs is silent; rules answer then.",
        ),
    )


_SCORE = Column(
    SCORE, "number", unit="1", minimum=0.0, description="How unlike normal readings; 1 is the limit of alarm."
)
_ACT_ABOVE = Column("act_above", "number", unit="1", minimum=0.0, description="The limit of alarm.")

SPEC = QuestionSpec(
    name="anomaly",
    summary="Asks how unlike normal readings a reading is, with normal being how each life begins.",
    cannot=(
        "say what is wrong, or how long is left",
        "compare detectors, or tell what one misses: there are no labels",
        "tell that a life began with a fault, beyond what the detector leaves out by itself",
    ),
    learns_from="Causal features of the readings at the beginning of each life, which are taken as normal.",
    settings=AnomalySettings,
    check=_check,
    about=_about,
    top=lambda _: float("inf"),
    card=_card,
    risk=SCORE,
    columns={"prognoses": (_SCORE, _ACT_ABOVE)},
    in_range_only=False,
    tolerance=1e-3,
    unjudged="No normal readings are held out so far, so nothing can be judged.",
)
