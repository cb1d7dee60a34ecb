"""Which line of a TOML file says something."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.catalog.toml_lines import line_of

TEXT = """\
# a plant
name = "north"

[calendar] # when
first_day = 2025-01-01

[[locations]]
name = "edge"
targets = [{ name = "box", kind = "in_process" }]

  [[locations]]
  name = "hall"
  price_per_hour=2
    [[locations.targets]]
    name = "a"
    [[locations.targets]]
    name = "b"
    breaker.minimum = 3
    [locations.targets.faults]
    die = 0.5

[workloads]
scoring = "box"
[workloads."train-ing"]
kinds = [
  "cloud",
]
"""


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (("name",), 'name = "north"'),
        (("calendar",), "[calendar]"),
        (("calendar", "first_day"), "first_day"),
        (("locations", 0), "[[locations]]"),
        (("locations", 0, "name"), '"edge"'),
        (("locations", 0, "targets", 0, "kind"), "targets = ["),
        (("locations", 1, "price_per_hour"), "price_per_hour"),
        (("locations", 1, "capacity"), "  [[locations]]"),
        (("locations", 1, "targets", 1, "name"), '"b"'),
        (("locations", 1, "targets", 1, "breaker", "minimum"), "breaker.minimum"),
        (("locations", 1, "targets", 1, "faults", "die"), "die"),
        (("locations", 1, "targets", 1, "faults", "hang"), "[locations.targets.faults]"),
        (("workloads", "scoring"), "scoring"),
        (("workloads", "train-ing", "kinds", 0), "kinds"),
        (("workloads", "train-ing", "budget"), '[workloads."train-ing"]'),
    ],
)
def test_the_innermost_place_that_has_a_line_is_found(at: tuple[str | int, ...], says: str) -> None:
    line = line_of(TEXT, at)
    assert line is not None
    assert TEXT.splitlines()[line - 1].startswith(says) or says in TEXT.splitlines()[line - 1]


@pytest.mark.parametrize("at", [(), ("nothing",), ("nothing", 0, "name")])
def test_what_is_not_there_has_no_line(at: tuple[str | int, ...]) -> None:
    assert line_of(TEXT, at) is None


KEYS = ["name", "kind", "price_per_hour", "a-b", "zone"]


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Every value is another number, so that it tells its line."""
    number = iter(range(1000, 100_000))

    def keys() -> Iterator[str]:
        for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=4)):
            if draw(st.booleans()):
                yield "   # a remark = 1" if draw(st.booleans()) else ""
            yield f"{draw(st.sampled_from(['', '  ']))}{key}{draw(st.sampled_from([' = ', '=']))}{next(number)}"

    lines = [*keys()]
    for table in draw(st.lists(st.sampled_from(["calendar", "fleets.pump", "workloads.x"]), unique=True)):
        lines += [f"[{table}] # see [there]", *keys()]
    for _ in range(draw(st.integers(0, 3))):
        lines += ["[[locations]]", *keys()]
        for _ in range(draw(st.integers(0, 3))):
            lines += ["[[locations.targets]]", *keys()]
            if draw(st.booleans()):
                lines += ["[locations.targets.breaker]", *keys()]
    return "\n".join(lines)


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if isinstance(value, int):
        yield at, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*at, key))
    else:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*at, index))


@given(documents())
def test_every_value_is_found_where_the_parser_read_it(text: str) -> None:
    lines = text.splitlines()
    for at, number in leaves(tomllib.loads(text)):
        line = line_of(text, at)
        assert line is not None
        assert lines[line - 1].endswith(f"={number}") or lines[line - 1].endswith(f"= {number}")
