"""Scoring as assets: what the releases and what the rules say of every machine in a window."""

import dagster as dg

from hybrid_assets.fleet import Fleet
from maintenance.equipment_class import EquipmentClass
from maintenance.question import question_spec
from resources.bindings.plants import Plants


def scoring_assets(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """`prognoses` and `rule_assessments`: one row a machine and window, from its newest reading."""
    cls = fleet.equipment_class

    @fleet.by_window(
        "prognoses",
        fleet.spec(
            "prognoses",
            f"{answered_with(cls)}, by the newest release that can tell.",
            deps=[*fleet.same_window("condition_features"), *fleet.same_site("model_release")],
            kinds={"onnx", "deltalake"},
            location="on_prem",
            workload="scoring",
        ),
    )
    def prognoses(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        from hybrid_assets.scoring import ask_for_prognoses

        return ask_for_prognoses(context, plants, fleet)

    @fleet.by_window(
        "rule_assessments",
        fleet.spec(
            "rule_assessments",
            "What the rules say of every machine, from the same features; they serve where the model cannot.",
            deps=fleet.same_window("condition_features"),
            kinds={"python", "deltalake"},
            location="on_prem",
        ),
    )
    def rule_assessments(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        from hybrid_assets.scoring import assess_by_rules

        return assess_by_rules(context, plants, fleet)

    return [prognoses, rule_assessments]


def answered_with(cls: EquipmentClass) -> str:
    """What the class's model tells, for people."""
    risk = question_spec(cls).risk
    if risk is None:
        return "Remaining useful life of every machine with a 90 % interval"
    return f"The {risk.replace('_', ' ')} of every machine"
