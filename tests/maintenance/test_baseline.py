from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.contracts import Column
from backbone.errors import IntegrityError, NotCommissioned
from maintenance.baseline import OperatingBaseline, fit_baseline
from maintenance.equipment_class import EquipmentClass
from maintenance.readings import Readings, Rows

FLIGHT_CONDITIONS = np.array(
    [[0, 0, 100], [10, 0.25, 100], [20, 0.7, 100], [25, 0.62, 60], [35, 0.84, 100], [42, 0.84, 100]]
)
"""As far apart as those of the published turbofan data sets with six operating conditions."""


def _readings(values: np.ndarray, columns: tuple[str, ...]) -> Readings:
    n = len(values)
    ts = np.datetime64("2025-01-01", "us") + np.arange(n) * np.timedelta64(1, "h")
    nought = np.zeros(n, dtype=int)
    return Readings(Rows(np.array(["x"], dtype=object), nought, ts, nought), columns, values)


def _with_settings(
    fan: EquipmentClass, names: tuple[str, ...], bounds: tuple[tuple[float, float], ...]
) -> EquipmentClass:
    extra = tuple(
        Column(n, "number", unit="1", role="setting", minimum=low, maximum=high)
        for n, (low, high) in zip(names, bounds, strict=True)
    )
    columns = tuple(c for c in fan.contract.columns if c.role != "setting") + extra
    return dataclasses.replace(fan, contract=dataclasses.replace(fan.contract, columns=columns))


@pytest.fixture
def aircraft(fan):
    return _with_settings(fan, ("altitude", "mach", "throttle"), ((-1, 50), (-0.1, 1), (0, 110)))


@pytest.mark.parametrize("conditions", [1, 3, 6])
def test_regimes_are_found_through_jitter(aircraft, conditions):
    random = np.random.default_rng(conditions)
    which = random.integers(0, conditions, 3000)
    flight = FLIGHT_CONDITIONS[which] + random.normal(0, [0.004, 0.0005, 0], (3000, 3))
    sensors = which[:, None] * [100.0, -7.0, 0.0] + random.normal(0, [5, 0.1, 0], (3000, 3))
    readings = _readings(
        np.hstack([sensors, flight]), ("vibration", "current", "plate", "altitude", "mach", "throttle")
    )

    baseline = fit_baseline(aircraft, readings)
    z = baseline.transform(readings)

    assert len(baseline.centres) == conditions
    for regime in range(conditions):
        inside = which == regime
        np.testing.assert_allclose(z[inside, :2].mean(axis=0), 0, atol=1e-2)
        np.testing.assert_allclose(z[inside, :2].std(axis=0), 1, atol=1e-2)
    assert (z[:, 2] == 0).all()
    assert baseline.uninformative == ("plate",)


def test_speeds_without_a_range_are_told_apart(fan, fleet):
    readings = fleet().readings(fan)

    baseline = fit_baseline(fan, readings)

    np.testing.assert_allclose(np.sort(baseline.centres[:, 0]), [1500, 3000], atol=2)
    assert baseline.shares.sum() == pytest.approx(1)


def test_a_class_without_settings_has_one_regime(fan, fleet):
    plain = _with_settings(fan, (), ())

    assert len(fit_baseline(plain, fleet().readings(fan)).centres) == 1


def test_few_readings_between_two_speeds_are_no_regime(fan, fleet):
    readings = fleet().readings(fan)
    values = readings.values.copy()
    values[::400, 3] = 2200.0

    baseline = fit_baseline(fan, dataclasses.replace(readings, values=values))

    assert len(baseline.centres) == 2


def test_outliers_do_not_widen_the_scale(fan, fleet):
    readings = fleet().readings(fan)
    values = readings.values.copy()
    values[::300, 1] = 1e6

    scale = fit_baseline(fan, dataclasses.replace(readings, values=values)).scale

    np.testing.assert_allclose(scale[:, 1], fit_baseline(fan, readings).scale[:, 1], rtol=0.2)


def test_silence_is_nan_and_an_unknown_regime_too(fan, fleet):
    readings = fleet().readings(fan)
    baseline = fit_baseline(fan, readings)
    values = readings.values.copy()
    values[0, 0], values[1, 3] = np.nan, np.nan

    z = baseline.transform(dataclasses.replace(readings, values=values))

    assert np.isnan(z[0]).tolist() == [True, False, False]
    assert np.isnan(z[1]).all()
    assert not np.isnan(z[2:]).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_it_is_repeatable_and_survives_a_round_trip(fan, fleet, seed):
    readings = fleet(machines=4, seed=seed).readings(fan)
    baseline = fit_baseline(fan, readings)

    again = OperatingBaseline.from_json(baseline.to_json())

    assert again.id == baseline.id == fit_baseline(fan, readings).id
    np.testing.assert_array_equal(again.transform(readings), baseline.transform(readings))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"centres": [[1]], "settings": [], "inputs": []}'])
def test_what_is_no_baseline_is_refused(text):
    with pytest.raises(IntegrityError, match="no operating baseline"):
        OperatingBaseline.from_json(text)


def test_nothing_to_learn_from_is_said(fan, fleet):
    readings = fleet().readings(fan)

    with pytest.raises(NotCommissioned, match="no fan readings"):
        fit_baseline(fan, readings.take(np.zeros(len(readings), dtype=bool)))
