from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.errors import ConfigurationError, UnknownName
from backbone.settings import bounded, settings_from


@dataclass(frozen=True)
class Inner:
    rate: float = bounded(0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Outer:
    folder: str
    count: int = bounded(3, 1, 10)
    inner: Inner = field(default_factory=Inner)


def test_defaults_fill_what_is_not_given() -> None:
    assert settings_from(Outer, {"folder": "x"}, where="plug-in") == Outer("x", 3, Inner(0.0))


def test_a_whole_number_will_do_for_a_float() -> None:
    rate = settings_from(Outer, {"folder": "x", "inner": {"rate": 1}}, where="plug-in").inner.rate
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "lacks the setting 'folder'"),
        ({"folder": 1}, "Give a text"),
        ({"folder": "x", "count": True}, "Give a whole number"),
        ({"folder": "x", "count": 2.5}, "Give a whole number"),
        ({"folder": "x", "count": 11}, "from 1 to 10"),
        ({"folder": "x", "inner": 3}, "Give a table"),
        ({"folder": "x", "inner": {"rate": float("nan")}}, "from 0.0 to 1.0"),
    ],
)
def test_a_wrong_setting_says_what_fits(given: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        settings_from(Outer, given, where="plug-in")


def test_an_unknown_setting_of_a_nested_table_lists_that_tables_own() -> None:
    with pytest.raises(UnknownName, match="table 'inner'") as error:
        settings_from(Outer, {"folder": "x", "inner": {"rat": 1}}, where="plug-in")
    assert error.value.valid == ("rate",)


@given(st.floats(allow_nan=True) | st.integers() | st.text() | st.booleans() | st.none())
def test_whatever_is_accepted_lies_in_bounds(value: object) -> None:
    try:
        accepted = settings_from(Inner, {"rate": value}, where="plug-in").rate
    except ConfigurationError:
        return
    assert 0.0 <= accepted <= 1.0
