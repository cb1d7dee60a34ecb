"""Whatever lands, in whatever order, the steps end with every landed window served."""

from dataclasses import replace
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backbone.windows import Omission, PlantState, Step, WindowRange, left_out, next_step

START = date(2025, 1, 1)
NOTHING = Omission(frozenset(), "")
DAYS = st.integers(0, 20).map(lambda n: START + timedelta(days=n))
LANDED = st.dictionaries(DAYS, st.sampled_from(["x", "y"]), max_size=10)


def carried_out(state: PlantState, step: Step) -> PlantState:
    """What a run that succeeds leaves behind."""
    done = {day: fp for day, fp in state.landed.items() if step.first <= day <= step.last}
    if step.kind == "train":
        return replace(state, commissioned=True)
    ingested = {**state.ingested, **done} if step.kind in ("ingest", "serve") else state.ingested
    if step.kind not in ("score", "serve"):
        return replace(state, ingested=ingested)
    made = {day: Omission(left_out(state.blocked, day), f"after {step.cause}") for day in done}
    return replace(state, ingested=ingested, served={**state.served, **done}, omissions={**state.omissions, **made})


@given(LANDED, LANDED, st.booleans())
def test_steps_end_with_everything_served(landed: dict[date, str], before: dict[date, str], commissioned: bool) -> None:
    state = PlantState(landed, before, before if commissioned else {}, commissioned)
    kinds = []
    while (step := next_step(state)) is not None:
        kinds.append(step.kind)
        state = carried_out(state, step)
        assert len(kinds) <= 3
    if landed:
        assert {d: state.served.get(d) for d in landed} == landed
    assert kinds == sorted(kinds, key=["ingest", "train", "score", "serve"].index)


def test_late_data_serves_its_window_and_all_after_it() -> None:
    days = [START + timedelta(days=n) for n in range(5)]
    served = dict.fromkeys(days, "x")
    landed = served | {days[2]: "y"}
    step = next_step(PlantState(landed, served, served, commissioned=True))
    assert step is not None
    assert (step.kind, step.first, step.last) == ("serve", days[2], days[4])


@given(LANDED, st.lists(st.frozensets(DAYS, max_size=3), min_size=1, max_size=6))
def test_what_is_blocked_or_freed_serves_the_windows_after_it_again(
    landed: dict[date, str], verdicts: list[frozenset[date]]
) -> None:
    state, causes = PlantState(landed, landed, landed, commissioned=True), set()
    for blocked in verdicts:
        state = replace(state, blocked=blocked)
        resting = {day for day in landed if left_out(blocked, day) != state.omissions.get(day, NOTHING).days}
        assert state.stale == resting
        step = next_step(state)
        assert (step is not None) == bool(resting)
        if step is not None:
            assert (step.kind, step.first, step.last) == ("score", min(resting), max(landed))
            assert step.cause not in causes, "the same verdict a second time is asked for again"
            causes.add(step.cause)
            state = carried_out(state, step)
        assert next_step(state) is None


def test_what_is_stored_already_is_not_stored_again() -> None:
    landed = {START: "x"}
    step = next_step(PlantState(landed, landed, {}, commissioned=True))
    assert step is not None
    assert step.kind == "score"


def test_the_same_need_is_the_same_step_and_new_data_is_another() -> None:
    first = next_step(PlantState({START: "x"}, {}, {}, commissioned=True))
    again = next_step(PlantState({START: "x"}, {}, {}, commissioned=True))
    changed = next_step(PlantState({START: "y"}, {}, {}, commissioned=True))
    assert first == again
    assert first != changed


def test_a_range_counts_both_ends() -> None:
    windows = WindowRange("north", START, START + timedelta(days=2))
    assert len(windows) == len(list(windows)) == 3
    assert START in windows
    assert START - timedelta(days=1) not in windows
