"""Statistics of windows, without Great Expectations."""

from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.profiles import (
    Cadence,
    bin_edges,
    completeness_profile,
    drift_profile,
    freshness_profile,
    rising_profile,
    schema_profile,
    shares_in_range,
    stuck_profile,
)
from tests.quality.rows import NO_EVENTS, at, telemetry

DAY = date(2025, 3, 10)
TWICE_AN_HOUR = Cadence(per_day=48, least_share=0.75)


def readings(*rows: tuple[str, datetime]) -> pa.Table:
    return pa.table(
        {
            "equipment_id": pa.array([m for m, _ in rows], pa.string()),
            "ts": pa.array([ts for _, ts in rows], pa.timestamp("us", tz="UTC")),
        }
    )


def every(machine: str, day: date, *, hours: float, until: float = 24, since: float = 0) -> list[tuple[str, datetime]]:
    return [(machine, at(day, since + hours * n)) for n in range(int((until - since) / hours))]


def of(profile: pa.Table, machine: str) -> dict[str, int]:
    return next(row for row in profile.to_pylist() if row["equipment_id"] == machine)


def test_a_day_under_way_is_judged_only_on_what_is_due_by_the_newest_reading() -> None:
    rows = readings(*every("a", DAY - timedelta(days=1), hours=0.5), *every("a", DAY, hours=0.5, until=6))
    profile = completeness_profile(rows, NO_EVENTS, [DAY], at(DAY, 6), TWICE_AN_HOUR)
    assert of(profile, "a") | {"date": DAY} == {
        "date": DAY,
        "equipment_id": "a",
        "present": 12,
        "due": 12,
        "least": 9,
        "usual_least": 9,
    }


def test_a_machine_that_was_heard_of_lately_and_is_silent_is_short_of_all_it_owes() -> None:
    rows = readings(*every("a", DAY, hours=0.5), *every("b", DAY - timedelta(days=7), hours=0.5))
    assert of(completeness_profile(rows, NO_EVENTS, [DAY], at(DAY, 24), TWICE_AN_HOUR), "b")["present"] == 0
    day_after = DAY + timedelta(days=1)
    later = completeness_profile(rows, NO_EVENTS, [day_after], at(day_after, 24), TWICE_AN_HOUR)
    assert [row["equipment_id"] for row in later.to_pylist()] == ["a"], "after a week it is not known any more"


def test_a_machine_owes_nothing_between_its_failure_and_its_next_reading() -> None:
    rows = readings(*every("a", DAY, hours=0.5, until=6), *every("a", DAY, hours=0.5, since=18))
    failed = readings(("a", at(DAY, 6)))
    assert of(completeness_profile(rows, failed, [DAY], at(DAY, 24), TWICE_AN_HOUR), "a")["due"] == 24
    assert of(completeness_profile(rows, NO_EVENTS, [DAY], at(DAY, 24), TWICE_AN_HOUR), "a")["due"] == 48
    next_day = DAY + timedelta(days=1)
    ended = readings(("a", at(DAY, 24)))
    assert of(completeness_profile(rows, ended, [next_day], at(next_day, 24), TWICE_AN_HOUR), "a")["least"] == 0


def test_a_fleet_that_is_read_less_often_than_promised_is_told_from_one_that_is_silent() -> None:
    before = [r for n in range(1, 4) for m in "ab" for r in every(m, DAY - timedelta(days=n), hours=4)]
    rows = readings(*before, *every("a", DAY, hours=4))
    profile = completeness_profile(rows, NO_EVENTS, [DAY], at(DAY, 24), TWICE_AN_HOUR)
    heard, silent = of(profile, "a"), of(profile, "b")
    assert heard["present"] < heard["least"], "it is not what the contract promises"
    assert heard["present"] >= heard["usual_least"], "but it is what this plant sends"
    assert silent["present"] < silent["usual_least"]


@given(st.integers(0, 48), st.floats(0.01, 1.0))
def test_never_more_than_what_is_due_is_asked_for(due: int, share: float) -> None:
    least = Cadence(48, share).least(due)
    assert (0 < least <= due) if due else least == 0


def sensor_rows(values: list[list[float]], start: date = DAY, per_day: int = 4) -> pa.Table:
    """One machine a list of values, read every so many hours."""
    return telemetry(
        (f"m{m}", at(start, 24 / per_day * n), value) for m, some in enumerate(values) for n, value in enumerate(some)
    )


def test_a_run_of_one_value_goes_on_over_midnight_and_over_missing_values() -> None:
    rows = sensor_rows([[1, 2, 5, 5, 5, float("nan"), 5, 6], [1, 2, 3, 4, 5, 6, 7, 8]])
    found = {
        (r["date"], r["equipment_id"]): r["run"]
        for r in stuck_profile(rows, ["temp"], [DAY + timedelta(1)]).to_pylist()
    }
    assert found == {(DAY + timedelta(1), "m0"): 4, (DAY + timedelta(1), "m1"): 1}


def test_a_sensor_that_says_nothing_of_any_machine_is_not_stuck() -> None:
    assert stuck_profile(sensor_rows([[7.0] * 8, [7.0] * 8]), ["temp"], [DAY]).num_rows == 0
    stuck_everywhere = sensor_rows([[m + 0.5] * 8 for m in range(4)])
    assert stuck_profile(stuck_everywhere, ["temp"], [DAY]).num_rows == 4


def counted(*rows: tuple[str, datetime, int]) -> pa.Table:
    columns = {"date": [ts.date() for _, ts, _ in rows], "cycle": pa.array([n for *_, n in rows], pa.int64())}
    return pa.table({**readings(*((m, ts) for m, ts, _ in rows)).to_pydict(), **columns})


def not_rising(rows: pa.Table, events: pa.Table = NO_EVENTS, days: tuple[date, ...] = (DAY,)) -> list[tuple[str, int]]:
    found = rising_profile(rows, events, ["cycle"], days).to_pylist()
    return [(r["equipment_id"], r["ts"].hour) for r in found if r["value"] <= r["before"]]


def test_a_counter_that_falls_or_stays_is_found_and_one_that_rises_is_not() -> None:
    yesterday = at(DAY - timedelta(days=1), 23)
    rows = counted(
        *(("good", at(DAY, hour), 7 + hour) for hour in (3, 1, 2)),
        *(("twice", at(DAY, hour), n) for hour, n in ((1, 4), (2, 4), (3, 5))),
        ("anew", yesterday, 90),
        *(("anew", at(DAY, hour), hour) for hour in (1, 2)),
    )
    assert not_rising(rows) == [("anew", 1), ("twice", 2)]
    assert not_rising(rows, days=(DAY - timedelta(days=1),)) == []


def test_a_counter_starts_anew_with_the_life_that_follows_an_event() -> None:
    rows = counted(("a", at(DAY, 1), 90), ("a", at(DAY, 2), 91), ("a", at(DAY, 5), 1), ("b", at(DAY, 5), 1))
    assert not_rising(rows, readings(("a", at(DAY, 2)))) == [], "the reading at its instant is of the life that ends"
    assert not_rising(rows, readings(("a", at(DAY, 1)), ("b", at(DAY, 2)))) == [("a", 5)]


@pytest.mark.parametrize(("shift", "drifts"), [(0.0, False), (1.5, True)])
def test_drift_is_a_shift_against_the_training_set_over_weeks(shift: float, drifts: bool) -> None:
    random = np.random.default_rng(3)
    reference = {"temp": bin_edges(random.normal(size=5000))}
    rows = sensor_rows(random.normal(shift, 1, size=(8, 80)).tolist())
    days = [DAY + timedelta(days=n) for n in (5, 19)]
    found = {r["date"]: r["psi"] for r in drift_profile(rows, ["temp"], reference, days).to_pylist()}
    assert list(found) == days[1:], "six days tell of the weather"
    assert (found[days[1]] > 0.25) is drifts


def test_values_that_are_mostly_alike_have_no_bins() -> None:
    assert bin_edges(np.repeat([1.0, 2.0], 500)) == []
    assert bin_edges(np.arange(20.0)) == []


def test_the_schema_says_what_is_missing_or_otherwise() -> None:
    promised = pa.schema([("a", pa.string()), ("b", pa.float64()), ("c", pa.int64())])
    stored = pa.schema([("a", pa.string()), ("b", pa.float32()), ("arrival", pa.int64())])
    found = {r["column"]: (r["stored"], r["promised"]) for r in schema_profile(stored, promised, [DAY]).to_pylist()}
    assert found == {"a": ("string", "string"), "b": ("float", "double"), "c": ("missing", "int64")}


def test_shares_in_range_leave_out_what_is_not_there() -> None:
    rows = pa.table({"date": [DAY] * 4, "x": pa.array([1.0, 2.0, None, 99.0]), "y": pa.array([None] * 4, pa.float64())})
    found = {r["column"]: r["share"] for r in shares_in_range(rows, {"x": (0, 10), "y": (0, None)}).to_pylist()}
    assert found == {"x": pytest.approx(2 / 3)}


def test_the_lag_is_between_the_newest_that_landed_and_the_newest_that_is_stored() -> None:
    rows = pa.table({"date": [DAY, DAY], "ts": [at(DAY, 3), at(DAY, 5)]})
    (found,) = freshness_profile(rows, {DAY: at(DAY, 8)}).to_pylist()
    assert found["lag_s"] == 3 * 3600
    assert freshness_profile(rows.slice(0, 0), {DAY: at(DAY, 8)}).num_rows == 0
