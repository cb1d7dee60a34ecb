"""Every model candidate, whatever is discovered, keeps the port's promises."""

from __future__ import annotations

import numpy as np
import pytest

import maintenance.models
from backbone import plugins
from maintenance.candidates import ModelSpec
from maintenance.onnx_export import PARITY_TOLERANCE, check_parity, export_onnx

NAMES = plugins.names(maintenance.models)


@pytest.fixture(params=NAMES)
def model(request) -> ModelSpec:
    return plugins.load(maintenance.models, request.param)


@pytest.fixture(scope="module")
def wear() -> tuple[np.ndarray, np.ndarray]:
    """Several statistics of two sensors and the life they tell of, noise, and a constant; some values are absent."""
    random = np.random.default_rng(0)
    left = random.uniform(0, 100, 1500)
    X = random.normal(0, 1, (1500, 12))
    X[:, :4] += 5 * np.exp(-left / 20)[:, None]
    X[:, 4:8] -= (left / 25)[:, None]
    X[:, 11] = 3.0
    X[random.random(X.shape) < 0.05] = np.nan
    return X.astype(np.float32), left


def test_there_are_models():
    assert NAMES


def test_it_says_what_it_does_and_what_it_cannot(model):
    assert isinstance(model, ModelSpec)
    assert model.summary.endswith(".")
    assert model.cannot


def test_it_learns_with_silent_sensors(model, wear):
    X, left = wear

    predicted = model.build(0).fit(X[:1000], left[:1000]).predict(X[1000:])

    assert np.isfinite(predicted).all()
    assert np.std(left[1000:] - predicted) < 0.6 * np.std(left[1000:])


def test_the_same_seed_gives_the_same_model(model, wear):
    X, left = wear

    one, other = (model.build(7).fit(X, left).predict(X) for _ in range(2))

    np.testing.assert_array_equal(one, other)


def test_its_onnx_form_answers_alike(model, wear):
    X, left = wear
    fitted = model.build(0).fit(X, left)

    assert check_parity(fitted, export_onnx(fitted, X.shape[1]), X) <= PARITY_TOLERANCE
