"""Settings as people write them, in TOML or YAML, turned into the frozen records that code reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from backbone.errors import ConfigurationError, UnknownName

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1, both included."""


def settings_from(kind: type[T], given: object, *, where: str, camel_case: bool = False) -> T:
    """Fill a dataclass from a table.

    Types are taken at their word: a text is no number, a number no truth value; a whole number will do for a
    `float`. A `__post_init__` may check further and raise `ConfigurationError` without naming `where`.

    Args:
        kind: a dataclass; bounds stand in its annotations, as in `Annotated[int, Field(ge=1)]`.
        given: the table; None counts as empty.
        where: what the settings belong to, for messages, such as "source simulator at site riverside".
        camel_case: keys are written `likeThis` for a field `like_this`.

    Raises:
        UnknownName: a key that is no setting; lists those there are.
        ConfigurationError: a setting that is missing, of the wrong type or out of bounds; says what fits.
    """
    values = _fields(kind, {} if given is None else given, where, camel_case)
    try:
        if not values and _all_have_defaults(kind):
            return kind()  # nothing to be checked
        # Only JSON knows a strictness in which a list will do for a tuple, but a text not for a number.
        hashable: Any = kind
        filled: T = _adapter(hashable).validate_json(json.dumps(values, default=str), strict=True)
        return filled
    except ValidationError as error:
        told = [(".".join(map(str, e["loc"])), e["msg"], e["input"], e["type"]) for e in error.errors()]
        wrong = [f"{at} is missing" if kind_ == "missing" else f"{at} is {got!r}" for at, _, got, kind_ in told]
        fits = sorted({message for _, message, _, kind_ in told if kind_ != "missing"}) or ["Add it"]
        at = next((e["loc"] for e in error.errors() if e["type"] != "missing"), ())
        raise ConfigurationError(f"{where}: {', '.join(wrong)}.", next_step=f"{'; '.join(fits)}.", at=at) from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.problem}", next_step=error.next_step, at=error.at) from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Building one takes milliseconds."""
    return TypeAdapter(kind)


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _all_have_defaults(kind: type[Any]) -> bool:
    return all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(kind))


def _fields(kind: Any, given: object, where: str, camel_case: bool) -> dict[str, Any]:
    """The table under the record's own field names, nested tables as well."""
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where}: {given!r} is no table.", next_step="Give settings as keys and values.")
    written = {to_camel(f.name) if camel_case else f.name: f.name for f in fields(kind)}
    for key in given:
        if key not in written:
            raise UnknownName(f"setting of {where}", str(key), written, at=(str(key),))
    if not given:
        return {}
    types = _types(kind)
    return {
        written[key]: _fields(types[written[key]], value, f"{where}, table {key!r}", camel_case)
        if is_dataclass(types[written[key]])
        else value
        for key, value in given.items()
    }
