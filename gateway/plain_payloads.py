"""Most payloads are as they should be: those are decoded and held against their contract in one go.

A decoder compiled of the contract (msgspec) reads the JSON straight into a structure that has the contract's columns,
and refuses, as it reads, what is of another type, out of range, missing or unknown. It takes a third of what a parser
takes that makes a dictionary, which then has to be looked through.

It only ever says yes. What it does not take, for whatever reason, is for `gateway.decoding` and the contract check to
look at, which alone decide and word what is refused; what it takes they would take as well, with the same values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.decoding import LONGEST_SESSION, MAX_BYTES, timestamp_us

Plain = tuple[int, int, str, list[float], dict[str, str] | None, str | None, bool]
"""As `gateway.decoding.Sent`, with the values in the columns' order: `NAN` where one is silent."""

NAN: Any = math.nan
"""The one in `gateway.decoding.Reading.values`. It is told by identity: a compiled `float` has none, hence `Any`."""

_COLON, _BACKSLASH = b":\\"
_MOST_WHOLE = float((1 << 53) - 1)
"""Beyond, a double cannot tell a whole number from its neighbours, and the decoder not how it was written."""
_STRICT: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}


class PlainColumn(NamedTuple):
    """A column of numbers, as a decoder needs it.

    Attributes:
        kind: float or int.
        low, high: both included; whole numbers as such, as a float cannot tell large ones apart.
    """

    name: str
    kind: type[float] | type[int]
    low: float | int
    high: float | int
    may_be_silent: bool


def plain_decoder(columns: Sequence[PlainColumn]) -> Callable[[bytes], Plain | None]:
    """A decoder of payloads with these columns and no others. It answers None where a closer look is needed."""
    values = msgspec.defstruct("Values", [_field(at, c) for at, c in enumerate(columns)], **_STRICT)
    payload = msgspec.defstruct(
        "Payload",
        [
            ("ts", int | str),
            ("seq", Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]),
            ("values", values),
            ("session", str | UnsetType, UNSET),
            ("units", dict[str, str] | UnsetType, UNSET),
            ("contract", str | UnsetType, UNSET),
            ("is_historical", bool | UnsetType, UNSET),
        ],
        **_STRICT,
    )
    read, in_order = msgspec.json.Decoder(payload).decode, msgspec.structs.astuple
    colons_of_all = len(("ts", "seq", "values")) + len(columns)

    def decode(raw: bytes) -> Plain | None:
        if len(raw) > MAX_BYTES or _BACKSLASH in raw:
            return None
        try:
            ts, seq, values, session, units, contract, is_historical = in_order(read(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        shown = list(in_order(values))
        colons = colons_of_all
        try:
            silent = math.isnan(sum(shown))
        except TypeError:  # null adds up to nothing
            silent = True
        if silent:
            colons -= sum(value is NAN for value in shown)
            shown = [NAN if value is None else value for value in shown]
        if type(ts) is str:
            colons += ts.count(":")
        if session is UNSET:
            session = ""
        elif len(session) <= LONGEST_SESSION and session.isprintable():
            colons += 1 + session.count(":")
        else:
            return None
        if units is UNSET:
            units = None
        else:
            colons += 1 + len(units)
        if contract is UNSET:
            contract = None
        else:
            colons += 1
        if is_historical is UNSET:
            is_historical = False
        else:
            colons += 1
        # As in `gateway.decoding.decode`: of two equal keys the last is left, and a colon too many.
        if raw.count(_COLON) != colons or (ts_us := timestamp_us(ts)) is None:
            return None
        return ts_us, seq, session, shown, units, contract, is_historical

    return decode


def _field(at: int, column: PlainColumn) -> tuple[Any, ...]:
    if column.kind is float:
        limits = Meta(ge=max(column.low, -_MOST_WHOLE), le=min(column.high, _MOST_WHOLE))
    else:
        limits = Meta(ge=math.ceil(column.low), le=math.floor(column.high))
    kind: Any = Annotated[column.kind, limits]
    field: Any = msgspec.field
    if not column.may_be_silent:
        return f"column_{at}", kind, field(name=column.name)
    return f"column_{at}", kind | None, field(name=column.name, default=NAN)
