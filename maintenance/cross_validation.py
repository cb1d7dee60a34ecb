"""Candidates compared on machines they did not learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

import maintenance.models
from backbone import plugins
from maintenance.equipment_class import EquipmentClass
from maintenance.metrics import act_below, policy_cost
from maintenance.progress import Progress
from maintenance.training_set import TrainingSet

_TIE = 0.03
"""Candidates whose errors differ by less than this share are told apart by what their plans cost. One candidate's own
error differs by as much between two ways to deal machines into folds."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model, or the mean of two, with its out-of-fold predictions (n,), their scores, and the deciding error.

    A name that is twice among the members counts twice in the mean.
    """

    members: tuple[str, ...]
    predicted: np.ndarray
    scores: Mapping[str, float]
    error: float


@dataclass(frozen=True, slots=True)
class Task:
    """What candidates are to learn, and how that is judged.

    Attributes:
        target: (n,) what they are fitted to.
        estimate: a fitted model's predictions (m,) for X (m, columns).
        score: the scores of predictions (n,), the one that decides first.
        error: the score that decides, as a number of which less is better.
        pairs: whether means of every two are tried as well.
    """

    target: np.ndarray
    estimate: Callable[[Any, np.ndarray], np.ndarray]
    score: Callable[[np.ndarray], dict[str, float]]
    error: Callable[[Mapping[str, float]], float]
    pairs: bool


def folds_of(machine: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(n,) fold of each row; a machine lies in one fold whole, and folds differ by one machine at most."""
    machines = np.unique(machine)
    fold = np.random.default_rng(seed).permutation(len(machines)) % folds
    return fold[np.searchsorted(machines, machine)]


def cross_validate(
    cls: EquipmentClass,
    data: TrainingSet,
    task: Task,
    fold: np.ndarray,
    *,
    unfitted: Callable[[str], Any],
    workers: int,
    progress: Progress,
) -> tuple[Candidate, ...]:
    """Every candidate and, where asked for, means of every two, best (least out-of-fold error) first.

    The mean of two costs nothing more to try, and errors of different kinds of model partly cancel out
    (Breiman, Machine Learning 1996). Each of the two may count twice: the one that errs least is not always
    the one whose plan is cheapest.

    Args:
        unfitted: gives the candidate of a name, not fitted to anything.
        workers: folds learnt at a time, each in a thread of its own; the result does not depend on it.
    """
    out = {name: np.empty(len(data)) for name in cls.models.candidates}
    left = {name: set(np.unique(fold).tolist()) for name in out}
    with ThreadPoolExecutor(workers) as pool:
        tasks = {
            # Built here, since scikit-learn's circular imports do not stand two threads importing at once.
            pool.submit(_predict_fold, cls, unfitted(name), data, task, fold == held): (name, held)
            for name, folds in left.items()
            for held in sorted(folds)
        }
        for done, fitted in enumerate(as_completed(tasks), start=1):
            name, held = tasks[fitted]
            out[name][fold == held] = fitted.result()
            left[name].remove(held)
            known = {} if left[name] else {f"{k}_{name}": v for k, v in [*task.score(out[name]).items()][:1]}
            progress(done / len(tasks), f"{name}, fold {held + 1}", known)
    sets: list[tuple[str, ...]] = [(name,) for name in out]
    for a, b in combinations(out, 2) if task.pairs else ():
        sets += [(a, b), (a, a, b), (a, b, b)]
    candidates = [_candidate(members, out, task) for members in sets]
    return tuple(sorted(candidates, key=lambda c: c.error))


def build(members: tuple[str, ...], seed: int) -> Any:
    """An unfitted candidate: one model, or the mean of several; each is built once, however often it is named."""
    if len(members) == 1:
        return _built(members[0], seed)
    from sklearn.ensemble import VotingRegressor

    named = Counter(members)
    return VotingRegressor([(name, _built(name, seed)) for name in named], weights=np.array([*named.values()]))


def _built(name: str, seed: int) -> Any:
    return plugins.load(maintenance.models, name).build(seed)


def _predict_fold(cls: EquipmentClass, model: Any, data: TrainingSet, task: Task, held: np.ndarray) -> np.ndarray:
    return task.estimate(fit(cls, model, data, task.target, np.flatnonzero(~held)), data.X[held])


def fit(cls: EquipmentClass, model: Any, data: TrainingSet, target: np.ndarray, rows: np.ndarray) -> Any:
    """Fit a model to some rows, or to as many of them as the class allows, in this thread only.

    OpenMP threads wait for each other by spinning: on a machine that has other work to do, a fit on two
    threads takes ten times as long as one on a single thread.
    """
    if len(rows) > cls.models.fit_rows:
        rows = rows[np.linspace(0, len(rows) - 1, cls.models.fit_rows).astype(int)]
    X = data.X[rows]
    X[:, np.isnan(X).all(axis=0)] = 0.0  # a sensor that only machines left out here have; it can teach nothing
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1, user_api="openmp"):
        return model.fit(X, target[rows])


def _candidate(members: tuple[str, ...], predicted: Mapping[str, np.ndarray], task: Task) -> Candidate:
    mean = np.mean([predicted[m] for m in members], axis=0)
    scores = task.score(mean)
    return Candidate(members, mean, scores, task.error(scores))


def decide(cls: EquipmentClass, data: TrainingSet, health: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(n,) whether the policy replaces at each row; each fold's threshold is what the other folds teach.

    Args:
        data: whole lives that ended in failure.
        health: (n,) what is predicted, the lower the worse.
    """
    act = np.zeros(len(data), dtype=bool)
    for held in np.unique(fold):
        here = fold == held
        act[here] = health[here] <= act_below(data.take(~here).runs, health[~here], cls.cost)
    return act


def choose(
    cls: EquipmentClass, data: TrainingSet, candidates: tuple[Candidate, ...], fold: np.ndarray
) -> tuple[Candidate, np.ndarray]:
    """The candidate to train, and its decisions (n,): least error, and among those as good, least cost.

    Args:
        data, candidates: as in `decide`: whole lives that ended in failure, and predictions that are lower the worse.
    """
    least = candidates[0].error
    tied = [c for c in candidates if c.error <= least * (1 + _TIE)]
    decided = [(c, decide(cls, data, c.predicted, fold)) for c in tied]
    return min(decided, key=lambda d: policy_cost(data.runs, d[1], cls.cost).rate)
