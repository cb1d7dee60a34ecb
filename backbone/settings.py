"""A plug-in's settings: a frozen dataclass says which there are, their defaults and their bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from backbone.errors import ConfigurationError, UnknownName

T = TypeVar("T")


def bounded(default: float, minimum: float, maximum: float) -> Any:
    """A dataclass field for a number between two bounds, both included."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum})


def settings_from(kind: type[T], given: Mapping[str, Any], *, where: str) -> T:
    """Fill a settings dataclass from a table of a TOML file.

    Args:
        kind: a dataclass of `int`, `float`, `str` and nested settings dataclasses. A field without a
            default must be given; a whole number will do for a `float`.
        given: the table.
        where: what the settings belong to, for messages, such as "source simulator at site riverside".

    Raises:
        UnknownName: a key that is no setting; lists those there are.
        ConfigurationError: a setting that is missing, of the wrong type or out of bounds; says what fits.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise UnknownName(f"setting of {where}", key, known)
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, setting in known.items():
        if name in given:
            values[name] = _value(name, given[name], types[name], setting.metadata, where)
        elif setting.default is MISSING and setting.default_factory is MISSING:
            raise ConfigurationError(f"The {where} lacks the setting {name!r}.", next_step="Add it to the site file.")
    return kind(**values)


def _value(name: str, value: Any, kind: Any, bounds: Mapping[str, float], where: str) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"The {where}: {name} is {value!r}.", next_step="Give a table of settings.")
        return settings_from(kind, value, where=f"{where}, table {name!r}")
    accepted = (int, float) if kind is float else kind
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise ConfigurationError(f"The {where}: {name} is {value!r}.", next_step=f"Give {_WANTED[kind]}.")
    if bounds:
        low, high = bounds["minimum"], bounds["maximum"]
        if not math.isfinite(value) or not low <= value <= high:
            raise ConfigurationError(
                f"The {where}: {name} is {value!r}.", next_step=f"Give {_WANTED[kind]} from {low} to {high}."
            )
    return kind(value)


_WANTED = {int: "a whole number", float: "a number", str: "a text"}
