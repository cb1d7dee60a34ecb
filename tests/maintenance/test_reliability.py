"""The few numbers that pictures of a release are drawn from say the same as its metrics, whatever the rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maintenance.metrics import coverage, width
from maintenance.reliability import Reliability, calibration, false_alarms, interval_coverage

LIVES = arrays(float, st.integers(1, 60), elements=st.floats(0, 40))
CHANCES = arrays(float, st.integers(1, 60), elements=st.floats(0, 1))


def total(told: Reliability) -> float:
    return sum(band.share * band.rows for band in told.bands)


@given(LIVES, st.randoms(use_true_random=False))
def test_bands_of_predicted_life_add_up_to_coverage_and_width(predicted: np.ndarray, random) -> None:
    n = len(predicted)
    true, low, high = (
        predicted + np.array([random.uniform(*bounds) for _ in range(n)]) for bounds in ((-9, 9), (-9, 0), (0, 9))
    )
    told = interval_coverage(predicted, true, low, high, promised=0.9)
    assert sum(band.rows for band in told.bands) == n
    assert total(told) == pytest.approx(n * coverage(true, low, high))
    assert sum(b.width * b.rows for b in told.bands if b.width is not None) == pytest.approx(
        n * width(low, high), abs=1e-3 * n
    )
    means = [band.told for band in told.bands]
    assert means == sorted(means)
    assert len(means) <= 10


@given(CHANCES, st.randoms(use_true_random=False))
def test_bands_of_probability_hold_every_failure_once(probability: np.ndarray, random) -> None:
    happened = np.array([random.random() < 0.3 for _ in probability])
    told = calibration(probability, happened)
    assert sum(band.rows for band in told.bands) == len(probability)
    assert total(told) == pytest.approx(happened.sum())
    assert len({min(int(band.told * 10 + 1e-6), 9) for band in told.bands}) >= len(told.bands) - 1


@given(arrays(float, st.integers(1, 60), elements=st.floats(0, 9)))
def test_scores_say_which_share_of_normal_readings_alarms(score: np.ndarray) -> None:
    told = false_alarms(score, promised=0.05)
    at = {band.told: band.share for band in told.bands}
    assert at[1.0] == pytest.approx((score >= 1).mean())
    assert list(at.values()) == sorted(at.values(), reverse=True)


def test_a_record_of_any_number_of_rows_is_small() -> None:
    random = np.random.default_rng(1)
    predicted = random.uniform(0, 40, 200_000)
    told = interval_coverage(
        predicted, predicted + random.normal(0, 3, 200_000), predicted - 5, predicted + 5, promised=0.9
    )
    assert len(json.dumps(told.to_dict())) < 2000
    assert {band["width"] for band in told.to_dict()["bands"]} == {10.0}


@pytest.mark.parametrize(
    "told",
    [
        interval_coverage(np.empty(0), np.empty(0), np.empty(0), np.empty(0), promised=0.9),
        calibration(np.empty(0), np.empty(0, bool)),
        false_alarms(np.empty(0), promised=0.05),
    ],
)
def test_nothing_held_out_has_no_bands(told: Reliability) -> None:
    assert told.to_dict()["bands"] == []
