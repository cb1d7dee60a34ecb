"""How good an estimate is, in error and in money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from maintenance.equipment_class import CostSettings

_SAFE_SIDE = 0.02
"""How much dearer than the cheapest a threshold may be and still be preferred for acting earlier."""
_LIMITS = 500
"""Thresholds tried."""


def rmse(true: np.ndarray, predicted: np.ndarray) -> float:
    """Root mean square error, in the unit of both."""
    return float(np.sqrt(np.mean((np.asarray(predicted) - true) ** 2)))


def nasa_score(true: np.ndarray, predicted: np.ndarray) -> float:
    """Sum of exponential penalties, late estimates costing more than early ones.

    With d = predicted - true: exp(-d/13) - 1 below zero, exp(d/10) - 1 above (Saxena et al., PHM 2008).
    """
    d = np.asarray(predicted, dtype=float) - true
    return float(np.sum(np.where(d < 0, np.exp(-d / 13), np.exp(d / 10)) - 1))


def coverage(true: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of true values inside their interval."""
    return float(np.mean((low <= true) & (true <= high)))


def width(low: np.ndarray, high: np.ndarray) -> float:
    """Mean width of the intervals."""
    return float(np.mean(high - low))


def average_precision(true: np.ndarray, score: np.ndarray) -> float:
    """Area under precision over recall, as a sum of steps; rows of one score count together. NaN without a true one.

    Args:
        true: (n,) bool.
        score: (n,) the higher, the more likely.
    """
    order = np.argsort(-score, kind="stable")
    hits, last = np.cumsum(true[order]), np.append(np.diff(score[order]) != 0, True)
    precision, recall = (hits / np.arange(1, len(hits) + 1))[last], hits[last] / max(int(true.sum()), 1)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision)) if true.any() else float("nan")


def brier(true: np.ndarray, probability: np.ndarray) -> float:
    """Mean square error of probabilities (Brier, Monthly Weather Review 1950)."""
    return float(np.mean((probability - true) ** 2))


@dataclass(frozen=True, slots=True)
class RunsToFailure:
    """Lives that ended in failure, as a policy sees them go by.

    Attributes:
        starts: first row of each life.
        age: (n,) RUL units since the life began, at each reading.
        rul: (n,) true remaining life at each reading; may be capped, except at each life's last reading.
    """

    starts: np.ndarray
    age: np.ndarray
    rul: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        """Age at failure of each life."""
        last = np.append(self.starts[1:], len(self.age)) - 1
        return self.age[last] + self.rul[last]


@dataclass(frozen=True, slots=True)
class PolicyCost:
    """What a policy costs in the long run: `rate` is cost per RUL unit in service."""

    rate: float
    failures: int
    replacements: int


def policy_cost(runs: RunsToFailure, act: np.ndarray, cost: CostSettings) -> PolicyCost:
    """Long-run cost of replacing a machine at the first reading where `act` holds.

    By the renewal-reward theorem the rate is the expected cost of a life over its expected length
    (Barlow & Hunter, Operations Research 1960). A decision at the very failure comes too late.

    Args:
        act: (n,) whether the policy, knowing the readings so far, would replace now.
    """
    n = len(runs.age)
    row = np.where(act & (runs.rul > 0), np.arange(n), n)
    first = np.minimum.reduceat(row, runs.starts)
    replaced = first < np.append(runs.starts[1:], n)
    served = np.where(replaced, runs.age[np.minimum(first, n - 1)], runs.lengths)
    replacements = int(replaced.sum())
    failures = len(runs) - replacements
    spent = replacements * cost.planned + failures * cost.failure
    in_service = float(served.sum())
    return PolicyCost(spent / in_service if in_service > 0 else float("inf"), failures, replacements)


def best_fixed_age(runs: RunsToFailure, cost: CostSettings) -> tuple[float, PolicyCost]:
    """The age at which replacing every machine would have been cheapest, and what it costs; inf: never.

    This is what most plants do, with the benefit of hindsight: a hard benchmark.
    """
    ages = np.unique(np.maximum.reduceat(np.where(runs.rul > 0, runs.age, 0.0), runs.starts))
    tried = [(float(age), policy_cost(runs, runs.age >= age, cost)) for age in (*ages, np.inf)]
    return min(tried, key=lambda t: t[1].rate)


def policy_told(runs: RunsToFailure, act: np.ndarray, cost: CostSettings) -> tuple[dict[str, Any], float]:
    """What a manifest says of a policy beside when it acts, and its cost over that of the best fixed age.

    Args:
        act: (n,) as for `policy_cost`.
    """
    policy = policy_cost(runs, act, cost)
    age, by_age = best_fixed_age(runs, cost)
    told = {
        "cost_rate": policy.rate,
        "failures": policy.failures,
        "fixed_age": age if np.isfinite(age) else None,
        "fixed_age_cost_rate": by_age.rate,
        "planned": cost.planned,
        "failure": cost.failure,
    }
    return told, policy.rate / by_age.rate


def act_below(runs: RunsToFailure, predicted: np.ndarray, cost: CostSettings) -> float:
    """The predicted RUL at or below which to replace.

    Cost falls slowly as the threshold comes down and jumps when the first machine fails, at a point a few
    lives cannot tell exactly. So of all thresholds within 2 % of the cheapest on these lives, the
    largest is taken.
    """
    limits = np.linspace(0.0, predicted.max(), _LIMITS)
    rates = np.array([policy_cost(runs, predicted <= limit, cost).rate for limit in limits])
    return float(limits[rates <= rates.min() * (1 + _SAFE_SIDE)].max())
