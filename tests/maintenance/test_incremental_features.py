"""Whole histories, window by window, reading by reading: the same features, to the last bit."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.errors import IntegrityError
from backbone.row_checks import decode, row_check
from backbone.sources import Batch, SourceContext
from maintenance.baseline import OperatingBaseline, fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.feature_state import FeatureState
from maintenance.features import feature_digest, feature_names
from maintenance.incremental_features import IncrementalFeatures
from maintenance.readings import Readings, Rows, history_from_arrow, readings_from_arrow
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.sources.simulator import SPEC as SIMULATOR
from resources.sources.simulator.slices import midnight
from tests.maintenance.ugly import Ugliness, class_of, ugly_readings

CMAPSS = Path(__file__).parents[3] / "shared" / "data" / "cmapss"
CONTRACTS = read_contracts([SHIPPED])

# Spans that are prime, square, and of no common divisor; more sensors than the kernel does abreast, and fewer.
CLASSES = {
    "few": class_of(3, means=[1, 4, 7], deviations=[2, 9], slopes=[3, 12], averages=[0.3], levelReadings=5),
    "many": class_of(37, 2, means=[3, 10], deviations=[10], slopes=[10, 25], averages=[], levelReadings=1),
    "usual": class_of(5, 1),
}
SHARE = st.sampled_from([0.0, 0.05, 0.5])
UGLY = st.builds(Ugliness, missing=SHARE, fallen_silent=SHARE, stuck=SHARE, infinite=st.sampled_from([0.0, 0.02]))


def by_reading(
    cls: EquipmentClass, baseline: OperatingBaseline, readings: Readings, *, at_once: int = 1, restarts: int = 0
) -> tuple[np.ndarray, FeatureState]:
    """Features of readings as they come in, in order of time, in a process that starts again `restarts` times."""
    order = np.argsort(readings.rows.ts, kind="stable")
    live = IncrementalFeatures(cls, baseline)
    matrix = np.full((len(readings), live.width), np.inf)
    stops = {len(order) * (n + 1) // (restarts + 1) // at_once * at_once for n in range(restarts)}
    ts, names = readings.rows.ts.view(np.int64), readings.rows.equipment
    for first in range(0, len(order), at_once):
        if first in stops:
            kept = live.checkpoint().to_arrow()
            live = IncrementalFeatures(cls, baseline, FeatureState.from_arrow(cls, baseline.id, kept))
        rows = order[first : first + at_once]
        slots = np.array([live.slot(n) for n in names[rows]])
        matrix[rows] = live.take(slots, ts[rows], readings.rows.life[rows], readings.values[rows])
    return matrix, live.checkpoint()


def by_window(
    cls: EquipmentClass, baseline: OperatingBaseline, readings: Readings, window: np.ndarray
) -> tuple[np.ndarray, FeatureState | None]:
    matrix, state = np.full((len(readings), len(feature_names(cls))), np.inf), None
    for index in np.unique(window):
        part, state = compute_features(cls, baseline, readings.take(window == index), state)
        state = FeatureState.from_arrow(cls, baseline.id, state.to_arrow())
        matrix[window == index] = part.matrix
    return matrix, state


def same_states(one: FeatureState, other: FeatureState) -> None:
    for field in dataclasses.fields(FeatureState):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


def one_life(cls: EquipmentClass, values: np.ndarray) -> Readings:
    """One machine's readings, a second apart."""
    zeros = np.zeros(len(values), dtype=np.int64)
    stamps = np.datetime64("2025-01-01T00:00", "us") + np.arange(len(values)) * np.timedelta64(1_000_000, "us")
    rows = Rows(np.array(["m0"], dtype=object), zeros, stamps, zeros)
    return Readings(rows, cls.contract.inputs + cls.contract.with_role("setting"), values)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    how=UGLY,
    cuts=st.lists(st.floats(0, 1), max_size=8),
    at_once=st.integers(1, 7),
    restarts=st.integers(0, 4),
)
def test_batch_windows_and_single_readings_agree_to_the_last_bit(name, seed, how, cuts, at_once, restarts):
    cls = CLASSES[name]
    readings = ugly_readings(cls, seed, how)
    baseline = fit_baseline(cls, readings)
    whole, last = compute_features(cls, baseline, readings)

    moments = np.sort(readings.rows.ts)[(np.array(sorted(cuts)) * (len(readings) - 1)).astype(int)]
    windows, after = by_window(cls, baseline, readings, np.searchsorted(moments, readings.rows.ts, side="right"))
    single, live = by_reading(cls, baseline, readings, at_once=at_once, restarts=restarts)

    np.testing.assert_array_equal(windows, whole.matrix)
    np.testing.assert_array_equal(single, whole.matrix)
    same_states(after, last)
    same_states(live, last)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), how=UGLY, cut=st.floats(0.05, 0.95))
def test_later_rows_change_nothing_whether_removed_or_altered(name, seed, how, cut):
    cls = CLASSES[name]
    readings = ugly_readings(cls, seed, how)
    baseline = fit_baseline(cls, readings)
    past = readings.rows.ts <= np.sort(readings.rows.ts)[int(cut * (len(readings) - 1))]
    other = np.random.default_rng(seed).normal(50, 20, readings.values.shape)
    altered = dataclasses.replace(readings, values=np.where(past[:, None], readings.values, other))

    whole, _ = compute_features(cls, baseline, readings)
    removed, _ = compute_features(cls, baseline, readings.take(past))
    changed, _ = compute_features(cls, baseline, altered)

    np.testing.assert_array_equal(removed.matrix, whole.matrix[past])
    np.testing.assert_array_equal(changed.matrix[past], whole.matrix[past])


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), how=UGLY)
def test_z_scores_are_the_baselines_own(name, seed, how):
    cls = CLASSES[name]
    readings = ugly_readings(cls, seed, how)
    baseline = fit_baseline(cls, readings)
    absent = dataclasses.replace(readings, values=np.where(np.isinf(readings.values), np.nan, readings.values))

    features, _ = compute_features(cls, baseline, readings)

    np.testing.assert_array_equal(features.of_kind(cls, "last"), baseline.transform(absent))


def test_a_long_life_loses_no_digits():
    """100,000 readings a second apart, far from normal, with outliers: against sums in extended precision."""
    cls, rows = class_of(2), 100_000
    random = np.random.default_rng(5)
    z = 90 + 1e-3 * random.normal(size=(rows, 2)) + np.linspace(0, 5, rows)[:, None]
    z[random.random(z.shape) < 0.001] = -100
    z[random.random(z.shape) < 0.1] = np.nan
    readings = one_life(cls, z)
    plain = OperatingBaseline(
        (), cls.contract.inputs, np.zeros((1, 0)), np.zeros(0), np.ones(1), np.zeros((1, 2)), np.ones((1, 2))
    )

    features, _ = compute_features(cls, plain, readings)

    age = (np.arange(rows) / np.longdouble(3600)).astype(np.longdouble)
    for row in (*random.integers(60, rows, 200), rows - 1):
        for statistic, span in (("mean", 30), ("std", 30), ("slope", 60), ("trend", row + 1)):
            if statistic == "trend" and row % 50 and row != rows - 1:
                continue
            window, at = z[row + 1 - span : row + 1, 0].astype(np.longdouble), age[row + 1 - span : row + 1]
            window, at = window[~np.isnan(window)], at[~np.isnan(window)]
            off, ahead = window - window.mean(), at - at.mean()
            expected = {
                "mean": window.mean(),
                "std": np.sqrt((off * off).sum() / (len(window) - 1)),
                "slope": (off * ahead).sum() / (ahead * ahead).sum(),
                "trend": (off * ahead).sum() / (ahead * ahead).sum(),
            }[statistic]
            name = "s0.trend" if statistic == "trend" else f"s0.{statistic}_{span}"
            np.testing.assert_allclose(features[name][row], float(expected), rtol=1e-6, err_msg=f"{name} {row}")


def test_a_stuck_sensor_has_a_spread_and_a_slope_of_exactly_zero():
    cls = class_of(1)
    values = np.random.default_rng(3).normal(size=(300, 1))
    values[100:] = 0.1 + 0.2
    readings = one_life(cls, values)

    features, _ = compute_features(cls, fit_baseline(cls, readings), readings)

    for name, span in (("s0.std_10", 10), ("s0.std_30", 30), ("s0.slope_60", 60)):
        assert features[name][99 + span - 2] != 0, name
        assert not features[name][99 + span :].any(), name


def test_a_long_silence_keeps_the_average():
    """Weights that shrink at every silent reading would be gone after some ten thousand."""
    cls, rows = class_of(1), np.arange(20_000)[:, None]
    readings = one_life(cls, np.where(rows < 50, rows % 7.0, np.nan))

    features, _ = compute_features(cls, fit_baseline(cls, readings), readings)

    for name in ("s0.ema_0.05", "s0.ema_0.2"):
        np.testing.assert_allclose(features[name][-1], features[name][49], rtol=1e-6)
    assert np.isnan(features["s0.mean_30"][-1])


def test_readings_that_do_not_come_later_are_refused_and_change_nothing():
    cls = CLASSES["few"]
    readings = ugly_readings(cls, 1, Ugliness(), machines=2, lives=2)
    baseline = fit_baseline(cls, readings)
    _, before = by_reading(cls, baseline, readings)
    live = IncrementalFeatures(cls, baseline, before)
    newest = readings.rows.latest[1]
    ts, life = int(readings.rows.ts[newest].view(np.int64)), int(readings.rows.life[newest])

    for late_ts, late_life in ((ts, life), (ts - 1, life), (ts + 1, life - 1)):
        with pytest.raises(IntegrityError, match=r"m1 .*newest"):
            live.take(
                np.array([live.slot("m1")]), np.array([late_ts]), np.array([late_life]), readings.values[[newest]]
            )

    same_states(live.checkpoint(), before)


def test_a_checkpoint_of_another_format_features_or_baseline_is_refused():
    cls, other = CLASSES["few"], class_of(3)
    readings = ugly_readings(cls, 2, Ugliness())
    baseline = fit_baseline(cls, readings)
    _, state = compute_features(cls, baseline, readings)
    kept = state.to_arrow()
    # As tables were before they had a format: the digest alone, and no number of readings.
    earlier = kept.drop_columns(["readings"]).set_column(
        kept.column_names.index("features"), "features", pa.array([feature_digest(cls)] * len(state))
    )

    with pytest.raises(IntegrityError, match="another set or format of features"):
        FeatureState.from_arrow(cls, baseline.id, earlier)
    with pytest.raises(IntegrityError, match="features"):
        IncrementalFeatures(other, baseline, state)
    with pytest.raises(IntegrityError, match="baseline"):
        IncrementalFeatures(cls, fit_baseline(cls, readings.take(np.arange(20))), state)


@pytest.mark.shared
@pytest.mark.skipif(not CMAPSS.is_dir(), reason="NASA's C-MAPSS files are not beside the project (../shared)")
@pytest.mark.parametrize("subset", ["FD001", pytest.param("FD003", marks=pytest.mark.slow)])
def test_on_cmapss(subset):
    cls = equipment_class_from_contract(CONTRACTS["turbofan"])
    table = np.loadtxt(CMAPSS / f"test_{subset}.txt")
    columns = [c.name for c in cls.contract.columns if not c.key]
    stamps = np.datetime64("2025-01-01T12:00", "us") + (table[:, 1] - 1).astype(int) * np.timedelta64(1, "D")
    telemetry = pa.table(
        {
            "equipment_id": [f"unit-{unit:03.0f}" for unit in table[:, 0]],
            "ts": pa.array(stamps).cast(pa.timestamp("us", tz="UTC")),
            **{name: table[:, j + 1] for j, name in enumerate(columns)},
        }
    )
    nothing = pa.table(
        {"equipment_id": pa.array([], pa.string()), "ts": telemetry["ts"][:0], "event": pa.array([], pa.string())}
    )
    holds_on(cls, readings_from_arrow(cls, telemetry, history_from_arrow(nothing)))


def test_on_the_simulator():
    """Pumps whose sensors drop out, stick and repeat themselves, and that are repaired; what their contract lets in."""
    pump, first = CONTRACTS["pump"], date(2025, 1, 1)
    faults = {"late": 0.1, "drift": 0.2, "duplicate": 0.1, "out_of_order": 0.3, "nan": 0.05, "stuck": 0.1}
    chosen = {"seed": 4, "pumps": 4, "readings_per_day": 24, "mean_life_days": 6, "faults": faults}
    source = SIMULATOR.open(SourceContext("test", pump, CONTRACTS["maintenance"], first, None, Path("unused"), chosen))
    batches = list(source.batches(None, midnight(first + timedelta(days=25))))
    sent, events = (
        pa.concat_tables([b.rows for b in batches if isinstance(b, Batch) and b.stream == stream])
        for stream in ("telemetry", "maintenance")
    )
    decoded = decode(pump, sent)
    accepted = decoded.filter(pc.is_null(row_check(pump)(decoded, first, first + timedelta(days=40))))
    cls = equipment_class_from_contract(pump)
    readings = readings_from_arrow(cls, accepted, history_from_arrow(decode(CONTRACTS["maintenance"], events)))

    assert readings.rows.life.max() >= 2
    assert np.isnan(readings.values).any()
    holds_on(cls, readings)


def holds_on(cls: EquipmentClass, readings: Readings) -> None:
    baseline = fit_baseline(cls, readings)
    whole, last = compute_features(cls, baseline, readings)
    day = (readings.rows.ts - readings.rows.ts.min()) // np.timedelta64(3, "D")

    windows, after = by_window(cls, baseline, readings, day)
    single, live = by_reading(cls, baseline, readings, restarts=2)

    np.testing.assert_array_equal(windows, whole.matrix)
    np.testing.assert_array_equal(single, whole.matrix)
    same_states(after, last)
    same_states(live, last)
