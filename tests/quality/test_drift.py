"""A sensor that drifts is found; seasons, wear and a small fleet are not mistaken for one."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.drift import DriftReference

FIRST = date(2025, 1, 1)
SENSORS = ("outdoor.last", "bearing.last", "vibration.last", "current.last", "pressure.last")
TRAINED, LIVED = 120, 240
"""Days of the training period, and days in all."""
ALLOWED = 0.25


def fleet(seed: int, machines: int = 12) -> pa.Table:
    """Machines of staggered ages that wear out and are renewed, under a year's temperatures.

    Between days lies at least 0.9 of the variance of `outdoor` and at most 0.7 of that of every other sensor, whatever
    the seed: which of them are judged (`SURROUNDINGS`) is no matter of luck.
    """
    random = np.random.default_rng(seed)
    day = np.arange(LIVED)
    outdoor = 12 * np.sin(2 * np.pi * day / 365) + np.convolve(random.normal(0, 2, LIVED), np.ones(4) / 2, "same")
    parts = []
    for machine in range(machines):
        life = random.uniform(25, 45)
        wear = np.repeat(((day + random.uniform(0, life)) % life / life) ** 3, 4)
        outside = np.repeat(outdoor, 4) + random.normal(0, 0.5, 4 * LIVED)
        noise = random.normal(0, 1, (4, 4 * LIVED))
        values = (
            outside,
            0.5 * outside + 6 * wear + noise[0],
            3 * wear + 0.4 * noise[1],
            20 + noise[2],
            5 - 2 * wear + 0.3 * noise[2] + 0.5 * noise[3],
        )
        dates = pa.array([FIRST + timedelta(days=int(d)) for d in np.repeat(day, 4)], pa.date32())
        parts.append(
            pa.table(
                {"date": dates, "equipment_id": [f"m{machine}"] * 4 * LIVED, **dict(zip(SENSORS, values, strict=True))}
            )
        )
    return pa.concat_tables(parts)


def day_of(rows: pa.Table) -> np.ndarray:
    """(rows,) days since the first."""
    at: np.ndarray = rows["date"].combine_chunks().cast(pa.int32()).to_numpy()
    return at - (FIRST - date(1970, 1, 1)).days


def between(rows: pa.Table, first: int, last: int) -> pa.Table:
    at = day_of(rows)
    return rows.filter(pa.array((at >= first) & (at < last)))


def reference_of(rows: pa.Table) -> DriftReference:
    training = between(rows, 0, TRAINED)
    fitted = DriftReference.fit(training, [*SENSORS, "bearing.mean_12", "age"])
    return fitted.with_usual(training, [FIRST + timedelta(days=n) for n in range(TRAINED)])


def drifted(reference: DriftReference, rows: pa.Table, days: list[date]) -> set[tuple[str, date]]:
    profile = reference.profile(rows, days, ALLOWED).to_pylist()
    return {(r["column"], r["date"]) for r in profile if r["psi"] > r["allowed"]}


@given(st.integers(0, 10_000))
@settings(max_examples=6, deadline=None, derandomize=True)
def test_a_season_and_wear_are_no_drift(seed: int) -> None:
    rows = fleet(seed)
    days = [FIRST + timedelta(days=n) for n in range(LIVED)]
    assert drifted(reference_of(rows), rows, days) == set(), "half a year that the training set knows nothing of"


@pytest.mark.parametrize("sensor", SENSORS[1:])
@given(st.integers(0, 10_000), st.sampled_from([-2, 2]))
@settings(max_examples=4, deadline=None, derandomize=True)
def test_two_standard_deviations_for_three_weeks_are_drift(sensor: str, seed: int, sds: int) -> None:
    rows = fleet(seed)
    reference = reference_of(rows)
    value = rows[sensor].to_numpy()
    late = day_of(rows) >= LIVED - 21
    offset = sds * between(rows, 0, TRAINED)[sensor].to_numpy().std()
    wrong = rows.set_column(rows.column_names.index(sensor), sensor, pa.array(value + late * offset))
    last = FIRST + timedelta(days=LIVED - 1)
    assert (sensor, last) in drifted(reference, wrong, [last])


@given(st.integers(0, 10_000))
@settings(max_examples=6, deadline=None, derandomize=True)
def test_what_all_machines_share_is_not_judged_and_says_so_by_its_absence(seed: int) -> None:
    assert set(reference_of(fleet(seed)).edges) == set(SENSORS[1:])


def test_a_reference_that_is_too_short_judges_nothing() -> None:
    rows = fleet(1)
    assert DriftReference.fit(between(rows, 0, 0), SENSORS) == DriftReference()
    week = between(rows, 0, 7)
    short = DriftReference.fit(week, SENSORS).with_usual(week, [FIRST + timedelta(days=n) for n in range(7)])
    assert short.profile(rows, [FIRST + timedelta(days=100)], ALLOWED).num_rows == 0


def test_a_reference_comes_back_from_its_file() -> None:
    reference = reference_of(fleet(2))
    assert DriftReference.from_json(reference.to_json()) == reference


def test_a_sensor_that_is_not_there_any_more_leaves_nothing_to_judge() -> None:
    rows = fleet(3)
    at = rows.column_names.index("current.last")
    dead = rows.set_column(at, "current.last", pa.nulls(rows.num_rows, pa.float64()))
    assert reference_of(rows).profile(dead, [FIRST + timedelta(days=200)], ALLOWED).num_rows == 0
