from __future__ import annotations

import numpy as np

from maintenance.labels import rul_labels
from maintenance.readings import history_from_arrow, readings_from_arrow

HOURS = np.datetime64("2025-03-01T00:00", "us") + np.arange(10) * np.timedelta64(1, "h")


def _readings(fan, telemetry, events, equipment=("b",) * 6 + ("a",) * 4, values=None):
    vibration = np.arange(10.0) if values is None else values
    still = np.zeros(10)
    table = telemetry(equipment, HOURS, {"vibration": vibration, "current": still, "plate": still, "speed": still})
    history = history_from_arrow(events)
    return readings_from_arrow(fan, table, history), history


def test_rows_are_sorted_and_absent_values_are_nan(fan, telemetry, maintenance_events):
    values = np.array([0, 1, np.inf, 3, np.nan, 5, 6, 7, 8, 9.0])

    readings, _ = _readings(fan, telemetry, maintenance_events([]), values=values)

    assert readings.rows.equipment.tolist() == ["a"] * 4 + ["b"] * 6
    assert (np.diff(readings.rows.ts[4:]) > np.timedelta64(0)).all()
    np.testing.assert_array_equal(readings.of(("vibration",))[:, 0], [6, 7, 8, 9, 0, 1, np.nan, 3, np.nan, 5])
    assert readings.rows.starts.tolist() == [0, 4]
    assert readings.rows.latest.tolist() == [3, 9]


def test_a_life_ends_with_its_event_and_the_next_begins_after_it(fan, telemetry, maintenance_events):
    events = maintenance_events([("b", HOURS[1], "failure"), ("b", HOURS[3], "preventive"), ("c", HOURS[0], "failure")])

    readings, history = _readings(fan, telemetry, events)

    assert readings.rows.life.tolist() == [0] * 4 + [0, 0, 1, 1, 2, 2]
    rul = rul_labels(fan, readings.rows, history)
    np.testing.assert_array_equal(rul, [np.nan] * 4 + [1, 0] + [np.nan] * 4)


def test_lives_are_numbered_from_the_first_event_whatever_the_window(fan, telemetry, maintenance_events):
    events = maintenance_events([("b", HOURS[1], "failure"), ("b", HOURS[3], "failure")])
    whole, history = _readings(fan, telemetry, events)
    late = whole.rows.ts >= HOURS[4]

    window, _ = _readings(fan, telemetry, events)
    window = window.take(late)

    assert window.rows.life.tolist() == whole.rows.life[late].tolist()
    np.testing.assert_array_equal(rul_labels(fan, window.rows, history), rul_labels(fan, whole.rows, history)[late])


def test_labels_are_cut_at_the_cap(fan, telemetry, maintenance_events):
    failure = HOURS[5] + np.timedelta64(28, "h")

    readings, history = _readings(fan, telemetry, maintenance_events([("b", failure, "failure")]))

    assert rul_labels(fan, readings.rows, history)[4:].tolist() == [30, 30, 30, 30, 29, 28]


def test_an_empty_window_is_no_error(fan, telemetry, maintenance_events):
    readings, history = _readings(fan, telemetry, maintenance_events([("b", HOURS[5], "failure")]))
    nothing = readings.take(np.zeros(10, dtype=bool))

    assert len(nothing) == 0
    assert len(nothing.rows.starts) == len(nothing.rows.latest) == 0
    assert len(rul_labels(fan, nothing.rows, history)) == 0
