"""Settings as people write them (camelCase, in YAML) turned into the frozen records that code reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from backbone.errors import ConfigurationError, UnknownName

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], given: object, where: str) -> Settings:
    """Build a record from a mapping.

    Args:
        kind: a dataclass whose field types are among those in `_READERS`; its `__post_init__` may check
            further and raises `ConfigurationError` without naming `where`.
        given: the mapping as read; None counts as empty.
        where: how messages name the place, such as "class pump, features".

    Raises:
        UnknownName: a key that is no setting; lists those that are.
        ConfigurationError: a value is missing, of the wrong type or out of bounds.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where}: {given!r} is no mapping.", next_step="Write it as `key: value` pairs.")
    known = {_camel(f.name): f for f in fields(kind)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise UnknownName(f"setting in {where}", str(key), known)
    values: dict[str, Any] = {}
    for key, field in known.items():
        if key in given:
            values[field.name] = _value(given[key], str(field.type), f"{where}, {key}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigurationError(f"{where}: {key} is missing.", next_step=f"Add `{key}`, a {field.type}.")
    try:
        return kind(**values)
    except UnknownName:
        raise  # it lists what is valid; another wording would lose the list
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.problem}", next_step=error.next_step) from None


def positive(**values: float) -> None:
    """Refuse any value that is not above zero; a record calls this from its `__post_init__`.

    Raises:
        ConfigurationError: names the setting and its value.
    """
    for name, value in values.items():
        if not value > 0:
            raise ConfigurationError(f"{_camel(name)} is {value!r}.", next_step="Give a number above 0.")


def fraction(**values: float) -> None:
    """Refuse any value that does not lie strictly between zero and one.

    Raises:
        ConfigurationError: names the setting and its value.
    """
    for name, value in values.items():
        if not 0 < value < 1:
            raise ConfigurationError(f"{_camel(name)} is {value!r}.", next_step="Give a number between 0 and 1.")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    return float(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _list_of(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError("a list")
        return tuple(read(item) for item in value)

    return read_all


def _texts_by_name(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("a mapping of names to texts")
    return {_text(k): _text(v) for k, v in value.items()}


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _integer,
    "float": _number,
    "str": _text,
    "tuple[int, ...]": _list_of(_integer),
    "tuple[float, ...]": _list_of(_number),
    "tuple[str, ...]": _list_of(_text),
    "Mapping[str, str]": _texts_by_name,
}


def _value(value: Any, annotation: str, where: str) -> Any:
    optional = annotation.removesuffix(" | None")
    if value is None and optional != annotation:
        return None
    try:
        return _READERS[optional](value)
    except ValueError as error:
        raise ConfigurationError(f"{where} is {value!r}.", next_step=f"Give {error}.") from None
