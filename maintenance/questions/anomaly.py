"""Whether a reading is unlike normal ones: a score, by an outlier detector that no failure teaches.

A detector is an estimator with three methods: `set_params(names, weights)` says what the columns are and what each
counts, `fit(X, y)` learns from normal readings, of which y is 1 where they surely are and 0 where they may not be, and
`score_samples(X)` is -1 at the limit of alarm and below it beyond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import Field

import maintenance.models
from backbone import plugins
from backbone.contracts import Column
from backbone.errors import ConfigurationError, NoFailuresYet, UnknownName
from backbone.requirements import NotNegative
from maintenance.assessments import Severity, assess
from maintenance.cross_validation import Task, build, cross_validate, fit, folds_of
from maintenance.equipment_class import EquipmentClass, Fraction
from maintenance.evaluation import OTHER_FEATURES, Evaluation
from maintenance.labels import known_life
from maintenance.prognosis import Prognoses, Scorer
from maintenance.progress import Progress
from maintenance.question import CardText, OutOfFold, QuestionSpec, Settled, Verdict
from maintenance.readings import MaintenanceHistory, Rows
from maintenance.reliability import Reliability, false_alarms
from maintenance.training_set import TrainingSet

SCORE = "anomaly_score"
_LIMIT = 1.0
_WORTH_TELLING = 0.1
"""Of a score, what a sensor makes of it."""
_SURELY = 0.75
"""The first share of a life's normal readings that surely are; a fault may begin before the last of them."""


@dataclass(frozen=True, slots=True)
class AnomalySettings:
    """What is taken as normal, and what an alarm is.

    Attributes:
        normal_readings: so many readings at the beginning of each life are taken as normal.
        warm_up: so many of them are not learnt from, since their windows are not full (None: one less than the
            longest mean or deviation spans).
        weights: what a sensor counts, where it is not 1; less for one that wanders while all is well.
        watch: a machine is watched from this score on; 1 is the limit of alarm, from which on work is planned.
        act: and stopped from this one on.
        most_false_alarms: share of normal readings of held-out machines that a release may give alarm on.
    """

    normal_readings: Annotated[int, Field(ge=20)]
    warm_up: Annotated[int, Field(ge=0)] | None = None
    weights: Mapping[str, NotNegative] = field(default_factory=dict)
    watch: Fraction = 0.8
    act: Annotated[float, Field(ge=1)] = 3.0
    most_false_alarms: Fraction = 0.05


@dataclass(frozen=True, slots=True)
class Anomaly:
    """The question, about one class; see `maintenance.question.Question`."""

    cls: EquipmentClass

    @property
    def warm_up(self) -> int:
        """Readings of a life that are not learnt from."""
        asked = self.cls.asked.warm_up
        return asked if asked is not None else max(*self.cls.features.means, *self.cls.features.deviations, 1) - 1

    def labels(self, rows: Rows, history: MaintenanceHistory) -> np.ndarray:
        """How long the machine is known to have gone on, of a life's normal readings. None is normal that is known
        to lie within the cap of a failure: up to there readings may tell of it."""
        known, failed = known_life(self.cls, rows, history)
        position = np.arange(len(rows)) - np.repeat(rows.starts, rows.ends - rows.starts)
        normal = (position >= self.warm_up) & (position < self.cls.asked.normal_readings)
        return np.where(normal & ~(failed & (known < self.cls.rul.cap)), known, np.nan)

    def target(self, data: TrainingSet) -> np.ndarray:
        """1 for the first share of each life's normal readings."""
        length = data.rows.ends - data.rows.starts
        position = np.arange(len(data)) - np.repeat(data.rows.starts, length)
        return (position < np.repeat(np.ceil(length * _SURELY), length)).astype(float)

    def cases(self, data: TrainingSet) -> int:
        """Lives whose normal readings are all there."""
        whole = self.cls.asked.normal_readings - self.warm_up
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

    def verdict(self, prognoses: Prognoses, row: int) -> Verdict:
        """An alarm is a reason to look at the machine in the time that work is planned in; a gross one, at once."""
        assert prognoses.risk is not None
        score, asked, driver = float(prognoses.risk[row]), self.cls.asked, prognoses.driver[row]
        steps = ((asked.act, Severity.ACT), (_LIMIT, Severity.PLAN), (asked.watch, Severity.WATCH))
        severity = next((severity for least, severity in steps if score >= least), Severity.OK)
        reason = f"{score:.1f} times as unlike normal readings as is let pass"
        if prognoses.driven[row] >= _WORTH_TELLING:
            reason += f"; {driver} makes {prognoses.driven[row]:.1f} of it"
        return Verdict(severity, f"{reason}.", 0.0 if severity == Severity.ACT else self.cls.lead)


def _check(cls: EquipmentClass) -> None:
    for sensor in cls.asked.weights:
        if sensor not in cls.contract.inputs:
            raise UnknownName(f"input of class {cls.name}", sensor, cls.contract.inputs)
    if len(cls.models.candidates) != 1:
        raise ConfigurationError(
            f"class {cls.name} names {len(cls.models.candidates)} detectors.",
            next_step="Name one of them in models.candidates: without labels nothing tells which is better.",
        )
    if Anomaly(cls).warm_up >= cls.asked.normal_readings:
        raise ConfigurationError(
            f"class {cls.name}: warmUp is {Anomaly(cls).warm_up}, normalReadings is {cls.asked.normal_readings}.",
            next_step="Let more readings be normal than are needed to fill the windows, or warm up for less long.",
        )


def _card(manifest: Mapping[str, Any]) -> CardText:
    metrics, asked = manifest["metrics"], manifest["asked"]
    on = "machines it had not learnt from" if manifest["policy"]["judged_elsewhere"] else "its own readings"
    return CardText(
        title=f"Anomalies of a {manifest['equipment_class']}",
        purpose=("Tells how unlike normal readings a reading is; 1 is the limit of alarm.",),
        learnt_from=f"learnt from {metrics['rows']} readings, at the beginning of {metrics['lives']} lives of "
        f"{metrics['machines']} machines, that were taken as normal; no failure taught it",
        table=(
            f"| model | alarm on normal readings of {on} |",
            "|---|---|",
            *(f"| {' + '.join(c['model'])} | {c['false_alarm_share']:.1%} |" for c in manifest["candidates"]),
        ),
        figures=(
            "- what it misses is not known: nothing says which readings were not normal",
            f"- its ONNX form differs by at most {metrics['onnx_max_abs_diff']:.2g}",
        ),
        limits=(
            f"- It takes the first {asked['normal_readings']} readings of a life as normal, whatever they are.",
            "- It does not say what is wrong, nor how long the machine will last.",
            "- It abstains where a sensor it needs is silent; rules answer then.",
        ),
    )


_SCORE = Column(
    SCORE, "number", unit="1", minimum=0.0, description="How unlike normal readings; 1 is the limit of alarm."
)
_ACT_ABOVE = Column("act_above", "number", unit="1", minimum=0.0, description="The limit of alarm.")

SPEC = QuestionSpec(
    name="anomaly",
    summary="Asks how unlike normal readings a reading is, with normal being how each life begins.",
    cannot=(
        "say what is wrong, or how long is left",
        "compare detectors, or tell what one misses: there are no labels",
        "tell that a life began with a fault, beyond what the detector leaves out by itself",
    ),
    learns_from="Causal features of the readings at the beginning of each life, which are taken as normal.",
    settings=AnomalySettings,
    check=_check,
    about=Anomaly,
    top=lambda _: float("inf"),
    card=_card,
    risk=SCORE,
    columns={"prognoses": (_SCORE, _ACT_ABOVE)},
    in_range_only=False,
    tolerance=1e-3,
    unjudged="No normal readings are held out so far, so nothing can be judged.",
)
