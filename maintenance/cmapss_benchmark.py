"""NASA's C-MAPSS benchmark (Saxena et al., PHM 2008), through the functions that serve a plant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from maintenance.assessments import assess
from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass
from maintenance.metrics import best_fixed_age, coverage, nasa_score, policy_cost, rmse, width
from maintenance.prognosis import Scorer
from maintenance.progress import Progress, silent
from maintenance.readings import MaintenanceHistory, Readings
from maintenance.training import train
from maintenance.training_set import training_set


def evaluate(
    cls: EquipmentClass,
    run_to_failure: Readings,
    history: MaintenanceHistory,
    truncated: Readings,
    rul: np.ndarray,
    *,
    clock: Callable[[], float],
    seed: int = 0,
    workers: int = 2,
    progress: Progress = silent,
) -> dict[str, float]:
    """Learn from the training units, score each test unit's last cycle with the exported model.

    The test units choose nothing: baseline, features, model, intervals and policy are settled before they are read.

    Args:
        run_to_failure, history: the training file, and each unit's failure.
        truncated, rul: the test file, and the true remaining cycles of its units in their order (uncapped).
        clock: rising seconds.
        workers: processor cores to learn on.

    Returns:
        Errors in cycles against labels capped as the class says (`_capped`) and as they are (`_uncapped`);
        coverage and width of the intervals against the capped ones; long-run cost of the model's plan
        and of the rules' over that of the best fixed age, on training units, predicted out of fold.
    """
    began = clock()
    baseline = fit_baseline(cls, run_to_failure)
    features, _ = compute_features(cls, baseline, run_to_failure)
    data = training_set(cls, features, history)
    trained = train(cls, baseline.id, data, seed=seed, workers=workers, progress=progress)
    train_seconds = clock() - began

    scorer = Scorer(trained.onnx, trained.manifest)
    tested, _ = compute_features(cls, baseline, truncated)
    predicted = scorer.predict(scorer.select(tested.take(truncated.rows.latest)))
    low, high = scorer.interval(predicted)
    capped = np.minimum(rul, cls.rul.cap)

    _, by_age = best_fixed_age(data.runs, cls.cost)
    by_rules = policy_cost(data.runs, assess(cls, data.features).act, cls.cost)
    return {
        "rmse_capped": rmse(capped, predicted),
        "rmse_uncapped": rmse(rul, predicted),
        "nasa_score_capped": nasa_score(capped, predicted),
        "nasa_score_uncapped": nasa_score(rul, predicted),
        "coverage_90": coverage(capped, low, high),
        "width_90": width(low, high),
        "onnx_max_abs_diff": trained.manifest["metrics"]["onnx_max_abs_diff"],
        "train_seconds": train_seconds,
        "cost_ratio": trained.manifest["metrics"]["cost_ratio"],
        "rules_cost_ratio": by_rules.rate / by_age.rate,
    }
