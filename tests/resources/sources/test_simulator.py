"""The simulated fleet: what it promises about its content, beyond what every source does."""

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.contracts import Contract
from backbone.errors import ConfigurationError, UnknownName
from backbone.row_checks import decode, row_check
from backbone.sources import Batch, Source, SourceContext
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.sources.simulator import SPEC
from resources.sources.simulator.slices import SLICES_A_DAY, midnight

FIRST = date(2025, 1, 1)
CONTRACTS = read_contracts([SHIPPED])
SENSORS = [c.name for c in CONTRACTS["pump"].columns if not c.key]


def fleet(last_day: date | None = None, pump: Contract = CONTRACTS["pump"], **chosen: Any) -> Source:
    return SPEC.open(SourceContext("test", pump, CONTRACTS["maintenance"], FIRST, last_day, Path("unused"), chosen))


def rows(source: Source, days: int, stream: str = "telemetry", position: str | None = None) -> pa.Table:
    batches = source.batches(position, midnight(FIRST + timedelta(days=days)))
    return pa.concat_tables([b.rows for b in batches if isinstance(b, Batch) and b.stream == stream])


def reasons(source: Source, days: int) -> Mapping[str | None, int]:
    decoded = decode(CONTRACTS["pump"], rows(source, days))
    return Counter(row_check(CONTRACTS["pump"])(decoded, FIRST, date(2025, 12, 31)).to_pylist())


def matrix(table: pa.Table) -> np.ndarray:
    return np.column_stack([table[s].to_numpy() for s in SENSORS])


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), start=st.integers(0, 25))
def test_a_day_depends_on_the_settings_and_the_day_alone(seed: int, start: int) -> None:
    faults = {"late": 0.2, "drift": 0.3, "duplicate": 0.1, "out_of_order": 0.5, "nan": 0.1}
    chosen = {"seed": seed, "pumps": 2, "readings_per_day": 4, "mean_life_days": 6, "faults": faults}
    until = FIRST + timedelta(days=29)
    position = midnight(FIRST + timedelta(days=start)).isoformat()
    end = midnight(until + timedelta(days=1))
    whole = {b.txn: str(b.rows.to_pylist()) for b in fleet(until, **chosen).batches(None, end)}
    part = {b.txn: str(b.rows.to_pylist()) for b in fleet(**chosen).batches(position, end)}
    assert part.items() <= whole.items()
    assert len({b for b in whole if b not in part}) >= start


def test_today_comes_in_slices_that_make_up_the_day() -> None:
    """Whoever looks in between gets the same rows, each once, and nothing ahead of its time."""
    chosen = {"pumps": 3, "readings_per_day": 24, "faults": {"late": 0.2, "duplicate": 0.1}}
    position, seen = midnight(FIRST + timedelta(days=4)).isoformat(), []
    for hour in range(2, 25, 2):
        now = midnight(FIRST + timedelta(days=4)) + timedelta(hours=hour)
        for batch in fleet(**chosen).batches(position, now):
            seen.append(batch.txn)
            position = batch.position
            assert isinstance(batch, Batch)
            assert pc.max(batch.rows["ts"]).as_py() < now
    assert len(seen) == len(set(seen)) >= SLICES_A_DAY
    sliced = rows(fleet(**chosen), 5, position=midnight(FIRST + timedelta(days=4)).isoformat()).num_rows
    assert position == midnight(FIRST + timedelta(days=5)).isoformat()
    assert sliced > 0


def test_other_settings_give_other_txns() -> None:
    one, other = (next(iter(fleet(seed=s).batches(None, midnight(FIRST + timedelta(days=1))))).txn for s in (1, 2))
    assert one != other


def test_without_faults_every_row_holds_the_contract_and_no_life_has_gaps() -> None:
    source = fleet(pumps=4, readings_per_day=12, mean_life_days=30)
    assert reasons(source, 120).keys() == {None}
    events = rows(source, 120, "maintenance")
    readings = rows(source, 120)
    # Two hours between readings, but for the downtime after an event.
    for pump in pc.unique(readings["equipment_id"]).to_pylist():
        ts = np.sort(readings.filter(pc.equal(readings["equipment_id"], pump))["ts"].to_numpy())
        ends = events.filter(pc.equal(events["equipment_id"], pump))["ts"].to_numpy()
        gaps = np.flatnonzero(np.diff(ts) > np.timedelta64(7200, "s"))
        assert all(((ends >= ts[g]) & (ends < ts[g + 1])).any() for g in gaps)
        assert len(gaps) >= len(ends) - 1


def test_lives_last_as_long_as_set_and_end_in_every_way() -> None:
    events = rows(fleet(pumps=200, readings_per_day=1, mean_life_days=20, preventive_share=0.2), 330, "maintenance")
    modes = Counter(events["failure_mode"].to_pylist())
    assert set(modes) == {"bearing_wear", "seal_leak", "impeller_erosion", None}
    assert modes[None] == Counter(events["event"].to_pylist())["preventive"]
    assert modes[None] / events.num_rows == pytest.approx(0.2, abs=0.03)
    firsts = events.filter(pc.equal(events["event"], "failure")).group_by("equipment_id").aggregate([("ts", "min")])
    life_d = (firsts["ts_min"].to_numpy() - np.datetime64(FIRST)) / np.timedelta64(1, "D")
    assert np.percentile(life_d, 5) > 4
    # A life's mean, shortened where it is renewed early, and the mean downtime after it.
    assert 330 * 200 / events.num_rows == pytest.approx(20 * (0.8 + 0.2 * 0.725) + 0.75, rel=0.06)


def test_wear_shows_before_a_failure_and_goes_with_it() -> None:
    source = fleet(pumps=20, readings_per_day=6, mean_life_days=40, preventive_share=0)
    events, readings = rows(source, 150, "maintenance"), rows(source, 150)
    signs = {"bearing_wear": ("vibration_mm_s", 1), "seal_leak": ("seal_pressure_bar", -1)}
    for mode, (sensor, sign) in signs.items():
        ratios = []
        for event in events.filter(pc.equal(events["failure_mode"], mode)).to_pylist():
            own = readings.filter(pc.equal(readings["equipment_id"], event["equipment_id"]))
            ts, value = own["ts"].to_numpy(), own[sensor].to_numpy()
            end = np.datetime64(event["ts"].replace(tzinfo=None))
            before = value[(ts <= end) & (ts > end - np.timedelta64(2, "D"))]
            after = value[(ts > end) & (ts < end + np.timedelta64(4, "D"))]
            if len(before) and len(after):
                ratios.append(before.mean() / after.mean())
        assert len(ratios) > 5
        assert np.median(np.log(ratios)) * sign > 0.3


def test_the_drive_runs_at_three_speeds_and_summer_is_warmer() -> None:
    readings = rows(fleet(pumps=6, readings_per_day=8), 220)
    nominal = np.round(readings["speed_rpm"].to_numpy() / 725) * 725
    assert set(nominal) == {1450.0, 2175.0, 2900.0}
    month = pc.month(readings["ts"]).to_numpy()
    ambient = readings["ambient_temp_c"].to_numpy()
    assert ambient[month == 7].mean() > ambient[month == 1].mean() + 10


@pytest.mark.parametrize(
    ("fault", "rate", "reason", "expected"),
    [
        ("duplicate", 0.1, "duplicate", 0.075),
        ("duplicate", 0.1, "conflicting_duplicate", 0.025),
        ("spike", 0.01, "out_of_range", 0.077),
    ],
)
def test_faulty_rows_come_at_the_set_rate(fault: str, rate: float, reason: str, expected: float) -> None:
    found = reasons(fleet(pumps=10, readings_per_day=24, faults={fault: rate}), 20)
    share = sum(n for r, n in found.items() if (r or "").split(":")[0] == reason) / found[None]
    assert share == pytest.approx(expected, rel=0.25)


def faulty_and_clean(**faults: float) -> tuple[pa.Table, pa.Table]:
    chosen = {"pumps": 10, "readings_per_day": 24, "seed": 7}
    return rows(fleet(**chosen, faults=faults), 28), rows(fleet(**chosen), 28)


def test_dropouts_leave_readings_out() -> None:
    faulty, clean = faulty_and_clean(dropout=0.2)
    assert faulty.num_rows / clean.num_rows == pytest.approx(0.8, abs=0.02)


def test_nan_replaces_sensor_values_but_no_settings() -> None:
    faulty, _ = faulty_and_clean(nan=0.1)
    share = np.isnan(matrix(faulty)).mean(axis=0)
    assert share[0] == 0
    assert share[1:] == pytest.approx(0.1, abs=0.015)


def test_stuck_sensors_repeat_themselves_for_a_day() -> None:
    faulty, clean = faulty_and_clean(stuck=0.25)

    def constant_share(table: pa.Table) -> float:
        day = table["ts"].to_numpy().astype("datetime64[D]").astype("int64")
        pump = np.unique(table["equipment_id"].to_numpy(), return_inverse=True)[1]
        values = matrix(table)[:, 1:]
        spans = [np.ptp(values[(day == d) & (pump == p)], axis=0) for d in np.unique(day) for p in np.unique(pump)]
        return float(np.mean(np.array(spans) == 0))

    assert constant_share(clean) == 0
    assert constant_share(faulty) == pytest.approx(0.25, abs=0.03)


def test_drift_grows_until_the_sensor_is_calibrated() -> None:
    faulty, clean = faulty_and_clean(drift=1.0)
    ratio = faulty["motor_current_a"].to_numpy() / clean["motor_current_a"].to_numpy()
    since_d = (clean["ts"].to_numpy() - np.datetime64(FIRST)).astype("timedelta64[D]").astype(int)
    means = [ratio[since_d == d].mean() for d in (0, 6, 13, 14)]
    assert means == pytest.approx([1.02, 1.15, 1.30, 1.02], abs=0.01)


def test_late_readings_come_one_or_two_days_after_their_own() -> None:
    batches = list(fleet(pumps=5, faults={"late": 0.3}).batches(None, midnight(FIRST + timedelta(days=10))))
    delays = Counter[int]()
    for batch in batches:
        if isinstance(batch, Batch) and batch.stream == "telemetry":
            delays.update((batch.day - ts.date()).days for ts in batch.rows["ts"].to_pylist())
    assert set(delays) == {0, 1, 2}
    assert (delays[1] + delays[2]) / delays.total() == pytest.approx(0.28, abs=0.05)


def test_out_of_order_readings_lose_nothing() -> None:
    faulty, clean = faulty_and_clean(out_of_order=0.5)
    assert faulty["ts"].to_pylist() != clean["ts"].to_pylist()
    keys = [("ts", "ascending"), ("equipment_id", "ascending")]
    assert faulty.sort_by(keys).equals(clean.sort_by(keys))


def test_unknown_fault_lists_the_faults() -> None:
    with pytest.raises(UnknownName, match="out_of_order"):
        fleet(faults={"gremlins": 0.1})


def test_a_contract_of_other_machines_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no sensor for"):
        fleet(pump=CONTRACTS["turbofan"])


def test_a_calendar_without_an_end_goes_on() -> None:
    later = date(2028, 6, 1)
    batches = list(fleet(pumps=2).batches(midnight(later).isoformat(), midnight(later + timedelta(days=1))))
    assert [b.day for b in batches if b.stream == "telemetry"] == [later]
