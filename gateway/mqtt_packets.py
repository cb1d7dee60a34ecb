"""MQTT packets out of the bytes of a connection, in whatever pieces these come, as a client at QoS 0 and 1 reads them.

As OASIS MQTT 5.0 has them (2.1.1 fixed header, 1.5.5 variable byte integer, 2.2.2 properties, 3.3 PUBLISH), and 3.1.1
(2.2, 3.3), which knows no properties. PUBLISH at QoS 1 is nearly all that comes from a broker:

    0011 D01R | remaining length, 1 to 4 bytes | topic length u16 | topic | packet identifier u16 | properties | payload

A packet may have 256 MiB, and any of a broker's clients can have it sent one: of a message that is larger than `most`
only the beginning is gathered, and the rest counted, digested and thrown away as it comes. A byte is copied a few
times at most, whatever the pieces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from gateway.decoding import DIGEST_BYTES
from gateway.trace_context import trace_context

Arrived = tuple[str, bytes, int | None, str | None]
"""A message: topic, payload, the identifier it is acknowledged by (None at QoS 0), and its trace
context, if that is one."""

MOST_BYTES = (1 << 20) + (1 << 17)
"""Of a packet after its length: the largest payload that is read here, a Sparkplug birth's 1 MiB, with room for a
topic and properties."""
USER_PROPERTY, RECEIVE_MAXIMUM, SERVER_KEEP_ALIVE = 0x26, 0x21, 0x13

_PUBLISH, _QOS_1, _BUT_DUP_AND_RETAIN = 3, 0x32, 0xF6
_LONGEST_LENGTH = 4
_SHORTEST = 2 + 1 + 2
"""Of what follows the length: a topic of one character, and the identifier."""
_LOOKED_AT = 4096
"""Bytes of properties: a megabyte of them would take a tenth of a second."""
_SIZES = {
    0x01: 1, 0x02: 4, 0x11: 4, SERVER_KEEP_ALIVE: 2, 0x17: 1, 0x19: 1, RECEIVE_MAXIMUM: 2, 0x22: 2, 0x23: 2,
    0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
"""Of properties that are numbers."""
_TEXTS = frozenset((0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F))
"""Properties that are a text, or bytes."""


class TooLarge(NamedTuple):
    """A message that was not gathered, told once its last byte has come.

    Attributes:
        arrived: its payload is about as much as a packet may have, the beginning.
        digest: `gateway.decoding.digest_of` the whole payload.
    """

    arrived: Arrived
    digest: bytes


class Packet(NamedTuple):
    """One that is no PUBLISH: the first byte, and what follows its length."""

    head: int
    body: bytes


Found = list[Arrived] | TooLarge | Packet


class Packets:
    """What comes on one connection.

    Args:
        most: bytes of a packet, after its length; more than topic and properties have.

    Attributes:
        broken: why what came is no MQTT that a client is sent; nothing more is found then.
    """

    def __init__(self, *, v5: bool, most: int = MOST_BYTES) -> None:
        self._v5, self._most = v5, most
        self._begun = bytearray()
        """The beginning of a packet."""
        self._need = 0
        """Bytes of it that there must be before there is anything to do."""
        self._skipping: _Skipping | None = None
        self.broken: str | None = None

    @property
    def held(self) -> int:
        """Bytes that wait for more of their packet."""
        return len(self._begun) + (0 if self._skipping is None else self._skipping.held)

    def feed(self, data: bytes) -> list[Found]:
        """What has become whole with the bytes that came, in order; messages that follow each other are one list."""
        if self._begun:
            self._begun += data
            if len(self._begun) < self._need:
                return []
            data = bytes(self._begun)
            self._begun = bytearray()
        found: list[Found] = []
        if self.broken is None:
            try:
                self._take(data, found)
            except _Malformed as error:
                self.broken = str(error)
        return found

    def _take(self, data: bytes, found: list[Found]) -> None:
        at = 0
        while True:
            if (skipping := self._skipping) is not None:
                at = skipping.skip(data, at)
                if skipping.left:
                    return
                found.append(skipping.told())
                self._skipping = None
            arrived, at = plain_publishes(data, at, v5=self._v5, most=self._most)
            if arrived:
                _add(found, arrived)
            if at == len(data):
                return
            if (length := _length(data, at + 1)) is None:
                if len(data) - at > _LONGEST_LENGTH:
                    raise _Malformed("a length of more than four bytes")
                self._wait(data, at, len(data) + 1)
                return
            size, begin = length
            end = begin + min(size, self._most)
            if data[at] >> 4 == _PUBLISH:
                if end > len(data):
                    self._wait(data, at, end)
                    return
                came = _message(data[at], data[begin:end], self._v5, whole=size <= self._most)
                if size > self._most:
                    self._skipping = _Skipping(came, size - self._most)
                else:
                    _add(found, [came])
            elif size > self._most:
                raise _Malformed(f"a packet of {size} bytes that is no message")
            elif end > len(data):
                self._wait(data, at, end)
                return
            else:
                found.append(Packet(data[at], data[begin:end]))
            at = end

    def _wait(self, data: bytes, at: int, end: int) -> None:
        """Keep what is there of a packet until it is there to `end`."""
        self._begun += data[at:]
        self._need = end - at


def plain_publishes(data: bytes, at: int, *, v5: bool, most: int = MOST_BYTES) -> tuple[list[Arrived], int]:
    """The packets that stand in a row from `at`, and where the first begins that takes a closer look: it is no PUBLISH
    at QoS 1, is not whole, is too large or has properties.
    """
    found: list[Arrived] = []
    add, end = found.append, len(data)
    before_payload = 3 if v5 else 2  # the identifier, and that there are no properties
    while at + _SHORTEST < end and data[at] & _BUT_DUP_AND_RETAIN == _QOS_1:
        size, head = data[at + 1], at + 2
        if size > 127:
            size, head = size - 128 + (data[head] << 7), head + 1
            if size >> 14:  # a length of more than two bytes, or none
                if (length := _length(data, at + 1)) is None:
                    break
                size, head = length
        after = head + size
        if after > end or size < _SHORTEST or size > most:
            break
        name = head + 2
        number = name + (data[head] << 8) + data[head + 1]
        begin = number + before_payload
        if begin > after or number == name or (v5 and data[begin - 1]):
            break
        try:
            topic = data[name:number].decode()
        except UnicodeDecodeError:
            break
        add((topic, data[begin:after], (data[number] << 8) + data[number + 1], None))
        at = after
    return found, at


def properties(data: bytes, at: int) -> tuple[list[tuple[int, bytes, bytes]], int]:
    """Identifiers, names and values, as far as they can be read, and where the properties that begin at `at` end: where
    they are not whole, beyond the data. User properties only have names.
    """
    if (length := _length(data, at)) is None:
        return [], len(data) + 1
    size, begin = length
    return list(_properties(data[begin : begin + min(size, _LOOKED_AT)])), begin + size


class _Malformed(Exception):
    """No bytes that a broker sends to a client."""


class _Skipping:
    """A message that is too large, from when its beginning is there.

    Attributes:
        left: bytes of it that have not come.
        held: bytes of the beginning.
    """

    def __init__(self, beginning: Arrived, left: int) -> None:
        self._beginning, self.left = beginning, left
        self.held = len(beginning[1])
        self._digest = hashlib.blake2b(beginning[1], digest_size=DIGEST_BYTES)

    def skip(self, data: bytes, at: int) -> int:
        """Where it ends, or what has come of it."""
        end = min(at + self.left, len(data))
        self._digest.update(data[at:end])
        self.left -= end - at
        return end

    def told(self) -> TooLarge:
        return TooLarge(self._beginning, self._digest.digest())


def _add(found: list[Found], arrived: list[Arrived]) -> None:
    if found and isinstance(last := found[-1], list):
        last += arrived
    else:
        found.append(arrived)


def _message(head: int, body: bytes, v5: bool, *, whole: bool) -> Arrived:
    """A PUBLISH, or its beginning."""
    if (qos := head >> 1 & 3) > 1:
        raise _Malformed("a message at QoS 2, which was not asked for")
    end = 2 + int.from_bytes(body[:2], "big")
    begin = end + (2 if qos else 0)
    number = int.from_bytes(body[end:begin], "big") if qos else None
    trace: str | None = None
    if v5:
        told, begin = properties(body, begin)
        trace = _traceparent(told)
    if begin > len(body) and whole:
        raise _Malformed("a message that ends before its payload")
    # What is no text is nobody's topic; it is to be settled all the same.
    return body[2:end].decode("utf-8", "replace"), body[begin:], number, trace


def _traceparent(told: list[tuple[int, bytes, bytes]]) -> str | None:
    for identifier, name, value in told:
        named = identifier == USER_PROPERTY and name == b"traceparent"
        if named and (trace := trace_context(value.decode("utf-8", "replace"))) is not None:
            return trace
    return None


def _properties(told: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    at = 0
    while at < len(told):
        identifier, at = told[at], at + 1
        name = b""
        if identifier in _SIZES:
            end = at + _SIZES[identifier]
        elif identifier in _TEXTS or identifier == USER_PROPERTY:
            if identifier == USER_PROPERTY:
                size = int.from_bytes(told[at : at + 2], "big")
                name, at = told[at + 2 : at + 2 + size], at + 2 + size
            size, at = int.from_bytes(told[at : at + 2], "big"), at + 2
            end = at + size
        else:
            # The one that is a number of any length, or one that is not known: nothing after it is looked for.
            if identifier != 0x0B or (length := _length(told, at)) is None:
                return
            end = length[1]
        if end > len(told):
            return
        yield identifier, name, told[at:end]
        at = end


def _length(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable byte integer, and where it ends; None where it is not there to its end, or is none."""
    size = 0
    for place, byte in enumerate(data[at : at + _LONGEST_LENGTH]):
        size |= (byte & 127) << 7 * place
        if byte < 128:
            return size, at + place + 1
    return None
