"""The port every question answers at: what differs between asking for a life, a failure soon, or what is odd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import maintenance.questions
from backbone import plugins
from backbone.contracts import Column
from maintenance.equipment_class import EquipmentClass
from maintenance.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from maintenance.answers import Answer, Settled, Verdict
    from maintenance.evaluation import Evaluation
    from maintenance.prognosis import Scorer
    from maintenance.readings import MaintenanceHistory, Rows
    from maintenance.reliability import Reliability
    from maintenance.training_set import TrainingSet


@dataclass(frozen=True, slots=True)
class CardText:
    """What a model card says that depends on the question, Markdown lines each.

    `learnt_from` begins with "learnt from"; `table` is that of the candidates, head included.
    """

    title: str
    purpose: tuple[str, ...]
    learnt_from: str
    table: tuple[str, ...]
    figures: tuple[str, ...]
    limits: tuple[str, ...]


class Question(Protocol):
    """A question, about one class. Predictions are (n,), in what the question is answered in."""

    @property
    def cls(self) -> EquipmentClass:
        """The class."""
        ...

    def labels(self, rows: Rows, history: MaintenanceHistory) -> np.ndarray:
        """(n,) remaining life of each row in RUL units, as far as it is known; NaN: nothing to be learnt from it."""
        ...

    def cases(self, data: TrainingSet) -> int:
        """How many cases there are to learn from, or to be judged by: failures, where those are what teaches."""
        ...

    def require_enough(self, data: TrainingSet) -> None:
        """Raises `NoFailuresYet` where these rows, whatever their features, are not enough to learn from."""
        ...

    def build(self, members: tuple[str, ...], seed: int, names: tuple[str, ...]) -> Any:
        """An unfitted candidate, or the mean of several, that learns from the features of these names."""
        ...

    def takes(self, name: str) -> bool:
        """Whether its models look at a feature."""
        ...

    def target(self, data: TrainingSet) -> np.ndarray:
        """(n,) what candidates are fitted to."""
        ...

    def estimate(self, model: Any, X: np.ndarray) -> np.ndarray:
        """(n,) a fitted candidate's answers, as its ONNX form gives them, whatever bounds there are."""
        ...

    def export(self, model: Any, members: tuple[str, ...], columns: int) -> bytes:
        """A fitted candidate as ONNX, as `maintenance.onnx_export` has it."""
        ...

    def settle(self, data: TrainingSet, learnt: TrainingSet, *, seed: int, workers: int, progress: Progress) -> Settled:
        """Compare the class's candidates, and decide which to train and when it acts.

        Args:
            data: everything there is to learn from.
            learnt: the same rows with those features only that the question takes, and that say anything.
        """
        ...

    def judge(
        self, data: TrainingSet, candidate: Scorer, incumbent: tuple[Scorer, TrainingSet] | None = None
    ) -> Evaluation:
        """Whether a candidate earns its release; see `maintenance.evaluation.compare`."""
        ...

    def reliability(self, data: TrainingSet, predicted: np.ndarray, low: np.ndarray, high: np.ndarray) -> Reliability:
        """Whether answers about these rows are as sure as they say.

        Args:
            low, high: (n,) their intervals, NaN where the question has none.
        """
        ...

    def verdict(self, answer: Answer) -> Verdict:
        """What the model's answer for a row asks for."""
        ...


@dataclass(frozen=True, slots=True)
class QuestionSpec:
    """How a question presents itself: one `SPEC` a module of `maintenance.questions`, named like the module.

    Attributes:
        learns_from: what a training set of it is, for people.
        settings: the frozen dataclass of what a class may set, every value with a bound checked.
        check: raises `ConfigurationError` where settings do not fit the class.
        about: the question, put to one class.
        top: the largest answer there is, from the cap in RUL units; inf where there is none.
        card: how a manifest is told to people.
        fits: whether what a manifest says was asked is what a class of this question asks.
        risk: the column of an answer that is the worse the larger it is, None where it is a remaining life.
        columns: product → what the question puts into the class's contract of it.
        in_range_only: the model abstains where a reading lies outside of what it learnt from.
        tolerance: largest difference between a model and its ONNX form.
        unjudged: why there is no verdict on a candidate where no case is held out.
    """

    name: str
    summary: str
    cannot: tuple[str, ...]
    learns_from: str
    settings: type[Any]
    check: Callable[[EquipmentClass], None]
    about: Callable[[EquipmentClass], Question]
    top: Callable[[float], float]
    card: Callable[[Mapping[str, Any]], CardText]
    fits: Callable[[Mapping[str, Any], EquipmentClass], bool] = lambda _asked, _cls: True
    risk: str | None = None
    columns: Mapping[str, tuple[Column, ...]] = field(default_factory=dict)
    in_range_only: bool = True
    tolerance: float = 1e-2
    unjudged: str = "No held-out machine has failed so far, so nothing can be judged."


def question_spec(cls: EquipmentClass) -> QuestionSpec:
    """What kind of question a class asks."""
    spec: QuestionSpec = plugins.load(maintenance.questions, cls.question)
    return spec


def question_of(cls: EquipmentClass) -> Question:
    """The question a class asks."""
    return question_spec(cls).about(cls)
