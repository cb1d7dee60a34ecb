from dataclasses import dataclass, field
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from backbone.errors import ConfigurationError, UnknownName
from backbone.settings import Share, settings_from


@dataclass(frozen=True)
class Inner:
    rate: Share = 0.0


@dataclass(frozen=True)
class Outer:
    folder: str
    count: Annotated[int, Field(ge=1, le=10)] = 3
    inner: Inner = field(default_factory=Inner)


def test_defaults_fill_what_is_not_given() -> None:
    assert settings_from(Outer, {"folder": "x"}, where="plug-in") == Outer("x", 3, Inner(0.0))


def test_a_whole_number_will_do_for_a_float() -> None:
    rate = settings_from(Outer, {"folder": "x", "inner": {"rate": 1}}, where="plug-in").inner.rate
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "folder is missing"),
        ({"folder": 1}, "valid string"),
        ({"folder": "x", "count": True}, "valid integer"),
        ({"folder": "x", "count": 2.5}, "valid integer"),
        ({"folder": "x", "count": 11}, "less than or equal to 10"),
        ({"folder": "x", "inner": 3}, "is no table"),
        ({"folder": "x", "inner": {"rate": float("nan")}}, "inner.rate"),
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
