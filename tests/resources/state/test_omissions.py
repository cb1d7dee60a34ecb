"""An answer leaves out what its features left out when it was given; kept is only where that is something."""

from datetime import date, timedelta

from backbone.windows import Omission, WindowRange
from resources.state.database import Database
from resources.state.plant_state import State

DAY = date(2025, 3, 1)


def later(n: int) -> date:
    return DAY + timedelta(days=n)


def test_an_answer_leaves_out_what_its_features_do(database: Database, site: str) -> None:
    state, windows = State(database), WindowRange(site, DAY, later(3))
    state.features_leave_out("pump", windows, {later(-1), later(1)}, run_id="a")
    assert state.omissions(site, "pump") == {day: Omission(frozenset(), "") for day in windows}, "nobody answered yet"
    state.answers_leave_out("pump", site, [DAY, later(2)])
    held = state.omissions(site, "pump")
    assert held[DAY] == Omission(frozenset({later(-1)}), "a")
    assert held[later(1)] == Omission(frozenset(), "")
    assert held[later(2)] == Omission(frozenset({later(-1), later(1)}), "a")

    state.features_leave_out("pump", windows, {later(-1)}, run_id="b")
    assert state.omissions(site, "pump") == held, "an answer rests on what its features were"
    state.answers_leave_out("pump", site, list(windows))
    assert set(state.omissions(site, "pump").values()) == {Omission(frozenset({later(-1)}), "b")}


def test_where_nothing_was_ever_left_out_nothing_is_kept(database: Database, site: str) -> None:
    state = State(database)
    state.features_leave_out("pump", WindowRange(site, DAY, later(3)), {later(1)}, run_id="a")
    assert set(state.omissions(site, "pump")) == {later(2), later(3)}
    assert state.omissions(f"{site}-2", "pump") == state.omissions(site, "fan") == {}
    state.features_leave_out("pump", WindowRange(site, DAY, later(3)), set(), run_id="b")
    state.answers_leave_out("pump", site, [DAY, later(3)])
    assert state.omissions(site, "pump")[later(3)] == Omission(frozenset(), "b"), "the run tells one time from the next"
