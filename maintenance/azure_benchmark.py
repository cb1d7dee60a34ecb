"""Microsoft's predictive maintenance data set, through the functions that serve a plant: who fails within 48 hours?

Learnt from what was known when September began, judged on September to December. A reading counts as positive where
its machine's next failure comes after it, at most a horizon later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from backbone.errors import SourceError
from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass
from maintenance.metrics import average_precision
from maintenance.prognosis import Scorer
from maintenance.progress import Progress, silent, within
from maintenance.question import question_of
from maintenance.readings import MaintenanceHistory, Readings, Rows
from maintenance.training import train
from maintenance.training_set import training_set

TESTED_FROM = np.datetime64("2015-09-01T00:00", "us")
HORIZONS_H = (48, 96)
FALSE_ALARMS = 0.1
"""A machine and month, as many as its people put up with."""
_MONTH = np.timedelta64(round(365.25 / 12 * 86_400_000_000), "us")


def evaluate(
    cls: EquipmentClass,
    readings: Readings,
    history: MaintenanceHistory,
    *,
    clock: Callable[[], float],
    seed: int = 0,
    workers: int = 2,
    progress: Progress = silent,
) -> dict[str, float]:
    """Learn from the readings before September, and judge the exported model by those from then on.

    Baseline, features, model and policy are settled before the later ones are read.

    Args:
        readings, history: of the whole year.
        clock: rising seconds.

    Returns:
        For each horizon the area under precision and recall (`pr_auc_48h`) beside what chance would reach
        (`positive_share_48h`), and how far the exported model differs; for the shorter horizon the share of failures
        that were announced at a threshold at which false alarms stay within `FALSE_ALARMS` a machine and month.

    Raises:
        SourceError: there is nothing to learn from or nothing to test.
    """
    if not len(readings) or not readings.rows.ts.min() < TESTED_FROM < readings.rows.ts.max():
        raise SourceError(
            "The readings do not reach from before September 2015 until after.",
            next_step="Give the folder with Microsoft's files of all of 2015.",
        )
    figures: dict[str, float] = {}
    began = clock()
    for number, hours in enumerate(HORIZONS_H):
        asked = replace(cls, asked=replace(cls.asked, horizon=hours * 3600 / cls.rul.seconds))
        part = within(progress, number / len(HORIZONS_H), (number + 1) / len(HORIZONS_H))
        figures |= _of_horizon(asked, readings, history, hours, seed, workers, part)
    return {**figures, "seconds": clock() - began}


def _of_horizon(
    cls: EquipmentClass,
    readings: Readings,
    history: MaintenanceHistory,
    hours: int,
    seed: int,
    workers: int,
    progress: Progress,
) -> dict[str, float]:
    known = np.flatnonzero(readings.rows.ts < TESTED_FROM)
    baseline = fit_baseline(cls, readings.take(known))
    features, _ = compute_features(cls, baseline, readings)
    data = training_set(cls, features.take(known), _until(history, TESTED_FROM))
    trained = train(cls, baseline.id, data, seed=seed, workers=workers, progress=progress)
    scorer = Scorer(trained.onnx, trained.manifest)

    rul = question_of(cls).labels(readings.rows, history)
    tested = np.flatnonzero(~np.isnan(rul) & (readings.rows.ts >= TESTED_FROM))
    rows, probability = readings.rows.take(tested), scorer.predict(scorer.select(features.take(tested)))
    soon = rul[tested] <= cls.asked.horizon
    found = {
        f"pr_auc_{hours}h": average_precision(soon, probability),
        f"positive_share_{hours}h": float(soon.mean()),
        f"onnx_max_abs_diff_{hours}h": trained.manifest["metrics"]["onnx_max_abs_diff"],
    }
    if hours == HORIZONS_H[0]:
        recall, false_alarms, failures = announced(rows, probability, soon, allowed=FALSE_ALARMS)
        found |= {
            "recall_at_0_1_false_alarms_per_machine_month": recall,
            "false_alarms": false_alarms,
            "failures": failures,
        }
    return found


def announced(rows: Rows, probability: np.ndarray, soon: np.ndarray, *, allowed: float) -> tuple[float, int, int]:
    """What share of failures is announced at the lowest threshold at which there are few enough false alarms.

    An alarm lasts while a machine's readings follow each other at or above the threshold; it is false if no failure
    comes within the horizon of any of them. A failure is announced if any of its readings within the horizon, which
    `soon` marks (n,), raises alarm; readings before one failure lie in one life.

    Args:
        allowed: false alarms a machine and month.

    Returns:
        That share, the false alarms, and the failures there were.
    """
    machine_begins = np.append(True, np.diff(rows.machine) != 0)
    most = allowed * _machine_months(rows)
    life, failures = rows.number, len(np.unique(rows.number[soon]))
    announced_share, false_alarms = 0.0, 0
    for threshold in np.unique(probability)[::-1]:
        on = probability >= threshold
        alarm = np.cumsum(on & (machine_begins | ~np.append(False, on[:-1])))
        count = int(alarm[-1]) - len(np.unique(alarm[on & soon]))
        if count > most:
            break
        announced_share, false_alarms = len(np.unique(life[on & soon])) / max(failures, 1), count
    return announced_share, false_alarms, failures


def _machine_months(rows: Rows) -> float:
    """How long the machines were watched, all together."""
    last = rows.latest
    first = np.append(0, last[:-1] + 1)
    return float(np.sum(rows.ts[last] - rows.ts[first]) / _MONTH)


def _until(history: MaintenanceHistory, moment: np.datetime64) -> MaintenanceHistory:
    """What was known of it then."""
    known = {machine: ts < moment for machine, ts in history.ts.items()}
    return MaintenanceHistory(
        ts={machine: ts[known[machine]] for machine, ts in history.ts.items()},
        failed={machine: failed[known[machine]] for machine, failed in history.failed.items()},
    )
