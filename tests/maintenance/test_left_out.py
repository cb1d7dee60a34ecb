"""A blocked day leaves no trace in what comes after it."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.feature_state import FeatureState
from maintenance.left_out import compute_features_without

PLACES = st.sets(st.floats(0, 1), max_size=4)


def _some_days(day: np.ndarray, places: set[float]) -> list:
    known = np.unique(day)
    return sorted({known[int(place * (len(known) - 1))].item() for place in places})


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), silent=st.sampled_from([0.0, 0.5]), places=PLACES)
def test_features_are_those_of_the_readings_without_it(fan, fleet, seed, silent, places):
    readings = fleet(machines=4, lives=2, seed=seed, silent=silent).readings(fan)
    baseline = fit_baseline(fan, readings)
    day = readings.rows.ts.astype("datetime64[D]")
    blocked = _some_days(day, places)
    kept = ~np.isin(day, np.array(blocked, "datetime64[D]"))
    features, state = compute_features_without(blocked, fan, baseline, readings)
    assert features.rows is readings.rows

    expected, after = compute_features(fan, baseline, readings.take(kept))
    np.testing.assert_array_equal(features.matrix[kept], expected.matrix)
    for field in dataclasses.fields(FeatureState):
        np.testing.assert_array_equal(getattr(state, field.name), getattr(after, field.name))
    for alone in blocked:
        known = (kept & (day < np.datetime64(alone))) | (day == np.datetime64(alone))
        its_own, _ = compute_features(fan, baseline, readings.take(known))
        np.testing.assert_array_equal(features.matrix[day == alone], its_own.matrix[day[known] == alone])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), places=PLACES, cut=st.floats(0.05, 0.95))
def test_windows_in_sequence_equal_one_pass(fan, fleet, seed, places, cut):
    readings = fleet(machines=3, lives=2, seed=seed).readings(fan)
    baseline = fit_baseline(fan, readings)
    day = readings.rows.ts.astype("datetime64[D]")
    blocked = _some_days(day, places)
    (border,) = _some_days(day, {cut})
    whole, _ = compute_features_without(blocked, fan, baseline, readings)
    matrix = np.full_like(whole.matrix, np.inf)
    state = None
    for mine in (day < np.datetime64(border), day >= np.datetime64(border)):
        part, state = compute_features_without(blocked, fan, baseline, readings.take(mine), state)
        matrix[mine] = part.matrix
    np.testing.assert_array_equal(matrix, whole.matrix)
