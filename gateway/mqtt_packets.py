"""PUBLISH packets at QoS 1 in the bytes of a connection: they are nearly all that comes from a broker.

As OASIS MQTT 5.0 has them (2.1.1 fixed header, 1.5.5 variable byte integer, 3.3 PUBLISH), and 3.1.1 (2.2, 3.3), which
knows no properties:

    0011 D01R | remaining length, 1 to 4 bytes | topic length u16 | topic | packet identifier u16 | properties | payload

What is anything else, or wrong, or not there to its end is not looked into here.
"""

from __future__ import annotations

Arrived = tuple[str, bytes, int | None, str | None]
"""A message: topic, payload, the identifier it is acknowledged by (None at QoS 0), and its trace context."""

_QOS_1, _BUT_DUP_AND_RETAIN = 0x32, 0xF6
_LONGEST_LENGTH = 4
_SHORTEST = 2 + 1 + 2
"""Of what follows the length: a topic of one character, and the identifier."""


def plain_publishes(data: bytes, at: int, *, v5: bool) -> tuple[list[Arrived], int]:
    """The packets that stand in a row from `at`, and where the first begins that is none, is not whole or has
    properties.
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
        if after > end or size < _SHORTEST:
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


def packet_end(data: bytes, at: int) -> int | None:
    """Where the packet at `at`, of any kind, ends; None where it is not there to its end, or nobody can tell."""
    if (length := _length(data, at + 1)) is None:
        return None
    size, begin = length
    return begin + size if begin + size <= len(data) else None


def _length(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable byte integer, and where it ends."""
    size = 0
    for place, byte in enumerate(data[at : at + _LONGEST_LENGTH]):
        size |= (byte & 127) << 7 * place
        if byte < 128:
            return size, at + place + 1
    return None
