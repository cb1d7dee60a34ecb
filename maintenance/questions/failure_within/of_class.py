"""Whether it fails soon, asked of one class: what is learnt from, what models are judged by, what answers ask for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from backbone.errors import NoFailuresYet
from maintenance.answers import Answer, OutOfFold, Settled, Verdict
from maintenance.assessments import Severity, assess
from maintenance.cross_validation import Task, build, choose, cross_validate, folds_of
from maintenance.equipment_class import EquipmentClass
from maintenance.evaluation import Evaluation, Standing, judge_standings
from maintenance.labels import known_life
from maintenance.metrics import act_below, average_precision, best_fixed_age, brier, policy_cost, policy_told
from maintenance.onnx_export import export_probability
from maintenance.prognosis import Scorer
from maintenance.progress import Progress
from maintenance.readings import MaintenanceHistory, Rows
from maintenance.reliability import Reliability, calibration
from maintenance.training_set import TrainingSet

_WORTH_TELLING = 0.01
"""Of a probability, what a sensor adds."""


@dataclass(frozen=True, slots=True)
class FailureWithin:
    """The question, about one class; see `maintenance.question.Question`."""

    cls: EquipmentClass

    @property
    def horizon(self) -> float:
        """RUL units."""
        return float(self.cls.asked.horizon)

    def labels(self, rows: Rows, history: MaintenanceHistory) -> np.ndarray:
        """Of rows of which the answer is known. What fails in the very moment can no longer be foretold.

        Rows of the last horizon of all are left out, also where the machine then failed: whether a row is learnt from
        must not depend on what became of it.
        """
        if not len(rows):
            return np.empty(0)
        known, failed = known_life(self.cls, rows, history)
        horizon = np.timedelta64(round(self.horizon * self.cls.rul.seconds * 1e6), "us")
        told = (failed & (known > 0)) | (known > self.horizon)
        return np.where(told & (rows.ts + horizon <= rows.ts.max()), known, np.nan)

    def target(self, data: TrainingSet) -> np.ndarray:
        """1 where the machine failed within the horizon."""
        return (data.rul <= self.horizon).astype(np.int64)

    def cases(self, data: TrainingSet) -> int:
        """Failures that some reading came within the horizon of."""
        if not len(data):
            return 0
        return int((np.minimum.reduceat(data.rul, data.rows.starts) <= self.horizon).sum())

    def require_enough(self, data: TrainingSet) -> None:
        """Raises `NoFailuresYet` and says how many are needed."""
        cls, soon = self.cls, data.rul <= self.horizon
        failures, machines = self.cases(data), len(np.unique(data.rows.machine[soon]))
        if failures < cls.models.minimum_failures or machines < cls.models.folds or soon.all():
            raise NoFailuresYet(
                f"{failures} failures of {machines} machines of class {cls.name} were read of up to {self.horizon:g} "
                f"{cls.rul.unit}s before; {cls.models.minimum_failures} of {cls.models.folds} machines are needed to "
                "learn from, and readings of machines that went on for longer.",
                next_step="The rules serve until then; record failures in the maintenance history.",
            )

    def takes(self, name: str) -> bool:  # noqa: ARG002 - the port's
        """Everything there is."""
        return True

    def build(self, members: tuple[str, ...], seed: int, names: tuple[str, ...]) -> Any:  # noqa: ARG002 - the port's
        """Classifiers need no names."""
        return build(members, seed)

    def estimate(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Probabilities of failing."""
        probability: np.ndarray = model.predict_proba(X)[:, 1]
        return probability

    def export(self, model: Any, members: tuple[str, ...], columns: int) -> bytes:  # noqa: ARG002 - the port's
        """Classifiers all have the form that skl2onnx gives them."""
        return export_probability(model, columns)

    def settle(self, data: TrainingSet, learnt: TrainingSet, *, seed: int, workers: int, progress: Progress) -> Settled:
        """Largest area under precision and recall out of fold, then least cost."""
        cls, true = self.cls, data.rul <= self.horizon
        task = Task(
            target=self.target(data),
            estimate=self.estimate,
            score=lambda p: {"pr_auc": average_precision(true, p), "brier": brier(true, p)},
            error=lambda scores: 1 - scores["pr_auc"],
            pairs=False,
        )
        fold = self._folds(data, seed)
        candidates = cross_validate(
            cls,
            learnt,
            task,
            fold,
            unfitted=lambda name: self.build((name,), seed, learnt.names),
            workers=workers,
            progress=progress,
        )
        failed = self._failed(data)
        runs = data.take(failed)
        surviving = tuple(replace(c, predicted=1 - c.predicted[failed]) for c in candidates)
        chosen, acted = choose(cls, runs, surviving, fold[failed])
        best = next(c for c in candidates if c.members == chosen.members)
        act_above = 1 - act_below(runs.runs, chosen.predicted, cls.cost)
        act = best.predicted >= act_above
        act[failed] = acted
        policy, cost_ratio = policy_told(runs.runs, acted, cls.cost)
        nothing = np.full(len(data), np.nan)
        return Settled(
            members=best.members,
            candidates=tuple({"model": list(c.members), **c.scores} for c in candidates),
            out_of_fold=OutOfFold(best.predicted, nothing, nothing, act),
            manifest={
                "asked": asdict(cls.asked),
                "intervals": {},
                "policy": {
                    "act_above": act_above,
                    **policy,
                },
            },
            metrics={
                **best.scores,
                "positive_share": float(true.mean()),
                "cost_ratio": cost_ratio,
                "failures": self.cases(data),
            },
        )

    def _folds(self, data: TrainingSet, seed: int) -> np.ndarray:
        """(n,) folds as everywhere, but machines that failed are dealt out first, so that each fold has its share."""
        machine, folds = data.rows.machine, self.cls.models.folds
        failing = np.isin(machine, machine[data.rul <= self.horizon])
        fold = np.empty(len(data), dtype=np.intp)
        for part in (failing, ~failing):
            fold[part] = folds_of(machine[part], folds, seed)
        return fold

    def _failed(self, data: TrainingSet) -> np.ndarray:
        """(n,) which rows are of lives that are known to have ended in failure."""
        soonest = np.minimum.reduceat(data.rul, data.rows.starts)
        return np.repeat(soonest <= self.horizon, data.rows.ends - data.rows.starts)

    def judge(
        self, data: TrainingSet, candidate: Scorer, incumbent: tuple[Scorer, TrainingSet] | None = None
    ) -> Evaluation:
        """By area under precision and recall, and by cost; the rules rank machines by severity."""
        cls, true = self.cls, data.rul <= self.horizon
        failed = self._failed(data)
        runs = data.take(failed).runs
        _, by_age = best_fixed_age(runs, cls.cost)
        by_rules = assess(cls, data.features)
        rules = Standing(
            1 - average_precision(true, by_rules.severity.astype(float)),
            policy_cost(runs, by_rules.act[failed], cls.cost).rate,
        )
        predicted = candidate.predict(candidate.select(data.features))
        model = self._standing(data, predicted, candidate.act_above)
        metrics = {
            "pr_auc": 1 - model.error,
            "brier": brier(true, predicted),
            "positive_share": float(true.mean()),
            "cost_ratio": model.cost / by_age.rate,
            "rules_pr_auc": 1 - rules.error,
            "rules_cost_ratio": rules.cost / by_age.rate,
            "held_out_failures": float(len(runs)),
        }
        before = None
        if incumbent is not None:
            scorer, rows = incumbent
            before = lambda: self._standing(  # noqa: E731 - asked only where the two can be compared
                rows, scorer.predict(scorer.select(rows.features)), scorer.act_above
            )
        return judge_standings(
            metrics,
            model,
            rules,
            before,
            comparable=incumbent is None or incumbent[0].comparable(candidate),
            text=lambda s: f"area missed {s.error:.3f}, cost {s.cost:.4f} a {cls.rul.unit}",
            told=lambda s: {"previous_pr_auc": 1 - s.error, "previous_cost_ratio": s.cost / by_age.rate},
        )

    def _standing(self, data: TrainingSet, predicted: np.ndarray, threshold: float) -> Standing:
        failed = self._failed(data)
        cost = policy_cost(data.take(failed).runs, (predicted >= threshold)[failed], self.cls.cost)
        return Standing(1 - average_precision(data.rul <= self.horizon, predicted), cost.rate)

    def reliability(
        self,
        data: TrainingSet,
        predicted: np.ndarray,
        low: np.ndarray,  # noqa: ARG002 - the port's
        high: np.ndarray,  # noqa: ARG002 - the port's
    ) -> Reliability:
        """How often a machine failed, by the probability that was given."""
        return calibration(predicted, data.rul <= self.horizon)

    def verdict(self, answer: Answer) -> Verdict:
        """By the probability at which it is cheapest to act: within the horizon nothing can wait to be planned."""
        chance, act_above = answer.risk, answer.act_above
        if chance >= act_above:
            severity = Severity.ACT
        else:
            severity = Severity.WATCH if chance >= act_above * self.cls.asked.watch else Severity.OK
        reason = f"Fails within {self.horizon:g} {self.cls.rul.unit}s with a probability of {chance:.0%}"
        if answer.driven >= _WORTH_TELLING:
            reason += f"; {answer.driver} adds {answer.driven:.0%}"
        return Verdict(severity, f"{reason}.", 0.0, chance)
