"""The published benchmark, on NASA's own files where they lie beside the project."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from backbone.odcs import contract_from_odcs
from maintenance.baseline import fit_baseline
from maintenance.cmapss_benchmark import evaluate
from maintenance.condition_features import compute_features
from maintenance.equipment_class import equipment_class_from_contract
from maintenance.feature_state import FeatureState
from maintenance.readings import Readings, history_from_arrow, readings_from_arrow

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "cmapss"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason="NASA's C-MAPSS files are not beside the project (../shared)"),
]


@pytest.fixture(scope="module")
def turbofan():
    document = yaml.safe_load((ROOT / "quality" / "contracts" / "turbofan.odcs.yaml").read_text())
    return equipment_class_from_contract(contract_from_odcs(document))


def _units(cls, subset: str, which: str):
    """One file's units, each starting on the same day; those of the training file fail at their last cycle."""
    rows = np.loadtxt(DATA / f"{which}_{subset}.txt")
    names = [f"{which}-{unit:03d}" for unit in rows[:, 0].astype(int)]
    ts = np.datetime64("2025-01-01T12:00", "us") + (rows[:, 1].astype(int) - 1) * np.timedelta64(86_400_000_000, "us")
    columns = [c.name for c in cls.contract.columns if not c.key]
    telemetry = pa.table(
        {
            "equipment_id": names,
            "ts": pa.array(ts).cast(pa.timestamp("us", tz="UTC")),
            **{name: rows[:, j + 1] for j, name in enumerate(columns)},
        }
    )
    last = pa.array(np.flatnonzero(np.diff(rows[:, 0], append=-1)))
    events = telemetry.take(last).select(["equipment_id", "ts"])
    events = events.append_column("event", pa.array(["failure"] * len(last)))
    history = history_from_arrow(events if which == "train" else events.slice(0, 0))
    return readings_from_arrow(cls, telemetry, history), history


def test_one_flight_condition_is_one_regime_and_windows_equal_one_pass(turbofan):
    readings, _ = _units(turbofan, "FD001", "test")
    baseline = fit_baseline(turbofan, readings)
    whole, _ = compute_features(turbofan, baseline, readings)
    week = ((readings.rows.ts - readings.rows.ts.min()) / np.timedelta64(7, "D")).astype(int)

    matrix, state = np.full_like(whole.matrix, np.inf), None
    for index in range(week.max() + 1):
        part, state = compute_features(turbofan, baseline, readings.take(week == index), state)
        state = FeatureState.from_arrow(turbofan, baseline.id, state.to_arrow())
        matrix[week == index] = part.matrix

    assert len(baseline.centres) == 1
    np.testing.assert_array_equal(matrix, whole.matrix)


SIX_CONDITIONS = np.array(
    [[0, 0, 100], [10, 0.25, 100], [20, 0.7, 100], [25, 0.62, 60], [35, 0.84, 100], [42, 0.84, 100]]
)
"""Settings of FD002 and FD004, as the data sets' authors give them."""


def test_six_flight_conditions_that_drown_all_wear_leave_the_features_as_they_are(turbofan):
    readings, _ = _units(turbofan, "FD001", "test")
    random = np.random.default_rng(0)
    condition = random.integers(6, size=len(readings))
    flown = readings.values.copy()
    for setting, name in enumerate(turbofan.contract.with_role("setting")):
        flown[:, readings.columns.index(name)] = SIX_CONDITIONS[condition, setting] + random.uniform(
            0, 0.002, len(flown)
        )
    of_sensors = [readings.columns.index(name) for name in turbofan.contract.inputs]
    spread = readings.values[:, of_sensors].std(axis=0)
    levels = random.uniform(-50, 50, (6, len(of_sensors))) * np.maximum(spread, 0.1)
    flown[:, of_sensors] = flown[:, of_sensors] * random.uniform(0.3, 1.5, levels.shape)[condition] + levels[condition]
    elsewhere = Readings(readings.rows, readings.columns, flown)

    baseline, six = fit_baseline(turbofan, readings), fit_baseline(turbofan, elsewhere)
    (expected, _), (features, _) = (
        compute_features(turbofan, b, r) for b, r in ((baseline, readings), (six, elsewhere))
    )

    assert len(six.centres) == 6
    assert set(six.uninformative) == set(baseline.uninformative)
    moved = [n for n in turbofan.contract.inputs if n not in baseline.uninformative]
    names = tuple(f"{sensor}.mean_30" for sensor in moved)
    apart = np.abs(features.columns(names) - expected.columns(names))
    # Not all: a sensor of few digits that hardly moves has a scale of few readings in a sixth of them.
    assert np.quantile(apart, 0.999) < 0.1
    assert np.quantile(np.abs(expected.columns(names)), 0.99) > 1.5


@pytest.mark.slow
@pytest.mark.parametrize(("subset", "error"), [("FD001", 11.0), ("FD003", 10.5)])
def test_errors_intervals_and_costs_hold_what_the_project_promises(turbofan, subset, error):
    run_to_failure, history = _units(turbofan, subset, "train")
    truncated, _ = _units(turbofan, subset, "test")

    figures = evaluate(
        turbofan, run_to_failure, history, truncated, np.loadtxt(DATA / f"RUL_{subset}.txt"), clock=time.perf_counter
    )

    assert figures["rmse_capped"] <= error
    assert 0.87 <= figures["coverage_90"] <= 0.95
    assert figures["onnx_max_abs_diff"] <= 1e-2
    assert figures["cost_ratio"] <= 0.65
    assert figures["rules_cost_ratio"] < 1.0
