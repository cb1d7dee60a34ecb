"""What is odd, asked of one class: what is normal, how often alarm may be given, what an answer asks for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import maintenance.models
from backbone import plugins
from backbone.errors import NoFailuresYet
from maintenance.answers import Answer, OutOfFold, Settled, Verdict
from maintenance.assessments import Severity, assess
from maintenance.cross_validation import Task, build, cross_validate, fit, folds_of
from maintenance.equipment_class import EquipmentClass
from maintenance.evaluation import OTHER_FEATURES, Evaluation
from maintenance.labels import known_life
from maintenance.prognosis import Scorer
from maintenance.progress import Progress
from maintenance.questions.anomaly import warm_up
from maintenance.readings import MaintenanceHistory, Rows
from maintenance.reliability import Reliability, false_alarms
from maintenance.training_set import TrainingSet

_LIMIT = 1.0
_WORTH_TELLING = 0.1
"""Of a score, what a sensor makes of it."""
_SURELY = 0.75
"""The first share of a life's normal readings that surely are; a fault may begin before the last of them."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """The question, about one class; see `maintenance.question.Question`."""

    cls: EquipmentClass

    def labels(self, rows: Rows, history: MaintenanceHistory) -> np.ndarray:
        """How long the machine is known to have gone on, of a life's normal readings. None is normal that is known
        to lie within the cap of a failure: up to there readings may tell of it."""
        known, failed = known_life(self.cls, rows, history)
        position = np.arange(len(rows)) - np.repeat(rows.starts, rows.ends - rows.starts)
        normal = (position >= warm_up(self.cls)) & (position < self.cls.asked.normal_readings)
        return np.where(normal & ~(failed & (known < self.cls.rul.cap)), known, np.nan)

    def target(self, data: TrainingSet) -> np.ndarray:
        """1 for the first share of each life's normal readings."""
        length = data.rows.ends - data.rows.starts
        position = np.arange(len(data)) - np.repeat(data.rows.starts, length)
        return (position < np.repeat(np.ceil(length * _SURELY), length)).astype(float)

    def cases(self, data: TrainingSet) -> int:
        """Lives whose normal readings are all there."""
        whole = self.cls.asked.normal_readings - warm_up(self.cls)
        return int((data.rows.ends - data.rows.starts >= whole).sum())

    def require_enough(self, data: TrainingSet) -> None:
        """Raises `NoFailuresYet`, though no failure is waited for, but for normal readings."""
        if not self.cases(data):
            raise NoFailuresYet(
                f"No {self.cls.name} has the {self.cls.asked.normal_readings} readings at the beginning of a life that "
                "are taken as normal.",
                next_step="The rules serve until then.",
            )

    def takes(self, name: str) -> bool:
        """Where sensors stand and how much they move, and nothing that counts from when the life began."""
        sensor, _, kind = name.partition(".")
        return kind.startswith(("mean_", "std_")) and self.cls.asked.weights.get(sensor, 1.0) > 0

    def build(self, members: tuple[str, ...], seed: int, names: tuple[str, ...]) -> Any:
        """A detector knows what its columns are."""
        weights = np.array([self.cls.asked.weights.get(name.partition(".")[0], 1.0) for name in names])
        return build(members, seed).set_params(names=names, weights=weights)

    def estimate(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Scores, 1 at the limit of alarm."""
        score: np.ndarray = -model.score_samples(X)
        return score

    def export(self, model: Any, members: tuple[str, ...], columns: int) -> bytes:
        """A detector brings its own form."""
        (name,) = members
        exported: bytes = plugins.load(maintenance.models, name).export(model, columns)
        return exported

    def settle(self, data: TrainingSet, learnt: TrainingSet, *, seed: int, workers: int, progress: Progress) -> Settled:
        """Only count how often it gives alarm: on machines it had not learnt from, where there are as many as folds."""
        cls, members = self.cls, self.cls.models.candidates
        target = self.target(data)

        def score(predicted: np.ndarray) -> dict[str, float]:
            return {"false_alarm_share": float((predicted >= _LIMIT).mean())}

        elsewhere = len(np.unique(data.rows.machine)) >= cls.models.folds
        if elsewhere:
            task = Task(target, self.estimate, score, lambda scores: scores["false_alarm_share"], pairs=False)
            fold = folds_of(data.rows.machine, cls.models.folds, seed)
            (only,) = cross_validate(
                cls,
                learnt,
                task,
                fold,
                unfitted=lambda name: self.build((name,), seed, learnt.names),
                workers=workers,
                progress=progress,
            )
            predicted = only.predicted
        else:
            model = fit(cls, self.build(members, seed, learnt.names), learnt, target, np.arange(len(learnt)))
            predicted = self.estimate(model, learnt.X)
        nothing = np.full(len(data), np.nan)
        return Settled(
            members=members,
            candidates=({"model": list(members), **score(predicted)},),
            out_of_fold=OutOfFold(predicted, nothing, nothing, predicted >= _LIMIT),
            manifest={
                "asked": {**asdict(cls.asked), "weights": dict(cls.asked.weights)},
                "intervals": {},
                "policy": {"act_above": _LIMIT, "judged_elsewhere": elsewhere},
            },
            metrics={**score(predicted), "lives": data.lives},
        )

    def judge(
        self, data: TrainingSet, candidate: Scorer, incumbent: tuple[Scorer, TrainingSet] | None = None
    ) -> Evaluation:
        """By false alarms alone: without labels nothing says what was missed."""
        most = self.cls.asked.most_false_alarms
        share = self._false_alarms(data, candidate)
        by_rules = float((assess(self.cls, data.features).severity >= Severity.PLAN).mean())
        metrics = {"false_alarm_share": share, "rules_false_alarm_share": by_rules, "held_out_lives": float(data.lives)}
        few = share <= most
        compared = "no more than" if few else "more than"
        said = f"Alarm on {share:.1%} of normal readings is {compared} the {most:.0%} that may be."
        against, pro = ([], [said]) if few else ([said], [])
        if incumbent is not None and incumbent[0].comparable(candidate):
            before = self._false_alarms(incumbent[1], incumbent[0])
            metrics["previous_false_alarm_share"] = before
            (pro if share < before else against).append(
                f"{'Better' if share < before else 'No better'} than the release before: alarm on {share:.1%} of "
                f"normal readings, against {before:.1%}."
            )
        elif incumbent is not None:
            pro.append(OTHER_FEATURES)
        return Evaluation(not against, tuple(against or pro), metrics)

    def _false_alarms(self, data: TrainingSet, scorer: Scorer) -> float:
        return float((scorer.predict(scorer.select(data.features)) >= scorer.act_above).mean())

    def reliability(
        self,
        data: TrainingSet,  # noqa: ARG002 - the port's
        predicted: np.ndarray,
        low: np.ndarray,  # noqa: ARG002 - the port's
        high: np.ndarray,  # noqa: ARG002 - the port's
    ) -> Reliability:
        """How many normal readings are scored how high."""
        return false_alarms(predicted, promised=self.cls.asked.most_false_alarms)

    def verdict(self, answer: Answer) -> Verdict:
        """An alarm is a reason to look at the machine in the time that work is planned in; a gross one, at once."""
        score, asked, driver = answer.risk, self.cls.asked, answer.driver
        steps = ((asked.act, Severity.ACT), (_LIMIT, Severity.PLAN), (asked.watch, Severity.WATCH))
        severity = next((severity for least, severity in steps if score >= least), Severity.OK)
        reason = f"{score:.1f} times as unlike normal readings as is let pass"
        if answer.driven >= _WORTH_TELLING:
            reason += f"; {driver} makes {answer.driven:.1f} of it"
        return Verdict(severity, f"{reason}.", 0.0 if severity == Severity.ACT else self.cls.lead)
