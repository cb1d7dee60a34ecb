"""Training as assets: a model, how it was judged, and its release."""

from collections.abc import Iterator

import dagster as dg

from hybrid_assets.fleet import Fleet
from maintenance.question import question_spec
from resources.bindings.plants import Plants


def training_assets(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """`training_set`, `trained_model`, `model_evaluation` and `model_release`, by site."""
    return [_training_set(fleet), _trained_model(fleet), _model_evaluation(fleet), _model_release(fleet)]


def _training_set(fleet: Fleet) -> dg.AssetsDefinition:
    cls = fleet.equipment_class

    @fleet.by_site(
        "training_set",
        fleet.spec(
            "training_set",
            question_spec(cls).learns_from,
            deps=[
                *fleet.same_site("telemetry", "maintenance_history"),
                dg.AssetDep(fleet.key("operating_baseline")),
            ],
            kinds={"python", "deltalake"},
            location="on_prem",
        ),
    )
    def training_set(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        from hybrid_assets.training import label_training_set

        return label_training_set(context, plants, fleet)

    return training_set


def _trained_model(fleet: Fleet) -> dg.AssetsDefinition:
    @fleet.by_site(
        "trained_model",
        fleet.spec(
            "trained_model",
            "Candidates compared by cross-validation grouped by machine; the best one as ONNX, with its intervals.",
            deps=[dg.AssetDep(fleet.key("training_set"))],
            kinds={"scikitlearn", "onnx"},
            workload="training",
            skippable=True,
        ),
    )
    def trained_model(context: dg.AssetExecutionContext, plants: Plants) -> Iterator[dg.MaterializeResult]:
        from hybrid_assets.training import train

        yield from train(context, plants, fleet)

    return trained_model


def _model_evaluation(fleet: Fleet) -> dg.AssetsDefinition:
    @fleet.by_site(
        "model_evaluation",
        fleet.spec(
            "model_evaluation",
            "The model against the rules and the release before, on machines no release ever learnt from.",
            deps=[dg.AssetDep(fleet.key("trained_model")), dg.AssetDep(fleet.key("training_set"))],
            kinds={"python"},
            workload="evaluation",
        ),
    )
    def model_evaluation(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        from hybrid_assets.training import evaluate

        return evaluate(context, plants, fleet)

    return model_evaluation


def _model_release(fleet: Fleet) -> dg.AssetsDefinition:
    @fleet.by_site(
        "model_release",
        fleet.spec(
            "model_release",
            "A model that earned it: carried to the premises, numbered and signed with the plant's key.",
            deps=[dg.AssetDep(fleet.key("trained_model")), dg.AssetDep(fleet.key("model_evaluation"))],
            kinds={"onnx"},
            location="on_prem",
            skippable=True,
        ),
    )
    def model_release(context: dg.AssetExecutionContext, plants: Plants) -> Iterator[dg.MaterializeResult]:
        from hybrid_assets.training import release_model

        yield from release_model(context, plants, fleet)

    return model_release
