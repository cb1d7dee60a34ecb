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
        together; `f1_always`, what giving alarm all the time would score; how many experiments and readings that are;
        and `unlabelled_far_pct`, the share of alarms in experiments of which all is normal, NaN without one.

    Raises:
        SourceError: no experiment has labels, or none is longer than what is taken as normal.
    """
    normal, counts = cls.asked.normal_readings, np.zeros((2, 2), dtype=int)
    files, quiet = 0, []
    tested = [e for e in experiments if len(e.readings) > normal]
    for number, experiment in enumerate(tested, start=1):
        alarm = alarms(cls, experiment.readings, seed=seed)
        if experiment.anomalous is None:
            quiet.append(alarm)
        else:
            files += 1
            true = experiment.anomalous[normal:]
            counts += [[np.sum(~alarm & ~true), np.sum(alarm & ~true)], [np.sum(~alarm & true), np.sum(alarm & true)]]
        progress(number / len(tested), experiment.name, {})
    if not files:
        raise SourceError(
            f"None of {len(experiments)} experiments has labels and more than {normal} readings.",
            next_step="Give a folder with SKAB's labelled files, such as valve1.",
        )
    (true_quiet, false_alarms), (missed, hits) = counts.tolist()
    return {
        "f1": 2 * hits / max(2 * hits + false_alarms + missed, 1),
        "far_pct": 100 * false_alarms / max(false_alarms + true_quiet, 1),
        "mar_pct": 100 * missed / max(missed + hits, 1),
        "f1_always": 2 * (hits + missed) / max(2 * (hits + missed) + false_alarms + true_quiet, 1),
        "experiments": files,
        "readings_tested": int(counts.sum()),
        "unlabelled_far_pct": 100 * float(np.concatenate(quiet).mean()) if quiet else float("nan"),
    }


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
