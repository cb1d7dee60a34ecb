"""Readings against their contract, one at a time: what `backbone.row_checks` does to whole columns, in its words.

It is stricter in one thing: a number is a number and a truth value is one. A text that looks like a number, which a
file of text cannot avoid, is of the wrong type here. What is not a text is none either.
"""

from __future__ import annotations

import ctypes
import functools
import math
import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from fnmatch import translate
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gateway import reasons
from gateway.decoding import Reading, Refusal, decode, digest_of, timestamp_us
from gateway.plain_payloads import NAN, PlainColumn, plain_decoder

if TYPE_CHECKING:
    from backbone.contracts import Column, Contract
    from gateway.known_machines import KnownMachines
    from gateway.ports import Message

LONGEST_NAME = 128
"""Of a machine's name, in characters."""
MACHINES = 20_000
"""Whose newest reading is remembered; beyond, who was seen first is forgotten first."""

_NAMES_CACHED = 16_384
_VERSIONS_CACHED = 256
_NO_NAME = frozenset("/+#")
"""They part topics and match many of them."""
_FEWEST_VALUES = 3
"""Sensors that have shown fewer say nothing, and are not stuck: the window's check sees it the same way."""
_IDENTITY = ("equipment_id", "ts")
_WHOLE_BITS = {"long": 64, "integer": 32, "short": 16, "byte": 8}
_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.\d{1,9}", re.ASCII)
_WRONG: Any = object()
_NUMBERS = ("number", "integer")


class ReadingCheck:
    """A telemetry contract, compiled.

    Args:
        ahead_s: how far ahead of the gateway's clock a reading's time may be without being flagged.
        first_day: the plant's; readings from before it are refused.
    """

    def __init__(self, contract: Contract, *, ahead_s: float, first_day: date | None = None) -> None:
        columns = [c for c in contract.columns if c.name not in _IDENTITY]
        self.columns = tuple(c.name for c in columns)
        """What `Reading.values` has, in this order."""
        self._columns = columns
        self._names = frozenset(self.columns)
        self._units = {c.name: c.unit for c in columns}
        self._ahead_us = round(ahead_s * 1e6)
        self._first_us = None if first_day is None else (first_day - date(1970, 1, 1)).days * 86_400_000_000
        self._takes: list[Callable[[Any], Any]] = [_take(c) for c in columns]
        self._limits = [_limits(c) for c in columns]
        plain = [p for c in columns if (p := _plain(c)) is not None]
        self._plain_columns = plain if len(plain) == len(columns) else []
        self._plain = plain_decoder(plain) if self._plain_columns else lambda _: None
        major, minor, _ = contract.version.split(".")
        self._known = functools.lru_cache(_VERSIONS_CACHED)(functools.partial(_known_version, int(major), int(minor)))
        self._version = f"{contract.name} {contract.version}"

    def judge(self, message: Message) -> Reading | Refusal:
        """The reading, with what it is flagged for, or the first thing that is wrong with it."""
        sent = self._plain(message.payload) or decode(message.payload)
        if isinstance(sent, Refusal):
            return sent
        ts_us, seq, session, given, units, version, is_historical = sent
        if version is not None and not (len(version) <= 32 and self._known(version)):
            return Refusal(reasons.UNKNOWN_CONTRACT_VERSION, session, seq, detail=f"the contract is {self._version}")
        if units is not None and (detail := self._wrong_unit(units)):
            return Refusal(reasons.UNKNOWN_UNIT, session, seq, detail=detail)
        if isinstance(given, list):  # a plain payload's values hold already
            values, has_more = given, False
        else:
            found = self._numbers(given) or self._taken(given)
            if isinstance(found, str):
                return Refusal(found, session, seq)
            values, has_more = found, not self._names.issuperset(given)
        if self._first_us is not None and ts_us < self._first_us:
            return Refusal("outside_window", session, seq)
        flags: tuple[str, ...] = ()
        if is_historical:
            flags = (reasons.IS_HISTORICAL,)
        if ts_us > message.received_us + self._ahead_us:
            flags += (reasons.AHEAD_OF_CLOCK,)
        if has_more:
            flags += (reasons.NEW_COLUMN,)
        return Reading(
            message.source,
            message.equipment,
            session,
            seq,
            ts_us,
            values,
            flags,
            message.received_us,
            message.traceparent,
            digest_of(message.payload),
        )

    def _wrong_unit(self, units: Mapping[str, str]) -> str:
        own = self._units
        for name, unit in units.items():
            # A number without a unit is dimensionless, which is written as 1.
            if name in own and unit != own[name] and not (own[name] is None and unit == "1"):
                return f"{name[:LONGEST_NAME]} in {unit[:32]}, in the contract {own[name] or 'without one'}"
        return ""

    def _numbers(self, given: Mapping[str, Any]) -> list[Any] | None:
        """The values if they are numbers as they should be, beside whatever else; None: look more closely."""
        values: list[Any] = []
        take = values.append
        get: Callable[[str], Any] = given.get
        for name, kind, low, high, may_be_silent in self._plain_columns:
            value = get(name)
            own = type(value)  # a truth value is an int to isinstance
            if own is kind:
                if low <= value <= high:
                    take(value)
                    continue
                return None
            if value is None and may_be_silent:
                take(NAN)
            elif kind is float and own is int and low <= value <= high and -(1 << 53) <= value <= 1 << 53:
                take(float(value))
            else:
                return None
        return values

    def _taken(self, given: Mapping[str, Any]) -> list[Any] | str:
        """The values, of whatever types; or the reason, in the order that the row check gives them."""
        values = []
        for column, take in zip(self._columns, self._takes, strict=True):
            value = given.get(column.name)
            if value is not None and (value := take(value)) is _WRONG:
                return f"wrong_type:{column.name}"
            values.append(value)
        for at, (column, limits) in enumerate(zip(self._columns, self._limits, strict=True)):
            value = values[at]
            if value is None:
                if column.required:
                    return f"missing:{column.name}"
                if column.logical_type in _NUMBERS:
                    values[at] = NAN
                continue
            if limits is not None and not limits[0] <= value <= limits[1]:
                return f"out_of_range:{column.name}"
            if column.key and not str(value).strip():
                return f"missing:{column.name}"
            if column.allowed and value not in column.allowed:
                return f"not_allowed:{column.name}"
        return values


def _known_version(major: int, minor: int, version: str) -> bool:
    """Whether rows written for that version hold this one: none of its columns has gone or changed."""
    found = _VERSION.fullmatch(version)
    return found is not None and int(found[1]) == major and int(found[2]) <= minor


def _plain(column: Column) -> PlainColumn | None:
    """None: its values take a closer look."""
    if column.key or column.allowed:
        return None
    limits = _limits(column)
    if column.logical_type == "integer":
        least, most = _whole_range(column)
        low, high = limits or (least, most)
        return PlainColumn(column.name, int, max(low, least), min(high, most), not column.required)
    if limits is None or column.physical_type not in (None, "double"):
        return None
    return PlainColumn(column.name, float, *limits, not column.required)


def _limits(column: Column) -> tuple[Any, Any] | None:
    """The range, both ends included; None where any value will do. Infinity is in no range.

    Of a column of whole numbers it is one of these, if need be: they are `Any`, as what is compiled makes a float of
    all that is said to be one.
    """
    least: Any = column.minimum
    most: Any = column.maximum
    if column.logical_type == "number":
        single = column.physical_type == "float"
        largest = _single(3.4028234663852886e38) if single else sys.float_info.max
        low = -largest if least is None else float(least)  # a float is compared with one in half the time
        high = largest if most is None else float(most)
        return (_single(low), _single(high)) if single else (low, high)
    if column.logical_type == "integer" and (least is not None or most is not None):
        return -math.inf if least is None else least, math.inf if most is None else most
    return None


def _whole_range(column: Column) -> tuple[int, int]:
    bits = _WHOLE_BITS[column.physical_type or "long"]
    return -(1 << bits - 1), (1 << bits - 1) - 1


def _single(value: float) -> float:
    return ctypes.c_float(value).value


def _take(column: Column) -> Callable[[Any], Any]:
    """What turns a value that JSON knows into the column's type, or `_WRONG`."""
    match column.logical_type:
        case "number":
            return _take_single if column.physical_type == "float" else _take_double
        case "integer":
            return functools.partial(_take_whole, *_whole_range(column))
        case "boolean":
            return lambda value: value if type(value) is bool else _WRONG
        case "timestamp":
            return lambda value: _WRONG if (us := timestamp_us(value)) is None else us
        case "date":
            return _take_date
        case _:
            return functools.partial(_take_text, column.required)


def _take_double(value: Any) -> Any:
    """Whole numbers that a double cannot tell from their neighbours are of the wrong type."""
    if type(value) is float:
        return value
    return float(value) if type(value) is int and abs(value) <= 1 << 53 else _WRONG


def _take_single(value: Any) -> Any:
    if type(value) is float:
        return _single(value)
    return float(value) if type(value) is int and abs(value) <= 1 << 24 else _WRONG


def _take_whole(least: int, most: int, value: Any) -> Any:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and least <= value <= most else _WRONG


def _take_date(value: Any) -> Any:
    if type(value) is not str or len(value) != 10:
        return _WRONG
    try:
        return date.fromisoformat(value)
    except ValueError:
        return _WRONG


def _take_text(required: bool, value: Any) -> Any:
    if type(value) is not str:
        return _WRONG
    return value if required or value.strip() else None


class MachineWatch:
    """What only a look at the readings before can tell: that one comes late, or that a sensor is stuck.

    A new process has seen nothing before, and flags the fewer for it.

    Args:
        columns: what `Reading.values` has.
    """

    def __init__(self, contract: Contract, columns: Sequence[str], *, machines: int = MACHINES) -> None:
        rule = contract.rule("stuck_sensors")
        inputs = [columns.index(name) for name in contract.inputs] if rule is not None else []
        self._longest = int(rule.parameters["longest_run"]) if rule is not None and inputs else None
        self._shown = _several(inputs)
        self._most = machines
        self._machines: dict[str, _Machine] = {}
        self._varies: dict[int, set[Any]] = {at: set() for at in range(len(inputs))}
        """Of inputs that have not varied yet, what they have shown."""

    def flags(self, reading: Reading) -> tuple[str, ...]:
        """What to flag this reading for, having seen those before it."""
        machine = self._machines.get(reading.equipment)
        if machine is not None and reading.ts_us <= machine.newest_us:
            return (reasons.LATE,)
        if reasons.AHEAD_OF_CLOCK in reading.flags:
            return ()  # else all that come after it would be late
        shown = self._shown(reading.values)
        if self._varies:
            self._look_for_variation(shown)
        if machine is None:
            if len(self._machines) >= self._most:
                del self._machines[next(iter(self._machines))]
            self._machines[reading.equipment] = _Machine(reading.ts_us, shown)
            return ()
        machine.newest_us = reading.ts_us
        if self._longest is None or machine.longest_run(shown) <= self._longest:
            return ()
        too_long = [at for at, run in enumerate(machine.runs) if run > self._longest]
        return () if self._varies.keys() >= set(too_long) else (reasons.STUCK,)

    def _look_for_variation(self, shown: Sequence[Any]) -> None:
        for at, values in list(self._varies.items()):
            if shown[at] is not NAN:
                values.add(shown[at])
                if len(values) >= _FEWEST_VALUES:
                    del self._varies[at]


def _several(positions: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What takes the values at these positions."""
    if len(positions) > 1:
        return operator.itemgetter(*positions)
    return lambda values: [values[at] for at in positions]


class _Machine:
    """A machine's newest reading, and for how many in a row each of its sensors has shown what it shows.

    Silence neither ends such a run nor counts.
    """

    __slots__ = ("_shown", "newest_us", "runs")

    def __init__(self, newest_us: int, shown: Sequence[Any]) -> None:
        self.newest_us, self._shown = newest_us, shown
        self.runs: Sequence[int] = ()
        """() where no sensor repeats itself."""

    def longest_run(self, shown: Sequence[Any]) -> int:
        """The longest run with what is shown now."""
        before = self._shown
        if not self.runs and NAN not in shown and not any(map(operator.eq, before, shown)):
            self._shown = shown
            return 1
        runs = list(self.runs or (1,) * len(shown))
        kept = list(shown)
        for at, value in enumerate(shown):
            if value is NAN:
                kept[at] = before[at]
            elif value == before[at]:
                runs[at] += 1
            else:
                runs[at] = 1
        self._shown = kept
        longest = max(runs, default=1)
        self.runs = runs if longest > 1 else ()
        return longest


class Equipment:
    """The machines that this gateway serves, by fleet.

    Args:
        fleets: fleet → names or patterns (`*`, `?`, `[...]`; upper and lower case differ). Of fleets whose patterns
            both fit, the one that stands first.
        others_ignored: machines of no fleet are another gateway's business.
    """

    def __init__(self, fleets: Mapping[str, Sequence[str]], *, others_ignored: bool = False) -> None:
        patterns = [(name, re.compile("|".join(map(translate, given)))) for name, given in fleets.items()]
        self._others_ignored = others_ignored

        def look_up(equipment: str) -> str | None:
            if not _is_name(equipment):
                return None
            return next((name for name, pattern in patterns if pattern.match(equipment)), None)

        self._look_up = functools.lru_cache(_NAMES_CACHED)(look_up)

    def fleet(self, equipment: str) -> str | None:
        """The fleet of a machine; None: of none here, or no name for a machine."""
        return self._look_up(equipment) if len(equipment) <= LONGEST_NAME else None

    def ignores(self, equipment: str) -> bool:
        """Whether a machine of no fleet is left to others. What is no name is nobody's, and never ignored."""
        return self._others_ignored and _is_name(equipment)


def _is_name(equipment: str) -> bool:
    return (
        len(equipment) <= LONGEST_NAME
        and equipment.isprintable()
        and equipment.strip() not in ("", ".", "..")
        and _NO_NAME.isdisjoint(equipment)
    )


class ContractJudge:
    """Holds messages against the contract of the machine they are about: `gateway.intake.Judge`.

    Args:
        checks: by fleet.
        watches: by fleet; without one, nothing is told of what came before.
        machines: as many as there may be; None: any number.
    """

    def __init__(
        self,
        equipment: Equipment,
        checks: Mapping[str, ReadingCheck],
        watches: Mapping[str, MachineWatch],
        machines: KnownMachines | None = None,
    ) -> None:
        self._equipment, self._checks, self._watches, self._machines = equipment, checks, watches, machines

    def judge(self, message: Message) -> Reading | Refusal:
        """The reading that a message is, maybe flagged, or why it is none."""
        fleet = self._equipment.fleet(message.equipment)
        if fleet is None and self._equipment.ignores(message.equipment):
            return Refusal(reasons.UNREGISTERED_EQUIPMENT, not_ours=True)
        if message.digest is not None:
            return Refusal(reasons.TOO_LARGE)
        if fleet is None:
            sent = decode(message.payload)
            if isinstance(sent, Refusal):
                return sent
            return Refusal(reasons.UNREGISTERED_EQUIPMENT, sent.session, sent.seq)
        reading = self._checks[fleet].judge(message)
        if not isinstance(reading, Reading):
            return reading
        if (machines := self._machines) is not None:
            if not machines.admits(fleet, reading.equipment):
                return Refusal(reasons.TOO_MANY_MACHINES, reading.session, reading.seq)
            if not machines.admits_sender(reading.source):
                return Refusal(reasons.TOO_MANY_SENDERS, reading.session, reading.seq)
        if (watch := self._watches.get(fleet)) is not None:
            seen = watch.flags(reading)
            if seen:
                return replace(reading, flags=(*reading.flags, *seen))
        return reading
