"""The Skoltech Anomaly Benchmark (SKAB, Katser & Kozitsin 2020), through the functions that serve a plant.

The leaderboard's protocol: the first 400 rows of a file are normal and all there is to learn from; the rest is tested,
row by row, and the counts of all files are put together. Each file therefore is a plant of its own: with its baseline,
its model, its ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backbone.errors import SourceError
from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass
from maintenance.prognosis import Scorer, prognose
from maintenance.progress import Progress, silent
from maintenance.readings import MaintenanceHistory, Readings
from maintenance.training import train
from maintenance.training_set import training_set

_RESAMPLED = 1000
_SPREAD = (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class LabelledExperiment:
    """One file: its readings, of one machine, and which were anomalous, (n,) bool; None where nobody says."""

    name: str
    readings: Readings
    anomalous: np.ndarray | None


def evaluate(
    cls: EquipmentClass, experiments: Sequence[LabelledExperiment], *, seed: int = 0, progress: Progress = silent
) -> dict[str, float]:
    """Learn from the first readings of each experiment, without its labels, and test the others on the exported model.

    Returns:
        `f1`, and the shares of false (`far_pct`) and missed alarms (`mar_pct`) in percent, of all labelled experiments
        together; `f1_low` to `f1_high` and `far_pct_high`, where nine of ten would lie if other experiments of this
        kind had been made (bootstrap over experiments: Efron, Annals of Statistics 1979); `f1_always`, what giving
        alarm all the time would score; how many experiments and readings that are; and `unlabelled_far_pct`, the
        share of alarms in experiments of which all is normal, NaN without one.

    Raises:
        SourceError: no experiment has labels, or none is longer than what is taken as normal.
    """
    normal = cls.asked.normal_readings
    counted: list[list[int]] = []
    quiet = []
    tested = [e for e in experiments if len(e.readings) > normal]
    for number, experiment in enumerate(tested, start=1):
        alarm = alarms(cls, experiment.readings, seed=seed)
        if experiment.anomalous is None:
            quiet.append(alarm)
        else:
            true = experiment.anomalous[normal:]
            cells = (~alarm & ~true, alarm & ~true, ~alarm & true, alarm & true)
            counted.append([int(cell.sum()) for cell in cells])
        progress(number / len(tested), experiment.name, {})
    if not counted:
        raise SourceError(
            f"None of {len(experiments)} experiments has labels and more than {normal} readings.",
            next_step="Give a folder with SKAB's labelled files, such as valve1.",
        )
    by_experiment = np.array(counted)
    others = np.random.default_rng(seed).integers(len(by_experiment), size=(_RESAMPLED, len(by_experiment)))
    f1, far, mar, always = _figures(by_experiment.sum(axis=0))
    f1_of_others, far_of_others, _, _ = _figures(by_experiment[others].sum(axis=1))
    f1_low, f1_high = np.quantile(f1_of_others, _SPREAD)
    return {
        "f1": float(f1),
        "f1_low": float(f1_low),
        "f1_high": float(f1_high),
        "far_pct": float(far),
        "far_pct_high": float(np.quantile(far_of_others, _SPREAD[1])),
        "mar_pct": float(mar),
        "f1_always": float(always),
        "experiments": len(by_experiment),
        "readings_tested": int(by_experiment.sum()),
        "unlabelled_far_pct": 100 * float(np.concatenate(quiet).mean()) if quiet else float("nan"),
    }


def _figures(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """F1, false and missed alarms in percent, and F1 of giving alarm always; counts are (..., 4): normal readings
    without and with alarm, anomalous ones without and with alarm."""
    true_quiet, false_alarms, missed, hits = np.moveaxis(counts, -1, 0)
    normal, anomalous = true_quiet + false_alarms, missed + hits
    return (
        2 * hits / np.maximum(2 * hits + false_alarms + missed, 1),
        100 * false_alarms / np.maximum(normal, 1),
        100 * missed / np.maximum(anomalous, 1),
        2 * anomalous / np.maximum(2 * anomalous + normal, 1),
    )


def alarms(cls: EquipmentClass, readings: Readings, *, seed: int = 0) -> np.ndarray:
    """(n - normal readings,) whether there is alarm at each reading of a machine after those taken as normal.

    Where the model abstains there is none: nobody says that anything is wrong.
    """
    first = np.arange(cls.asked.normal_readings)
    baseline = fit_baseline(cls, readings.take(first))
    features, _ = compute_features(cls, baseline, readings)
    data = training_set(cls, features.take(first), MaintenanceHistory({}, {}))
    trained = train(cls, baseline.id, data, seed=seed)
    scorer = Scorer(trained.onnx, trained.manifest)
    later = features.take(np.arange(len(first), len(features)))
    answers = prognose(cls, scorer, later, baseline=baseline.id, explained=False)
    assert answers.risk is not None
    return np.nan_to_num(answers.risk) >= scorer.act_above
