"""Every model candidate, whatever is discovered, keeps the port's promises, by the question that it answers."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

import maintenance.models
import maintenance.questions
from backbone import plugins
from backbone.odcs import contract_from_odcs
from maintenance.candidates import ModelSpec
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.onnx_export import check_parity
from maintenance.question import question_of, question_spec
from tests.fan_contract import FAN

NAMES = plugins.names(maintenance.models)
COLUMNS = tuple(f"{sensor}.{kind}" for kind in ("mean_5", "mean_9", "std_9", "std_5") for sensor in ("a", "b", "c"))
ASKED = {"remaining_life": {}, "failure_within": {"horizon": 20}, "anomaly": {"normalReadings": 100}}


@pytest.fixture(params=NAMES)
def model(request) -> ModelSpec:
    return plugins.load(maintenance.models, request.param)


@pytest.fixture
def cls(model: ModelSpec) -> EquipmentClass:
    """A class that asks what the model answers."""
    settings = {
        "remainingUsefulLife": {"unit": "day", "seconds": 86400, "cap": 100},
        "question": {model.answers: ASKED[model.answers]},
        "models": {"candidates": [model.name]},
    }
    document = yaml.safe_load(FAN)
    document["customProperties"] = [{"property": name, "value": value} for name, value in settings.items()]
    return equipment_class_from_contract(contract_from_odcs(document))


@pytest.fixture(scope="module")
def wear() -> tuple[np.ndarray, np.ndarray]:
    """Several statistics of three sensors and the life they tell of, noise, and a constant; some values are absent."""
    random = np.random.default_rng(0)
    left = random.uniform(0, 100, 1500)
    X = random.normal(0, 1, (1500, 12))
    X[:, :4] += 5 * np.exp(-left / 20)[:, None]
    X[:, 4:6] -= (left / 25)[:, None]
    X[:, 6:] = np.abs(X[:, 6:])
    X[:, 11] = 3.0
    X[random.random(X.shape) < 0.05] = np.nan
    return X.astype(np.float32), left


def fitted(cls: EquipmentClass, model: ModelSpec, X: np.ndarray, left: np.ndarray, seed: int = 0):
    """As training fits it, and what its answers should be about."""
    unfitted = question_of(cls).build((model.name,), seed, COLUMNS)
    if model.answers == "remaining_life":
        return unfitted.fit(X, left)
    if model.answers == "failure_within":
        return unfitted.fit(X, (left <= cls.asked.horizon).astype(np.int64))
    normal = X[left > 60]
    return unfitted.fit(normal, np.ones(len(normal)))


def test_there_is_a_model_for_every_question():
    answered = {plugins.load(maintenance.models, name).answers for name in NAMES}

    assert answered == set(plugins.names(maintenance.questions))


def test_it_says_what_it_does_and_what_it_cannot(model):
    assert isinstance(model, ModelSpec)
    assert model.summary.endswith(".")
    assert model.cannot


def test_it_learns_with_silent_sensors(cls, model, wear):
    X, left = wear
    learnt = fitted(cls, model, X[:1000], left[:1000])

    answers, left = question_of(cls).estimate(learnt, X[1000:]), left[1000:]

    assert np.isfinite(answers).all()
    if question_spec(cls).risk is None:
        assert np.std(left - answers) < 0.6 * np.std(left)
    else:
        assert np.median(answers[left < 10]) > 2 * np.median(answers[left > 40])


def test_the_same_seed_gives_the_same_model(cls, model, wear):
    one, other = (question_of(cls).estimate(fitted(cls, model, *wear, seed=7), wear[0]) for _ in range(2))

    np.testing.assert_array_equal(one, other)


def test_its_onnx_form_answers_alike(cls, model, wear):
    X, left = wear
    question, tolerance = question_of(cls), question_spec(cls).tolerance
    learnt = fitted(cls, model, X, left)

    onnx = question.export(learnt, (model.name,), X.shape[1])

    assert check_parity(question.estimate(learnt, X), onnx, X, tolerance) <= tolerance
