"""How long is left, asked of one class: what is learnt from, what candidates are judged by, what answers ask for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from backbone.errors import NoFailuresYet
from maintenance.answers import Answer, OutOfFold, Settled, Verdict
from maintenance.assessments import Severity, assess
from maintenance.cross_validation import Task, build, choose, cross_validate, folds_of
from maintenance.equipment_class import EquipmentClass
from maintenance.evaluation import Evaluation, Standing, judge_standings
from maintenance.intervals import Intervals, fit_intervals
from maintenance.labels import rul_labels
from maintenance.metrics import act_below, best_fixed_age, coverage, nasa_score, policy_cost, policy_told, rmse, width
from maintenance.onnx_export import export_onnx
from maintenance.prognosis import Scorer
from maintenance.progress import Progress
from maintenance.readings import MaintenanceHistory, Rows
from maintenance.reliability import Reliability, interval_coverage
from maintenance.training_set import TrainingSet


@dataclass(frozen=True, slots=True)
class RemainingLife:
    """The question, about one class; see `maintenance.question.Question`."""

    cls: EquipmentClass

    def labels(self, rows: Rows, history: MaintenanceHistory) -> np.ndarray:
        """Of lives that ended in failure only."""
        return rul_labels(self.cls, rows, history)

    def cases(self, data: TrainingSet) -> int:
        """Every life there is ended in one."""
        return data.lives

    def require_enough(self, data: TrainingSet) -> None:
        """Raises `NoFailuresYet` and says how many are needed."""
        models, failures, machines = self.cls.models, self.cases(data), len(np.unique(data.rows.machine))
        if failures < models.minimum_failures or machines < models.folds:
            raise NoFailuresYet(
                f"{failures} {self.cls.name} lives of {machines} machines ended in failure; "
                f"{models.minimum_failures} of {models.folds} machines are needed to learn from.",
                next_step="The rules serve until then; record failures in the maintenance history.",
            )

    def takes(self, name: str) -> bool:  # noqa: ARG002 - the port's
        """Everything there is."""
        return True

    def build(self, members: tuple[str, ...], seed: int, names: tuple[str, ...]) -> Any:  # noqa: ARG002 - the port's
        """Regressors need no names."""
        return build(members, seed)

    def target(self, data: TrainingSet) -> np.ndarray:
        """The labels as they are."""
        return data.rul

    def estimate(self, model: Any, X: np.ndarray) -> np.ndarray:
        """RUL units, below zero and above the cap as the model has it."""
        predicted: np.ndarray = model.predict(X)
        return predicted

    def export(self, model: Any, members: tuple[str, ...], columns: int) -> bytes:  # noqa: ARG002 - the port's
        """Regressors all have the form that skl2onnx gives them, the mean of two as well."""
        return export_onnx(model, columns)

    def settle(self, data: TrainingSet, learnt: TrainingSet, *, seed: int, workers: int, progress: Progress) -> Settled:
        """Least RMSE out of fold, then least cost; intervals from out-of-fold residuals."""
        cls = self.cls
        task = Task(
            target=self.target(data),
            estimate=lambda model, X: np.clip(self.estimate(model, X), 0, cls.rul.cap),
            score=lambda predicted: {"rmse": rmse(data.rul, predicted), "nasa_score": nasa_score(data.rul, predicted)},
            error=lambda scores: scores["rmse"],
            pairs=True,
        )
        fold = folds_of(data.rows.machine, cls.models.folds, seed)
        candidates = cross_validate(
            cls,
            learnt,
            task,
            fold,
            unfitted=lambda name: self.build((name,), seed, learnt.names),
            workers=workers,
            progress=progress,
        )
        best, act = choose(cls, data, candidates, fold)
        low, high = self._intervals_out_of_fold(data, best.predicted, fold)
        runs = data.runs
        policy, cost_ratio = policy_told(runs, act, cls.cost)
        return Settled(
            members=best.members,
            candidates=tuple({"model": list(c.members), **c.scores} for c in candidates),
            out_of_fold=OutOfFold(best.predicted, low, high, act),
            manifest={
                "intervals": self._intervals(data, best.predicted).to_dict(),
                "policy": {
                    "act_below": act_below(runs, best.predicted, cls.cost),
                    **policy,
                },
            },
            metrics={
                "rmse": rmse(data.rul, best.predicted),
                "nasa_score": nasa_score(data.rul, best.predicted),
                "coverage": coverage(data.rul, low, high),
                "width": width(low, high),
                "cost_ratio": cost_ratio,
                "failures": self.cases(data),
            },
        )

    def _intervals_out_of_fold(
        self, data: TrainingSet, predicted: np.ndarray, fold: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each fold's intervals by what the other folds missed by, as a machine to come would get them."""
        low, high = np.empty(len(data)), np.empty(len(data))
        for held in np.unique(fold):
            here = fold == held
            intervals = self._intervals(data.take(~here), predicted[~here])
            low[here], high[here] = intervals.around(predicted[here])
        return low, high

    def _intervals(self, data: TrainingSet, predicted: np.ndarray) -> Intervals:
        coverage, cap = self.cls.models.coverage, self.cls.rul.cap
        return fit_intervals(predicted, data.rul, data.rows.number, coverage=coverage, cap=cap)

    def judge(
        self, data: TrainingSet, candidate: Scorer, incumbent: tuple[Scorer, TrainingSet] | None = None
    ) -> Evaluation:
        """By error, in RUL units, and by cost."""
        cls = self.cls
        runs = data.runs
        by_rules = assess(cls, data.features)
        # Where the rules have no estimate they see nothing wrong: as long as a label can say.
        estimate = np.where(np.isnan(by_rules.rul), cls.rul.cap, np.minimum(by_rules.rul, cls.rul.cap))
        rules = Standing(rmse(data.rul, estimate), policy_cost(runs, by_rules.act, cls.cost).rate)
        predicted = candidate.predict(candidate.select(data.features))
        low, high = candidate.interval(predicted)
        model = self._standing(data, predicted, candidate.act_below)
        _, by_age = best_fixed_age(runs, cls.cost)
        metrics = {
            "rmse": model.error,
            "nasa_score": nasa_score(data.rul, predicted),
            "coverage": coverage(data.rul, low, high),
            "width": width(low, high),
            "cost_ratio": model.cost / by_age.rate,
            "rules_rmse": rules.error,
            "rules_cost_ratio": rules.cost / by_age.rate,
            "held_out_failures": float(len(runs)),
        }
        before = None
        if incumbent is not None:
            scorer, rows = incumbent
            before = partial(self._before, scorer, rows)
        return judge_standings(
            metrics,
            model,
            rules,
            before,
            comparable=incumbent is None or incumbent[0].comparable(candidate),
            text=lambda s: f"error {s.error:.2f} {cls.rul.unit}s, cost {s.cost:.4f} a {cls.rul.unit}",
            told=lambda s: {"previous_rmse": s.error, "previous_cost_ratio": s.cost / by_age.rate},
        )

    def _before(self, scorer: Scorer, rows: TrainingSet) -> Standing:
        return self._standing(rows, scorer.predict(scorer.select(rows.features)), scorer.act_below)

    def _standing(self, data: TrainingSet, predicted: np.ndarray, threshold: float) -> Standing:
        cost = policy_cost(data.runs, predicted <= threshold, self.cls.cost)
        return Standing(rmse(data.rul, predicted), cost.rate)

    def reliability(self, data: TrainingSet, predicted: np.ndarray, low: np.ndarray, high: np.ndarray) -> Reliability:
        """How often the truth lay inside the intervals."""
        return interval_coverage(predicted, data.rul, low, high, promised=self.cls.models.coverage)

    def verdict(self, answer: Answer) -> Verdict:
        """By how much life is left beyond that at which it is cheapest to act."""
        lead, unit = self.cls.lead, self.cls.rul.unit
        rul, low, high, driver, driven, act_below, *_ = answer
        slack = rul - act_below
        if slack <= 0:
            severity = Severity.ACT
        elif slack <= lead:
            severity = Severity.PLAN
        else:
            severity = Severity.WATCH if low - act_below <= lead else Severity.OK
        reason = f"About {rul:.0f} {unit}s left ({low:.0f} to {high:.0f})"
        if driver is not None:
            reason += f"; {driver} takes off {driven:.0f}"
        return Verdict(severity, f"{reason}.", max(slack, 0.0))
