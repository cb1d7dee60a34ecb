"""Sensors in another unit, exchanged or off are told from wear, weather and load, on the pumps that ship."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from maintenance.baseline import OperatingBaseline, fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.plausibility import Plausibility
from maintenance.readings import Readings, Rows
from resources.catalog.contracts import SHIPPED, SUFFIX, read_contract
from resources.sources.simulator.lives import draw_lives
from resources.sources.simulator.signals import SENSORS, day_readings

PUMPS, DAYS, SEED = 18, 90, 2
FIRST = np.datetime64("2025-01-01", "D")


@dataclass(frozen=True)
class Plant:
    """Two thirds of the pumps were learnt from; the others are asked about, in the last week."""

    cls: EquipmentClass
    baseline: OperatingBaseline
    readings: Readings
    learnt: Plausibility
    names: tuple[str, ...]

    def implausible(self, spoil: Callable[[Readings], np.ndarray]) -> np.ndarray:
        """Of each pump's last reading, if its sensors had been spoilt for two days."""
        late = self.readings.rows.ts >= self.readings.rows.ts.max() - np.timedelta64(2, "D")
        values = self.readings.values.copy()
        values[late] = spoil(self.readings.take(late))
        return self.learnt.implausible(self.matrix(replace(self.readings, values=values))[self.readings.rows.latest])[
            -6:
        ]

    def matrix(self, readings: Readings) -> np.ndarray:
        features, _ = compute_features(self.cls, self.baseline, readings)
        return features.columns(self.names).astype(np.float32)


@pytest.fixture(scope="module")
def plant() -> Plant:
    cls = equipment_class_from_contract(read_contract(SHIPPED / f"pump{SUFFIX}"))
    lives = draw_lives(SEED, PUMPS, DAYS + 1, 25, 0.15)
    days = [day_readings(lives, SEED, FIRST + n, FIRST, 12) for n in range(DAYS)]
    pump, ts, values = (np.concatenate([getattr(d, name) for d in days]) for name in ("pump", "ts", "values"))
    order = np.lexsort((ts, pump))
    pump, ts, values = pump[order], ts[order], values[order]
    life, _ = lives.at(pump, (ts - FIRST.astype("datetime64[us]")) / np.timedelta64(1, "D"))
    columns = cls.contract.inputs + cls.contract.with_role("setting")
    names = np.array([f"pump-{n:02d}" for n in range(PUMPS)], dtype=object)
    readings = Readings(Rows(names, pump, ts, life), columns, values[:, [SENSORS.index(c) for c in columns]])
    baseline = fit_baseline(cls, readings)
    features, _ = compute_features(cls, baseline, readings)
    learnt = Plausibility.fit(features.names, features.matrix[pump < PUMPS - 6].astype(np.float32))
    return Plant(cls, baseline, readings, learnt, features.names)


def scaled(sensor: str, factor: float, offset: float = 0.0) -> Callable[[Readings], np.ndarray]:
    def spoil(readings: Readings) -> np.ndarray:
        values, at = readings.values.copy(), readings.columns.index(sensor)
        values[:, at] = values[:, at] * factor + offset
        return values

    return spoil


def exchanged(one: str, other: str) -> Callable[[Readings], np.ndarray]:
    def spoil(readings: Readings) -> np.ndarray:
        a, b = readings.columns.index(one), readings.columns.index(other)
        values = readings.values.copy()
        values[:, [a, b]] = values[:, [b, a]]
        return values

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(scaled("bearing_temp_c", 1.8, 32), id="degF"),
        pytest.param(scaled("ambient_temp_c", 1.8, 32), id="degF outdoors"),
        pytest.param(scaled("flow_m3_h", 1 / 3.6), id="l/s"),
        pytest.param(scaled("discharge_pressure_bar", 0.1), id="MPa"),
        pytest.param(scaled("suction_pressure_bar", 0.1), id="MPa of a sensor that says little"),
        pytest.param(exchanged("bearing_temp_c", "ambient_temp_c"), id="two temperatures exchanged"),
        pytest.param(exchanged("suction_pressure_bar", "seal_pressure_bar"), id="two pressures exchanged"),
    ],
)
def test_another_unit_or_two_sensors_exchanged_do_not_fit_the_other_sensors(
    plant: Plant, spoil: Callable[[Readings], np.ndarray]
) -> None:
    assert plant.implausible(spoil).all()


def test_pumps_that_were_not_learnt_from_wear_out_and_are_plausible_in_nearly_every_reading(plant: Plant) -> None:
    others = plant.readings.rows.machine >= PUMPS - 6
    assert plant.learnt.implausible(plant.matrix(plant.readings)[others]).mean() < 0.001


def test_a_silent_sensor_makes_nothing_implausible(plant: Plant) -> None:
    assert not plant.implausible(scaled("suction_pressure_bar", np.nan)).any()


def test_whatever_was_learnt_from_is_plausible_and_rows_are_judged_one_by_one(plant: Plant) -> None:
    learnt = plant.readings.rows.machine < PUMPS - 6
    X = plant.matrix(plant.readings)[learnt]
    assert plant.learnt.holds(X)
    spoilt = X.copy()
    spoilt[[7, len(X) - 1], plant.names.index("flow_m3_h.last")] += 30
    assert not plant.learnt.holds(spoilt)
    assert np.flatnonzero(plant.learnt.implausible(spoilt)).tolist() == [7, len(X) - 1]


def test_it_comes_back_from_a_manifest_and_for_a_model_that_takes_other_features(plant: Plant) -> None:
    X = plant.matrix(plant.readings)
    document = plant.learnt.to_list()
    mixed = np.random.default_rng(1).permutation(len(plant.names))
    again = Plausibility.from_list(document, [plant.names[n] for n in mixed])
    spoilt = X + (np.arange(len(X)) % 2)[:, None] * 5
    np.testing.assert_array_equal(
        again.implausible(np.ascontiguousarray(spoilt[:, mixed])), plant.learnt.implausible(spoilt)
    )
    with pytest.raises(KeyError):
        Plausibility.from_list(document, plant.names[10:])


def test_a_single_sensor_has_nothing_to_fit() -> None:
    lone = Plausibility.fit(["heat.last", "age"], np.random.default_rng(0).normal(size=(50, 2)))
    assert lone.to_list() == []
    assert lone.holds(np.full((3, 2), 99, np.float32))
