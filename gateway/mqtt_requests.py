"""The packets that an MQTT client sends, in bytes, at QoS 0 and 1.

As OASIS MQTT 5.0 has them (3.1 CONNECT, 3.3 PUBLISH, 3.4 PUBACK, 3.8 SUBSCRIBE, 3.12 PINGREQ, 3.14 DISCONNECT), and
3.1.1 (3, the same numbers).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

PING, DISCONNECT = b"\xc0\0", b"\xe0\0"

_PUBACK, _PUBACK_WHY = struct.Struct("!BBH"), struct.Struct("!BBHB")
_EXPIRY_AND_BOUNDS = struct.Struct("!BIBHBI")
_SESSION_EXPIRY, _RECEIVE_MAXIMUM, _MAXIMUM_PACKET_SIZE = 0x11, 0x21, 0x27
_CLEAN, _WILL_AT_QOS_1_RETAINED, _PASSWORD, _USERNAME = 0x02, 0x2C, 0x40, 0x80
_TRACEPARENT = b"\x26\0\x0btraceparent"
_QOS_1, _NOT_AGAIN = 1, 0x10
"""Options of a subscription: the second has retained messages sent where it is new only (MQTT 5)."""


def connect(
    client_id: str,
    *,
    v5: bool,
    keepalive_s: int,
    session_expiry_s: int,
    receive_maximum: int,
    maximum_packet_size: int,
    will: tuple[str, bytes] | None,
    credentials: tuple[str, str] | None,
) -> bytes:
    """CONNECT.

    Args:
        session_expiry_s: 0: no session is kept, nor one from before taken up.
        receive_maximum, maximum_packet_size: only MQTT 5 can say so.
        will: topic and payload, to be retained.
    """
    flags = _CLEAN if session_expiry_s == 0 else 0
    payload = _text(client_id.encode())
    if will is not None:
        flags |= _WILL_AT_QOS_1_RETAINED
        payload += (b"\0" if v5 else b"") + _text(will[0].encode()) + _text(will[1])
    if credentials is not None:
        flags |= _USERNAME | _PASSWORD
        payload += b"".join(_text(each.encode()) for each in credentials)
    told = b""
    if v5:
        told = _EXPIRY_AND_BOUNDS.pack(
            _SESSION_EXPIRY,
            session_expiry_s,
            _RECEIVE_MAXIMUM,
            receive_maximum,
            _MAXIMUM_PACKET_SIZE,
            maximum_packet_size,
        )
        told = _variable(len(told)) + told
    protocol = _text(b"MQTT") + bytes([5 if v5 else 4, flags]) + keepalive_s.to_bytes(2)
    return _packet(0x10, protocol + told + payload)


def subscribe(number: int, filters: Sequence[str], *, v5: bool) -> bytes:
    """SUBSCRIBE at QoS 1."""
    options = bytes([_QOS_1 | _NOT_AGAIN if v5 else _QOS_1])
    wanted = b"".join(_text(each.encode()) + options for each in filters)
    return _packet(0x82, number.to_bytes(2) + (b"\0" if v5 else b"") + wanted)


def publish(
    topic: str,
    payload: bytes,
    *,
    v5: bool,
    number: int | None = None,
    retain: bool = False,
    traceparent: str | None = None,
) -> bytes:
    """PUBLISH, at QoS 0 without a number.

    Args:
        traceparent: only MQTT 5 can say so.
    """
    middle = b"" if number is None else number.to_bytes(2)
    if v5:
        told = b"" if traceparent is None else _TRACEPARENT + _text(traceparent.encode())
        middle += _variable(len(told)) + told
    return _packet(0x30 | (0 if number is None else 2) | retain, _text(topic.encode()) + middle + payload)


def acknowledge(number: int, reason: int = 0) -> bytes:
    """PUBACK.

    Args:
        reason: a code of MQTT 5, which 3.1.1 does not know: 0 there.
    """
    return _PUBACK_WHY.pack(0x40, 3, number, reason) if reason else _PUBACK.pack(0x40, 2, number)


def _packet(head: int, body: bytes) -> bytes:
    return b"%c%b%b" % (head, _variable(len(body)), body)


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2) + text


def _variable(number: int) -> bytes:
    """A number as MQTT writes lengths: seven bits a byte."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)
