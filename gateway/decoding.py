"""Payloads of readings: JSON, read once and fast; only what is refused is looked at again, to say why.

    {"ts": "2025-01-02T12:00:00.5Z", "seq": 17, "values": {"flow_m3_h": 41.5, "ambient_temp_c": null}}

- `ts`: ISO 8601 with date and time, UTC where it names no zone, what is finer than a microsecond cut off; or a whole
  number of milliseconds or microseconds since 1970, told apart by size: those of the years 1973 to 5138 do not overlap.
  A number of seconds or nanoseconds lies outside both and is refused.
- `seq`: a whole number from 0, below 2^63; unique within the sender's session.
- `values`: sensor → number or null.
- `session` (optional, ""): another one whenever the sender's count starts anew; printable, of at most
  `LONGEST_SESSION` characters.
- `units` (optional): sensor → unit; a unit that is not the contract's is refused, nothing is converted.
- `contract` (optional): the version of the contract that the sender was written for.
- `is_historical` (optional, false): the sender kept it for later.

Other keys mean nothing here and are let through.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn

import orjson
from msgspec import Struct

from gateway import reasons

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
"""Of objects and lists in each other. A reading has two."""
LONGEST_SESSION = 128
DIGEST_BYTES = 8

_EPOCH, _NAIVE_EPOCH = datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1)  # noqa: DTZ001 - UTC as agreed
_MILLISECONDS = range(10**11, 10**14)
_MICROSECONDS = range(10**14, 10**17)
_COLON, _BACKSLASH, _BRACKET = b":\\["
_NESTING = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""Strings, whole, and what opens and closes."""


class Reading(Struct, frozen=True, gc=False):
    """A reading that holds its contract.

    Attributes:
        session: "" where the sender has none.
        ts_us: when it was read, by the sender's clock; microseconds since 1970, UTC. `received_us` is the gateway's.
        values: in the order of `ReadingCheck.columns`. Where a column is silent, NaN if it is one of numbers, else
            None. Not to be changed.
        flags: reasons it was flagged for, of `gateway.reasons`.
        digest: `digest_of` the payload.
    """

    source: str
    equipment: str
    session: str
    seq: int
    ts_us: int
    values: list[Any]
    flags: tuple[str, ...]
    received_us: int
    traceparent: str | None
    digest: bytes


class Refusal(NamedTuple):
    """Why a payload is no reading.

    Attributes:
        session: None, as `seq`, where it could not be read.
        not_ours: it is of equipment that another gateway serves, and nothing to keep.
        detail: for people: which value, what it should have been. Empty where the reason says it all.
    """

    reason: str
    session: str | None = None
    seq: int | None = None
    not_ours: bool = False
    detail: str = ""


class Sent(NamedTuple):
    """A payload of the right form, not yet held against a contract.

    Attributes:
        values: sensor → anything that JSON knows.
    """

    ts_us: int
    seq: int
    session: str
    values: dict[str, Any]
    units: dict[str, str] | None
    contract: str | None
    is_historical: bool


def digest_of(raw: bytes) -> bytes:
    """Eight bytes that another content has by chance only, once in 2^64, and that nobody can make it have easily."""
    return hashlib.blake2b(raw, digest_size=DIGEST_BYTES).digest()


def decode(payload: bytes) -> Sent | Refusal:
    """Read a payload. Whatever the bytes, it raises nothing."""
    if len(payload) > MAX_BYTES:
        return Refusal(reasons.TOO_LARGE, detail=f"{len(payload)} bytes, at most {MAX_BYTES}")
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        return Refusal(_why_unreadable(payload), detail=str(error))
    if type(found) is not dict or type(values := found.get("values")) is not dict:
        return Refusal(_why_ambiguous(payload) or reasons.NOT_A_READING, detail="no object with values")
    get = found.get
    ts, session, units = get("ts"), get("session"), get("units")
    # Of two equal keys the parser keeps the last and says nothing. Every key has a colon, so where there are as many
    # colons as the keys and texts that are left account for, none was dropped. Only an escape could feign a colon.
    colons = len(found) + len(values)
    if type(ts) is str:
        colons += ts.count(":")
    if type(session) is str:
        colons += session.count(":")
    if type(units) is dict:
        colons += len(units)
    if (
        payload.count(_COLON) != colons or _BACKSLASH in payload or _BRACKET in payload
    ) and (reason := _why_ambiguous(payload)):  # fmt: skip
        return Refusal(reason)
    seq, contract, is_historical = get("seq"), get("contract"), get("is_historical")
    if session is None:
        session = ""
    elif type(session) is not str or len(session) > LONGEST_SESSION or not session.isprintable():
        return Refusal(reasons.NOT_A_READING, detail="session")
    if type(seq) is not int or not 0 <= seq < 1 << 63:
        return Refusal(reasons.NOT_A_READING, session, detail="seq")
    if (ts_us := timestamp_us(ts)) is None:
        return Refusal(reasons.NOT_A_READING, session, seq, detail="ts")
    if units is not None and (type(units) is not dict or not all(type(unit) is str for unit in units.values())):
        return Refusal(reasons.NOT_A_READING, session, seq, detail="units")
    if contract is not None and type(contract) is not str:
        return Refusal(reasons.NOT_A_READING, session, seq, detail="contract")
    if is_historical is not None and type(is_historical) is not bool:
        return Refusal(reasons.NOT_A_READING, session, seq, detail="is_historical")
    return Sent(ts_us, seq, session, values, units, contract, is_historical is True)


def timestamp_us(ts: object) -> int | None:
    """Microseconds since 1970 in UTC of a `ts` as the form has it; None if it is none."""
    if type(ts) is str:
        # Python also reads days, weeks and hours alone; a sender that cuts its times short is to be told.
        if len(ts) < 16 or ts[4] != "-" or ts[7] != "-" or ts[10] not in "T ":
            return None
        try:
            moment = datetime.fromisoformat(ts)
        except ValueError:
            return None
        since = moment - (_NAIVE_EPOCH if moment.tzinfo is None else _EPOCH)
        return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
    if type(ts) is int:
        if ts in _MILLISECONDS:
            return ts * 1000
        if ts in _MICROSECONDS:
            return ts
    return None


def _why_unreadable(payload: bytes) -> str:
    """Why the parser refused it."""
    return _why_ambiguous(payload) or reasons.INVALID_JSON


def _why_ambiguous(payload: bytes) -> str | None:
    """What makes it more than one thing, or too much, to those who read it; None where it is plain JSON."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return reasons.INVALID_UTF8
    if _depth(text) > MAX_DEPTH:
        return reasons.TOO_DEEP
    try:
        json.loads(
            text, object_pairs_hook=_no_key_twice, parse_constant=_not_finite, parse_float=_finite, parse_int=_short
        )
    except _Ambiguous as found:
        return found.reason
    except ValueError:
        return reasons.INVALID_JSON
    return None


def _depth(text: str) -> int:
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    for token in _NESTING.finditer(text):
        first = text[token.start()]
        if first in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "}]":
            depth -= 1
    return deepest


class _Ambiguous(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _no_key_twice(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise _Ambiguous(reasons.DUPLICATE_KEY)


def _not_finite(_: str) -> NoReturn:
    raise _Ambiguous(reasons.NOT_FINITE)


def _finite(text: str) -> None:
    if math.isinf(float(text)):
        raise _Ambiguous(reasons.NOT_FINITE)


def _short(text: str) -> None:
    if math.isinf(float(text)):
        raise _Ambiguous(reasons.TOO_LONG_NUMBER)
