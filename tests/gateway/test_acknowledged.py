"""What is told to be kept is kept, and all that is kept is told."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.acknowledged import AcknowledgedRange, AcknowledgedRanges

ADDED = st.tuples(st.sampled_from(["P-1", "P-2", "P-3"]), st.sampled_from(["", "s"]), st.integers(0, 12))


def ids(told: list[AcknowledgedRange]) -> set[tuple[str, str, int]]:
    return {(r.equipment, r.session, seq) for r in told for seq in range(r.first, r.last + 1)}


@given(st.lists(st.one_of(ADDED, st.none()), max_size=80), st.integers(1, 6))
def test_ranges_say_all_that_was_added_and_nothing_else(
    steps: list[tuple[str, str, int] | None], sessions: int
) -> None:
    ranges, added, untold, told = AcknowledgedRanges(sessions), set(), set(), set()
    for step in [*steps, None]:
        if step is not None:
            ranges.add(*step)
            added.add(step)
            untold.add(step)
            continue
        said = ids(ranges.take())
        assert untold <= said <= added
        told |= said
        untold = set()
    assert told == added
    assert ranges.take() == []


def test_a_stream_is_told_in_one_range_that_grows() -> None:
    ranges = AcknowledgedRanges()
    for seq in range(5, 9):
        ranges.add("P-1", "s", seq)
    assert ranges.take() == [AcknowledgedRange("P-1", "s", 5, 8)]
    ranges.add("P-1", "s", 9)
    ranges.add("P-1", "s", 4)
    assert ranges.take() == [AcknowledgedRange("P-1", "s", 4, 9)]
