from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.errors import IntegrityError
from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.feature_state import FeatureState
from maintenance.features import feature_list

SILENT = st.sampled_from([0.0, 0.02, 0.5, 1.0])


def _windows(rows, cuts: list[float]) -> np.ndarray:
    """(n,) window of each row: the same instants part all machines, as days do."""
    hours = (rows.ts - rows.ts.min()) / np.timedelta64(1, "h")
    return np.searchsorted(np.sort(cuts) * (hours.max() + 1), hours, side="right")


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    silent=SILENT,
    absent=st.floats(0, 0.9),
    cuts=st.lists(st.floats(0, 1), max_size=12),
)
def test_windows_in_sequence_equal_one_pass(fan, fleet, seed, silent, absent, cuts):
    readings = fleet(machines=4, lives=3, seed=seed, silent=silent).readings(fan)
    kept = np.random.default_rng(seed).random(len(readings)) >= absent  # machines miss readings and whole windows
    kept[0] = True
    readings = readings.take(kept)
    baseline = fit_baseline(fan, readings)
    whole, last = compute_features(fan, baseline, readings)

    window, state = _windows(readings.rows, cuts), None
    matrix = np.full_like(whole.matrix, np.inf)
    for index in range(window.max() + 1):
        part, state = compute_features(fan, baseline, readings.take(window == index), state)
        state = FeatureState.from_arrow(fan, baseline.id, state.to_arrow())
        matrix[window == index] = part.matrix

    np.testing.assert_array_equal(matrix, whole.matrix)
    for field in dataclasses.fields(FeatureState):
        np.testing.assert_array_equal(getattr(state, field.name), getattr(last, field.name))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), silent=SILENT, cut=st.floats(0.05, 0.95))
def test_later_rows_change_nothing(fan, fleet, seed, silent, cut):
    readings = fleet(machines=4, seed=seed, silent=silent).readings(fan)
    baseline = fit_baseline(fan, readings)
    past = _windows(readings.rows, [cut]) == 0

    before, _ = compute_features(fan, baseline, readings.take(past))
    after, _ = compute_features(fan, baseline, readings)

    np.testing.assert_array_equal(before.matrix, after.matrix[past])


def _by_definition(fan, feature, z, age) -> float:
    """One feature at the newest of a life's readings, straight from its definition."""
    length = feature.span if feature.span is not None else len(z)
    window, at = z[-length:], age[-length:]
    there = ~np.isnan(window)
    window, at = window[there], at[there]
    match feature.statistic:
        case "age":
            return age[-1]
        case "last":
            return z[-1]
        case "mean":
            return window.mean() if len(window) else np.nan
        case "std":
            return window.std(ddof=1) if len(window) > 1 else np.nan
        case "slope" | "trend":
            return np.polyfit(at - at[0], window, 1)[0] if len(window) > 2 else np.nan
        case "ema":
            weights = (1 - feature.weight) ** np.arange(len(z))[::-1][there]
            return weights @ window / weights.sum() if len(window) else np.nan
        case "start":
            return window[: fan.features.level_readings].mean() if len(window) else np.nan
        case "drift":
            recent = z[-fan.features.means[0] :]
            return (
                np.nanmean(recent) - window[: fan.features.level_readings].mean()
                if (~np.isnan(recent)).any()
                else np.nan
            )
    raise AssertionError(feature)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), silent=SILENT)
def test_every_feature_is_what_it_says(fan, fleet, seed, silent):
    readings = fleet(machines=2, seed=seed, silent=silent).readings(fan)
    baseline = fit_baseline(fan, readings)
    features, _ = compute_features(fan, baseline, readings)
    z, starts = baseline.transform(readings), readings.rows.starts
    row = int(np.random.default_rng(seed).integers(len(readings)))
    first = starts[starts <= row].max()
    age = (readings.rows.ts[first : row + 1] - readings.rows.ts[first]) / np.timedelta64(int(fan.rul.seconds), "s")

    for feature in feature_list(fan):
        column = (
            z[first : row + 1, fan.contract.inputs.index(feature.sensor)] if feature.sensor else z[first : row + 1, 0]
        )
        np.testing.assert_allclose(
            features[feature.name][row],
            _by_definition(fan, feature, column, age),
            rtol=1e-6,
            atol=1e-7,
            err_msg=feature.name,
        )


def test_a_stuck_sensor_has_no_spread(fan, fleet):
    readings = fleet(machines=2).readings(fan)
    values = readings.values.copy()
    values[:, 0], values[:, 3] = np.where(np.arange(len(values)) < 20, values[:, 0], 2.123456789), 1500.0
    readings = dataclasses.replace(readings, values=values)

    features, _ = compute_features(fan, fit_baseline(fan, readings), readings)

    later = slice(40, None)
    np.testing.assert_allclose(
        features["vibration.std_6"][later][~np.isnan(features["vibration.std_6"][later])], 0, atol=1e-6
    )


def test_machines_without_a_reading_keep_their_checkpoint(fan, fleet):
    readings = fleet(machines=3).readings(fan)
    baseline = fit_baseline(fan, readings)
    _, state = compute_features(fan, baseline, readings)

    nothing, after = compute_features(fan, baseline, readings.take(np.zeros(len(readings), dtype=bool)), state)

    assert len(nothing) == 0
    assert after.to_arrow().equals(state.to_arrow())


def test_readings_before_the_checkpoint_are_refused(fan, fleet):
    readings = fleet(machines=3).readings(fan)
    baseline = fit_baseline(fan, readings)
    _, state = compute_features(fan, baseline, readings)

    with pytest.raises(IntegrityError, match=r"fan-00.*earlier window"):
        compute_features(fan, baseline, readings, state)


def test_a_checkpoint_of_another_baseline_is_refused(fan, fleet):
    readings = fleet(machines=3).readings(fan)
    baseline, other = fit_baseline(fan, readings), fit_baseline(fan, readings.take(np.arange(100)))
    _, state = compute_features(fan, baseline, readings)

    with pytest.raises(IntegrityError, match="baseline"):
        compute_features(fan, other, readings, state)
    with pytest.raises(IntegrityError, match="another baseline"):
        FeatureState.from_arrow(fan, other.id, state.to_arrow())
