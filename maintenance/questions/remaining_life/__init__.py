"""How long is left: remaining useful life with its interval, by regression over lives that ended in failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maintenance.equipment_class import EquipmentClass
from maintenance.question import CardText, Question, QuestionSpec


@dataclass(frozen=True, slots=True)
class RemainingLifeSettings:
    """Unit, cap and lead time are the class's own: nothing else is to be set."""


def _card(manifest: Mapping[str, Any]) -> CardText:
    unit, cap = manifest["rul"]["unit"], manifest["rul"]["cap"]
    metrics, policy = manifest["metrics"], manifest["policy"]
    fixed_age = "no age" if policy["fixed_age"] is None else f"{policy['fixed_age']:.0f} {unit}s"
    return CardText(
        title=f"Remaining useful life of a {manifest['equipment_class']}",
        purpose=(
            f"Predicts how many {unit}s a machine has left, from 0 to {cap:g}; {cap:g} means at least that many.",
        ),
        learnt_from=f"learnt from {metrics['failures']} lives of {metrics['machines']} machines that ended in failure "
        f"({metrics['rows']} readings)",
        table=(
            f"| model | RMSE, {unit}s | NASA score |",
            "|---|---|---|",
            *(
                f"| {' + '.join(c['model'])} | {c['rmse']:.2f} | {c['nasa_score']:.0f} |"
                for c in manifest["candidates"]
            ),
        ),
        figures=(
            f"- intervals meant to hold {manifest['intervals']['coverage']:.0%} of true values held "
            f"{metrics['coverage']:.1%}; they are {metrics['width']:.1f} {unit}s wide on average",
            f"- replacing at {policy['act_below']:.1f} predicted {unit}s or less costs {metrics['cost_ratio']:.2f} of "
            f"replacing at the best fixed age ({fixed_age}), with {policy['failures']} failures",
            f"- its ONNX form differs by at most {metrics['onnx_max_abs_diff']:.2g} {unit}s",
        ),
        limits=(
            "- It knows the ways to fail that are in its training set, and no others.",
            "- It abstains where a sensor it needs is silent or far outside what it learnt from; rules answer then.",
        ),
    )


def _about(cls: EquipmentClass) -> Question:
    from maintenance.questions.remaining_life.of_class import RemainingLife

    return RemainingLife(cls)


def _check(cls: EquipmentClass) -> None:
    """Any class has a remaining life."""


SPEC = QuestionSpec(
    name="remaining_life",
    summary="Asks how long a machine has left, in the class's unit, with an interval.",
    cannot=(
        "be learnt before machines have failed",
        "learn from lives that preventive work ended, or that go on: how long those would have lasted is unknown",
    ),
    learns_from="Causal features of every life that ended in failure, with the remaining useful life as label.",
    settings=RemainingLifeSettings,
    check=_check,
    about=_about,
    top=lambda cap: cap,
    card=_card,
)
