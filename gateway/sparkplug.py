"""Sparkplug B (Eclipse, 3.0) as readings: what births announced is remembered, and messages come out in the JSON form.

Bytes in; messages, dead letters and commands out. Nothing is sent or waited for here.

- A *session* begins with a node's NBIRTH and ends with the NDEATH of the same `bdSeq`. Its ids are of this gateway:
  the node's 0–255 are unwrapped, what was lost is left out, and a payload with several timestamps counts several times.
- A gap in the node's numbers, a device or a node that was not born here and an alias nobody announced ask for a
  rebirth, at most one in `rebirth_every_s` of a node. After a gap, aliases still mean what they meant: they change with
  births only, and what parts two births of a node is a death.
- Sparkplug sends at most once (QoS 0): what is lost between node and gateway is lost. Data that come twice in a
  row give the same messages again; what comes again later gives the same moments of the machine under new ids.

Payloads are parsed with the message class that pysparkplug generated, which is private there: its release is pinned.
What it offers publicly raises for one unknown alias or datatype, does not show properties (`engUnit`), and takes more
than twice as long.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from gateway import reasons
from gateway.ports import Message

NAMESPACE = "spBv1.0"
MAX_BYTES = 1 << 20
"""Of a payload: a birth names every metric of a node."""
NODES, MOST_ROOM = 10_000, 256 << 20
"""That are remembered, and bytes that they take, about; beyond, who was born first has to be born again."""
MOST_READINGS, MOST_MADE = 10_000, 16 << 20
"""Of one payload, and their bytes: as each moment is a reading, with all that the device shows, a megabyte could become
gigabytes."""

_NODE_TYPES = frozenset(("NBIRTH", "NDATA", "NDEATH"))
_DEVICE_TYPES = frozenset(("DBIRTH", "DDATA", "DDEATH"))
_TYPES = _NODE_TYPES | _DEVICE_TYPES
_CONTROLS = ("Node Control/", "Device Control/")
_BD_SEQ, _REBIRTH, _UNIT = "bdSeq", "Node Control/Rebirth", "engUnit"
_SEQ_SPAN = 256
_A_METRIC = 300
"""Bytes that one takes, about, which was announced."""
_LONGEST_NAME = 256
_SCALARS = frozenset(("int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value"))


@dataclass(frozen=True, slots=True)
class Command:
    """To be published to a node."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A payload that became no message, and why: a dead letter."""

    source: str
    equipment: str
    raw: bytes
    reason: str


class Decoded(NamedTuple):
    """What follows from one payload."""

    messages: tuple[Message, ...] = ()
    undecodable: Undecodable | None = None
    commands: tuple[Command, ...] = ()


@dataclass(slots=True)
class _Born:
    """What a birth said of a node's own metrics, or of a device's."""

    names: dict[int, str] = field(default_factory=dict)
    """By alias."""
    types: dict[str, int] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    """What each showed last; only kept where values are held."""
    room: int = 0
    """Bytes that it takes, about."""


class _Last(NamedTuple):
    """What a node sent last, and what it gave."""

    kind: str
    device: str | None
    payload: bytes
    messages: tuple[Message, ...]

    def is_again(self, came: _Came) -> bool:
        """Whether that comes twice."""
        return (came.kind, came.device, came.payload) == (self.kind, self.device, self.payload)


@dataclass(slots=True)
class _Node:
    """A node since its birth. `seq` came last; `number` is the next reading's."""

    session: str
    bd_seq: int | None
    seq: int
    number: int = 0
    devices: dict[str | None, _Born] = field(default_factory=dict)
    """By name; None: the node's own metrics."""
    last: _Last | None = None
    room: int = 0
    """Bytes that it takes, about."""


class _NotDecodable(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SparkplugDecoder:
    """Turns the payloads of any number of nodes into messages: `source` is `group/node`, equipment the device.

    Args:
        columns: metric → column, where they are not of the same name.
        units: `engUnit` as nodes write it → the contract's unit, where they differ.
        hold: nodes report by exception: what a device does not send is as it showed it last. Else it is silent.
        is_equipment: whether a node is a machine; the own metrics of one that is not are left out.
        rebirth_every_s: the least time between two requests to one node.
    """

    def __init__(
        self,
        *,
        columns: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        hold: bool = False,
        is_equipment: Callable[[str], bool] = lambda _: True,
        rebirth_every_s: float = 10.0,
    ) -> None:
        import pysparkplug
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from pysparkplug._protobuf import Payload

        self._parse, self._unparsable = Payload.FromString, DecodeError
        types = pysparkplug.DataType
        self._signed: dict[int, int] = {types.INT8: 8, types.INT16: 16, types.INT32: 32, types.INT64: 64}
        self._text = types.STRING.value
        self._columns, self._units = dict(columns or {}), dict(units or {})
        self._hold, self._is_equipment = hold, is_equipment
        self._rebirth_us = round(rebirth_every_s * 1e6)
        self._nodes: OrderedDict[str, _Node] = OrderedDict()
        self._room = 0
        self._asked_us: OrderedDict[str, int] = OrderedDict()
        """When a node was last asked to be born again."""

    def forget(self) -> None:
        """Know no node any more: after a time without a connection, births may have been missed."""
        self._nodes.clear()
        self._room = 0

    def decode(
        self, topic: str, payload: bytes, received_us: int, traceparent: str | None = None, *, whole: bool = True
    ) -> Decoded:
        """What follows from a payload. Nothing, of topics that carry no readings. Raises nothing, whatever comes.

        Args:
            whole: whether this is all of it; what is not is too large.
        """
        namespace, *parts = topic.split("/")
        if namespace != NAMESPACE or len(parts) < 3 or parts[1] not in _TYPES:
            return Decoded()
        group, kind, name, *device = parts
        source, equipment = f"{group}/{name}", "/".join(device) or name
        came = _Came(source, equipment, device[0] if device else None, kind, payload, received_us, traceparent)
        if len(device) != (1 if kind in _DEVICE_TYPES else 0) or not (group and name and equipment):
            return self._refused(came, reasons.NOT_A_READING)
        if not whole or len(payload) > MAX_BYTES:
            return self._refused(came, reasons.TOO_LARGE)
        try:
            return self._take(came, self._parse(payload))
        except self._unparsable:
            return self._refused(came, reasons.INVALID_PROTOBUF)
        except UnicodeError:  # of protobuf in pure Python
            return self._refused(came, reasons.INVALID_UTF8)
        except _NotDecodable as found:
            return self._refused(came, found.reason)

    def _refused(self, came: _Came, reason: str) -> Decoded:
        again = reason in (reasons.NO_BIRTH, reasons.UNKNOWN_ALIAS)
        commands = self._rebirth(came) if again else ()
        return Decoded((), Undecodable(came.source, came.equipment, came.payload, reason), commands)

    def _take(self, came: _Came, sent: Any) -> Decoded:
        kind = came.kind
        node = self._nodes.get(came.source)
        if kind == "NDEATH":
            bd_seq = _bd_seq(sent)
            if node is not None and (node.bd_seq is None or bd_seq == node.bd_seq):
                self._drop(came.source)  # another bdSeq is of a connection that has been replaced
            return Decoded()
        if not sent.HasField("seq") or sent.seq >= _SEQ_SPAN:
            raise _NotDecodable(reasons.NOT_A_READING)
        lost = 0
        if kind == "NBIRTH":
            node = self._born(came, sent)
        elif node is None:
            raise _NotDecodable(reasons.NO_BIRTH)
        elif sent.seq == node.seq and node.last is not None and node.last.is_again(came):
            return Decoded(node.last.messages)
        else:
            lost = (sent.seq - node.seq - 1) % _SEQ_SPAN
            node.seq = sent.seq
            node.number += lost
        node.last = None
        commands = self._rebirth(came) if lost else ()
        if kind == "DDEATH":
            node.devices.pop(came.device, None)
            self._weigh(came, node)
            return Decoded(commands=commands)
        try:
            messages = self._messages(came, sent, node)
        except _NotDecodable as found:
            self._weigh(came, node)
            refused = self._refused(came, found.reason)
            return refused._replace(commands=commands + refused.commands)
        node.last = _Last(kind, came.device, came.payload, messages)
        self._weigh(came, node)
        return Decoded(messages, None, commands)

    def _born(self, came: _Came, sent: Any) -> _Node:
        """A new session: by the gateway's clock, so that no two births are ever one."""
        bd_seq = _bd_seq(sent)
        node = _Node(f"{'' if bd_seq is None else bd_seq}-{came.received_us}", bd_seq, sent.seq)
        self._drop(came.source)
        self._nodes[came.source] = node
        while len(self._nodes) > NODES:
            self._drop(next(iter(self._nodes)))
        return node

    def _drop(self, name: str) -> None:
        if (node := self._nodes.pop(name, None)) is not None:
            self._room -= node.room

    def _weigh(self, came: _Came, node: _Node) -> None:
        """Count what a node takes by now, and forget nodes where all take too much, be it this one."""
        room = len(came.source) + sum([born.room for born in node.devices.values()])
        if node.last is not None:
            room += len(node.last.payload) + sum([len(message.payload) for message in node.last.messages])
        self._room += room - node.room
        node.room = room
        while self._room > MOST_ROOM:
            self._drop(next(iter(self._nodes)))

    def _rebirth(self, came: _Came) -> tuple[Command, ...]:
        """The request to be born again, unless there was one just now."""
        import pysparkplug

        if len(came.source) > _LONGEST_NAME:
            return ()  # ten thousand of these would be remembered
        asked_us = self._asked_us.get(came.source)
        if asked_us is not None and 0 <= came.received_us - asked_us < self._rebirth_us:
            return ()
        _put(self._asked_us, came.source, came.received_us)
        now_ms = came.received_us // 1000
        metric = pysparkplug.Metric(timestamp=now_ms, name=_REBIRTH, datatype=pysparkplug.DataType.BOOLEAN, value=True)
        payload = pysparkplug.NCmd(timestamp=now_ms, metrics=(metric,)).encode(include_dtypes=True)
        group, name = came.source.split("/")
        return (Command(f"{NAMESPACE}/{group}/NCMD/{name}", payload),)

    def _messages(self, came: _Came, sent: Any, node: _Node) -> tuple[Message, ...]:
        birth = came.kind.endswith("BIRTH")
        if birth:
            born = node.devices[came.device] = self._announced(sent)
            born.room = len(came.payload) + len(born.types) * _A_METRIC
        elif (found := node.devices.get(came.device)) is not None:
            born = found
        else:
            raise _NotDecodable(reasons.NO_BIRTH)
        if came.device is None and not self._is_equipment(came.equipment):
            return ()
        moments = self._moments(sent, born)
        if len(moments) > MOST_READINGS:
            raise _NotDecodable(reasons.TOO_LARGE)
        messages, made = [], 0
        for (ts_ms, is_historical), values in moments.items():
            if self._hold and not is_historical:
                born.room += sum([len(name) + _A_METRIC for name in values if name not in born.shown])
                born.shown.update(values)
                values = born.shown
            form: dict[str, Any] = {"ts": ts_ms, "seq": node.number, "session": node.session, "values": values}
            if born.units:
                form["units"] = born.units
            if is_historical:
                form["is_historical"] = True
            try:
                payload = orjson.dumps(form)
            except orjson.JSONEncodeError as error:
                raise _NotDecodable(reasons.INVALID_UTF8) from error
            if (made := made + len(payload)) > MOST_MADE:
                raise _NotDecodable(reasons.TOO_LARGE)
            messages.append(Message(came.source, came.equipment, payload, came.received_us, came.traceparent))
            node.number += 1
        return tuple(messages)

    def _announced(self, sent: Any) -> _Born:
        born = _Born()
        for metric in sent.metrics:
            name = _name(metric)
            if not name:
                raise _NotDecodable(reasons.NOT_A_READING)
            if metric.HasField("alias"):
                born.names[metric.alias] = name
            born.types[name] = metric.datatype
            if metric.HasField("properties") and (unit := self._unit(metric.properties)) is not None:
                born.units[self._columns.get(name, name)] = unit
        return born

    def _unit(self, properties: Any) -> str | None:
        for key, value in zip(properties.keys, properties.values, strict=False):
            if key == _UNIT and value.type == self._text and isinstance(unit := value.string_value, str):
                return self._units.get(unit, unit)
        return None

    def _moments(self, sent: Any, born: _Born) -> dict[tuple[int, bool], dict[str, Any]]:
        """Values by column, of each timestamp (milliseconds) and whether it is of the past."""
        sent_ms = sent.timestamp if sent.HasField("timestamp") else None
        found: dict[tuple[int, bool], dict[str, Any]] = {}
        for metric in sent.metrics:
            name = _name(metric)
            if not name:
                if not metric.HasField("alias"):
                    raise _NotDecodable(reasons.NOT_A_READING)
                if (known := born.names.get(metric.alias)) is None:
                    raise _NotDecodable(reasons.UNKNOWN_ALIAS)
                name = known
            if name == _BD_SEQ or name.startswith(_CONTROLS):
                continue
            held_in = metric.WhichOneof("value")
            if held_in is None or metric.is_null:
                value = None
            elif held_in in _SCALARS:
                value = self._value(getattr(metric, held_in), held_in, metric.datatype or born.types.get(name, 0))
            else:
                continue  # tables, templates and bytes are no readings
            ts_ms = metric.timestamp if metric.HasField("timestamp") else sent_ms
            if ts_ms is None:
                raise _NotDecodable(reasons.NOT_A_READING)
            values = found.setdefault((ts_ms, metric.is_historical), {})
            column = self._columns.get(name, name)
            if column in values:
                raise _NotDecodable(reasons.DUPLICATE_KEY)
            values[column] = value
        return found

    def _value(self, value: Any, held_in: str, datatype: int) -> Any:
        if held_in == "float_value" or held_in == "double_value":
            if math.isinf(value):
                raise _NotDecodable(reasons.NOT_FINITE)
            return None if math.isnan(value) else value
        bits = self._signed.get(datatype)
        if bits is None or held_in not in ("int_value", "long_value"):
            return value
        # Protobuf's fields are unsigned. Some senders fill up with the sign to the field's end, some to the type's.
        width = 32 if held_in == "int_value" else 64
        if value >= 1 << width - 1:
            value -= 1 << width
        elif 1 << bits - 1 <= value < 1 << bits:
            value -= 1 << bits
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise _NotDecodable(reasons.NOT_A_READING)
        return value


class _Came(NamedTuple):
    """A payload and where it came from. `device` is None of a node's own."""

    source: str
    equipment: str
    device: str | None
    kind: str
    payload: bytes
    received_us: int
    traceparent: str | None


def _name(metric: Any) -> str:
    name = metric.name
    if type(name) is not str:  # protobuf hands over what is no text as bytes
        raise _NotDecodable(reasons.INVALID_UTF8)
    return name


def _bd_seq(sent: Any) -> int | None:
    for metric in sent.metrics:
        if metric.name == _BD_SEQ:
            return int(metric.long_value if metric.HasField("long_value") else metric.int_value)
    return None


def _put(known: OrderedDict[str, Any], name: str, value: object) -> None:
    known[name] = value
    known.move_to_end(name)
    if len(known) > NODES:
        known.popitem(last=False)
