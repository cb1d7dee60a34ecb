"""Whether a machine fails within a horizon: its probability, by classification of readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backbone.contracts import Column
from backbone.errors import ConfigurationError
from maintenance.equipment_class import EquipmentClass, Fraction, Positive
from maintenance.question import CardText, Question, QuestionSpec

PROBABILITY = "failure_probability"


@dataclass(frozen=True, slots=True)
class FailureWithinSettings:
    """`horizon` is how far ahead to look, in RUL units; a machine is watched from a share `watch` of the probability
    at which it is cheapest to act."""

    horizon: Positive
    watch: Fraction = 0.5


def _about(cls: EquipmentClass) -> Question:
    from maintenance.questions.failure_within.of_class import FailureWithin

    return FailureWithin(cls)


def _check(cls: EquipmentClass) -> None:
    if cls.asked.horizon >= cls.rul.cap:
        raise ConfigurationError(
            f"class {cls.name}: the horizon of {cls.asked.horizon:g} {cls.rul.unit}s is not below the cap of "
            f"{cls.rul.cap:g}, to which labels are cut.",
            next_step="Ask for a shorter horizon, or raise the cap of remainingUsefulLife.",
        )


def _card(manifest: Mapping[str, Any]) -> CardText:
    unit, horizon = manifest["rul"]["unit"], manifest["asked"]["horizon"]
    metrics, policy = manifest["metrics"], manifest["policy"]
    fixed_age = "no age" if policy["fixed_age"] is None else f"{policy['fixed_age']:.0f} {unit}s"
    return CardText(
        title=f"Failure of a {manifest['equipment_class']} within {horizon:g} {unit}s",
        purpose=(f"Gives the probability that a machine fails within the next {horizon:g} {unit}s.",),
        learnt_from=f"learnt from {metrics['rows']} readings of {metrics['machines']} machines, "
        f"{metrics['positive_share']:.1%} of them within {horizon:g} {unit}s of one of {metrics['failures']} failures",
        table=(
            "| model | area under precision and recall | Brier score |",
            "|---|---|---|",
            *(f"| {' + '.join(c['model'])} | {c['pr_auc']:.3f} | {c['brier']:.4f} |" for c in manifest["candidates"]),
        ),
        figures=(
            f"- by chance the area would be {metrics['positive_share']:.3f}",
            f"- replacing at a probability of {policy['act_above']:.0%} or more costs {metrics['cost_ratio']:.2f} of "
            f"replacing at the best fixed age ({fixed_age}), with {policy['failures']} failures; false alarms of "
            "machines that never failed are not in it",
            f"- its ONNX form differs by at most {metrics['onnx_max_abs_diff']:.2g}",
        ),
        limits=(
            "- It knows the ways to fail that are in its training set, and no others.",
            f"- It does not say what comes after {horizon:g} {unit}s.",
            "- It abstains where a sensor it needs is silent or far outside what it learnt from; rules answer then.",
        ),
    )


_PROBABILITY = Column(
    PROBABILITY,
    "number",
    unit="1",
    minimum=0.0,
    maximum=1.0,
    description="Of failing within the horizon of the class's question.",
)
_ACT_ABOVE = Column(
    "act_above",
    "number",
    unit="1",
    minimum=0.0,
    maximum=1.0,
    description="At this probability or more it is cheapest to act.",
)

SPEC = QuestionSpec(
    name="failure_within",
    summary="Asks for the probability that a machine fails within a horizon.",
    cannot=(
        "say when within the horizon, or what comes after it",
        "be learnt before machines have failed",
        "count what false alarms cost on machines that never failed: its cost is that of lives that did",
    ),
    learns_from="Causal features of readings of which is known whether their machine failed within the horizon.",
    settings=FailureWithinSettings,
    check=_check,
    about=_about,
    top=lambda _: 1.0,
    card=_card,
    fits=lambda asked, cls: bool(asked["horizon"] == cls.asked.horizon),
    risk=PROBABILITY,
    columns={"prognoses": (_PROBABILITY, _ACT_ABOVE), "advisories": (_PROBABILITY,)},
    tolerance=1e-3,
)
