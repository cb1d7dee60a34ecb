"""An equipment class as data: a contract, and how its machines are watched, judged and learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field

import maintenance.models
import maintenance.questions
import maintenance.rules
from backbone import plugins
from backbone.contracts import Contract
from backbone.errors import ConfigurationError, UnknownName
from backbone.requirements import NotNegative
from backbone.settings import settings_from

RUL_PROPERTY = "remainingUsefulLife"
"""The custom property that makes a contract an equipment class."""
QUESTION_PROPERTY = "question"
REMAINING_LIFE = "remaining_life"
"""What is asked where a class names no question."""

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, slots=True)
class RulSettings:
    """How remaining useful life (ISO 13381-1) is counted.

    `unit` is the word people use, `seconds` how long one is. Labels above `cap` units are cut to it: long
    before a failure nothing in the readings tells how long (Heimes, PHM 2008).
    """

    unit: Annotated[str, Field(min_length=1)]
    seconds: Positive
    cap: Positive


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """Which statistics are taken of each sensor; spans are in readings, `averages` are EMA weights in (0, 1)."""

    means: tuple[int, ...] = (5, 10, 20, 30)
    deviations: tuple[int, ...] = (10, 30)
    slopes: tuple[int, ...] = (10, 30, 60)
    averages: tuple[Fraction, ...] = (0.05, 0.1, 0.2)
    level_readings: Annotated[int, Field(ge=1)] = 10

    def __post_init__(self) -> None:
        for name, spans, least in (
            ("means", self.means, 1),
            ("deviations", self.deviations, 2),
            ("slopes", self.slopes, 3),
        ):
            if list(spans) != sorted(set(spans)) or (spans and spans[0] < least):
                raise ConfigurationError(
                    f"{name} are {list(spans)}.", next_step=f"List rising whole numbers, the first at least {least}."
                )
        if not self.means or not self.slopes:
            raise ConfigurationError("means or slopes are empty.", next_step="Give each at least one span.")

    @property
    def span(self) -> int:
        """Readings that the longest rolling statistic looks at."""
        return max(*self.means, *self.deviations, *self.slopes, 1)


@dataclass(frozen=True, slots=True)
class BaselineSettings:
    """How operating regimes are told apart.

    Attributes:
        separation: two levels of a setting count as two when the gap between them exceeds this share of
            the setting's range.
        minimum_share: a regime seen in a smaller share of the readings is joined to the nearest one.
    """

    separation: Fraction = 0.03
    minimum_share: Fraction = 0.005


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What is tried, and on how much.

    Attributes:
        candidates: modules of `maintenance.models`, compared by cross-validation; those that can answer the
            class's question, unless it names some of them.
        minimum_failures: lives that must have ended in failure before anything is learnt.
        folds: cross-validation folds; a machine lies in one of them whole.
        fit_rows: readings that one fit learns from at most, spread evenly over all; neighbours tell nearly the same.
        held_out: share of machines that no release ever learns from, to judge releases by.
        coverage: share of true values that an interval is to hold.
    """

    candidates: Annotated[tuple[str, ...], Field(min_length=1)] = field(
        default_factory=lambda: plugins.names(maintenance.models)
    )
    minimum_failures: int = 8
    folds: Annotated[int, Field(ge=2)] = 5
    fit_rows: Annotated[int, Field(ge=1)] = 30_000
    held_out: Fraction = 0.2
    coverage: Fraction = 0.9

    def __post_init__(self) -> None:
        if self.minimum_failures < self.folds:
            raise ConfigurationError(
                f"minimumFailures is {self.minimum_failures}, folds is {self.folds}.",
                next_step="Ask for at least as many failures as folds.",
            )


@dataclass(frozen=True, slots=True)
class CostSettings:
    """What maintenance costs: a `planned` replacement and a `failure`, in `currency`.

    `lead` is how long before it is due work has to be planned, in RUL units (None: a fifth of the cap).
    """

    planned: Positive = 1.0
    failure: Positive = 10.0
    currency: str = "planned replacements"
    lead: Positive | None = None

    def __post_init__(self) -> None:
        if self.failure <= self.planned:
            raise ConfigurationError(
                f"failure costs {self.failure}, planned {self.planned}.",
                next_step="Give a failure cost above the planned one; otherwise running to failure is best.",
            )


@dataclass(frozen=True, slots=True)
class SafeDefaultSettings:
    """What is to be done with a machine of which nobody, not even a rule, can tell anything.

    `within` is how soon, in RUL units (None: the lead time of planned work).
    """

    action: Annotated[str, Field(min_length=1)] = "Inspect the machine and its sensors."
    within: NotNegative | None = None


@dataclass(frozen=True, slots=True)
class EquipmentClass:
    """One kind of machine.

    `question` is a module of `maintenance.questions`, `asked` its settings; `rules` holds each rule's own settings
    record, by the rule's name.
    """

    name: str
    contract: Contract
    rul: RulSettings
    features: FeatureSettings
    baseline: BaselineSettings
    rules: Mapping[str, Any]
    models: ModelSettings
    cost: CostSettings
    safe_default: SafeDefaultSettings
    question: str = REMAINING_LIFE
    asked: Any = None

    @property
    def lead(self) -> float:
        """Time to plan work in, RUL units."""
        return self.cost.lead if self.cost.lead is not None else self.rul.cap / 5

    def on(self, budget: float) -> EquipmentClass:
        """The class with less effort spent on its models: a share `budget` of the readings a fit learns from."""
        fit_rows = max(1, int(self.models.fit_rows * budget))
        return replace(self, models=replace(self.models, fit_rows=fit_rows))

    def component(self, sensor: str) -> str:
        """The part of the machine that a sensor tells about; the sensor itself where the contract is silent."""
        return self.named_component(sensor) or sensor

    def named_component(self, sensor: str) -> str | None:
        """The part of the machine that the contract says a sensor tells about; None where it is silent."""
        named = self.contract[sensor].attributes.get("component")
        return None if named is None else str(named)


_DEFAULT_RULES: Mapping[str, Mapping[str, Any]] = {"level": {}, "trend": {}}
_PROPERTIES = (
    RUL_PROPERTY,
    QUESTION_PROPERTY,
    "features",
    "operatingBaseline",
    "rules",
    "models",
    "cost",
    "safeDefault",
)


def is_equipment_class(contract: Contract) -> bool:
    """Whether a contract describes an equipment class rather than some other data product."""
    return RUL_PROPERTY in contract.settings


def equipment_class_from_contract(contract: Contract) -> EquipmentClass:
    """Give a contract's custom properties their meaning.

    Only `remainingUsefulLife` is needed; everything else has defaults.

    Raises:
        UnknownName: a property, setting, question, rule or model that does not exist; lists those that do.
        ConfigurationError: a wrong value, no input column, or a contract that is no equipment class.
    """
    where = f"class {contract.name}"
    if not is_equipment_class(contract):
        raise ConfigurationError(
            f"Contract {contract.name} is no equipment class.",
            next_step=f"Add the custom property {RUL_PROPERTY} with unit, seconds and cap.",
        )
    if not contract.inputs:
        raise ConfigurationError(
            f"{where} has no input column.", next_step="Give at least one sensor the custom property `role: input`."
        )
    for name in contract.settings:
        if name not in _PROPERTIES:
            raise UnknownName(f"property of {where}", name, _PROPERTIES)

    def read(kind: type[Any], name: str) -> Any:
        return settings_from(kind, contract.settings.get(name), where=f"{where}, {name}", camel_case=True)

    question, asked = _question(contract, where)
    equipment_class = EquipmentClass(
        name=contract.name,
        contract=contract,
        rul=read(RulSettings, RUL_PROPERTY),
        features=read(FeatureSettings, "features"),
        baseline=read(BaselineSettings, "operatingBaseline"),
        rules=_rules(contract, where),
        models=_able(contract, read(ModelSettings, "models"), question, where),
        cost=read(CostSettings, "cost"),
        safe_default=read(SafeDefaultSettings, "safeDefault"),
        question=question,
        asked=asked,
    )
    plugins.load(maintenance.questions, question).check(equipment_class)
    for name, settings in equipment_class.rules.items():
        plugins.load(maintenance.rules, name).check(equipment_class, settings)
    return equipment_class


def _question(contract: Contract, where: str) -> tuple[str, Any]:
    """The question's name and its settings."""
    given = contract.settings.get(QUESTION_PROPERTY, {REMAINING_LIFE: {}})
    valid = plugins.names(maintenance.questions)
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ConfigurationError(
            f"{where}, {QUESTION_PROPERTY}: {given!r} is not one question.",
            next_step=f"Map one of {', '.join(valid)} to its settings, such as {{failure_within: {{horizon: 2}}}}.",
        )
    ((name, settings),) = given.items()
    if name not in valid:
        raise UnknownName(f"question for {where}", name, valid)
    kind = plugins.load(maintenance.questions, name).settings
    return name, settings_from(kind, settings, where=f"{where}, {QUESTION_PROPERTY} {name}", camel_case=True)


def _able(contract: Contract, models: ModelSettings, question: str, where: str) -> ModelSettings:
    """The settings with those candidates that can answer the question."""
    valid = plugins.names(maintenance.models)
    for name in models.candidates:
        if name not in valid:
            raise UnknownName(f"model for {where}", name, valid)
    able = tuple(n for n in models.candidates if plugins.load(maintenance.models, n).answers == question)
    if "candidates" in (contract.settings.get("models") or {}) and able != models.candidates:
        (name, *_) = (n for n in models.candidates if n not in able)
        raise ConfigurationError(
            f"{where}: the model {name} answers {plugins.load(maintenance.models, name).answers}, not {question}.",
            next_step="Leave it out of the candidates, or out with all of them: then those that can are tried.",
        )
    return replace(models, candidates=able)


def _rules(contract: Contract, where: str) -> Mapping[str, Any]:
    given = contract.settings.get("rules", _DEFAULT_RULES)
    if not isinstance(given, Mapping) or not given:
        raise ConfigurationError(
            f"{where}, rules: {given!r} names no rule.",
            next_step=f"Map at least one of {', '.join(plugins.names(maintenance.rules))} to its settings.",
        )
    return {
        name: settings_from(
            plugins.load(maintenance.rules, name).settings, settings, where=f"{where}, rule {name}", camel_case=True
        )
        for name, settings in given.items()
    }
