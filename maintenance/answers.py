"""What a question comes back with: what a training has settled, and what one answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from maintenance.assessments import Severity


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What the chosen model said of machines it had not learnt from, row by row of the training set.

    `act` is the policy's decision, `low` and `high` the interval, each with a threshold or quantiles
    taken from the other folds; NaN where the question has no interval.
    """

    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    act: np.ndarray


@dataclass(frozen=True, slots=True)
class Settled:
    """What a training has decided before it fits for the last time.

    Attributes:
        members: the models whose mean answers.
        candidates: what was compared, as the manifest lists it, the best first.
        manifest: what the question adds to the manifest: its scale, its policy.
        metrics: figures of the chosen one.
    """

    members: tuple[str, ...]
    candidates: tuple[Mapping[str, Any], ...]
    out_of_fold: OutOfFold
    manifest: Mapping[str, Any]
    metrics: Mapping[str, float]


class Answer(NamedTuple):
    """A model's answer for one row, NaN or None where it has none, as `maintenance.prognosis.Prognoses` says."""

    rul: float
    low: float
    high: float
    driver: str | None
    driven: float
    act_below: float
    risk: float
    act_above: float


class Verdict(NamedTuple):
    """What an answer means: how severe, why, for people, and in how many RUL units work is due.

    `chance` is the probability of failing within the question's horizon, where it has one.
    """

    severity: Severity
    reason: str
    due_in: float
    chance: float | None = None
