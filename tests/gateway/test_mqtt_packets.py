"""Packets are read as gmqtt reads them, wherever the line cuts them, and whatever is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from gmqtt.mqtt.connection import MQTTConnection
from gmqtt.mqtt.protocol import MQTTProtocol
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.mqtt_connection import Broker, Connection
from gateway.mqtt_packets import Arrived, packet_end, plain_publishes


def length(number: int, bytes_at_least: int = 1) -> bytes:
    written = bytearray()
    while number > 127 or len(written) + 1 < bytes_at_least:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


def publish(
    topic: bytes, payload: bytes, number: int = 1, *, head: int = 0x32, properties: bytes | None = b"\0"
) -> bytes:
    """`properties` is None under 3.1.1."""
    body = (
        len(topic).to_bytes(2) + topic + (b"" if head & 6 == 0 else number.to_bytes(2)) + (properties or b"") + payload
    )
    return bytes([head]) + length(len(body)) + body


async def read(pieces: Sequence[bytes], *, v5: bool, quickly: bool) -> tuple[list[Arrived], bytes, bool]:
    """What a connection takes from bytes that come in these pieces, what is left of them, and whether it broke."""
    arrived: list[Arrived] = []
    connection = Connection(
        Broker("mqtt://nowhere", 5 if v5 else "3.1.1"),
        "me",
        lambda these: arrived.extend(these),
        session_expiry_s=0,
        receive_maximum=10,
        keepalive_s=10,
    )
    client: Any = connection._client
    client._connection_state.protocol_version = connection.protocol
    handler = client._package_handler
    protocol = MQTTProtocol(connection_state=client._connection_state, id_generator=handler.id_generator)
    transport = SimpleNamespace(is_closing=lambda: False, write=lambda _: None)
    made: Any = MQTTConnection(transport, protocol, clean_session=True, keepalive=10, package_handler=handler)
    made._keep_connection_callback.cancel()
    client._connection = made
    if quickly:
        connection.read_from(made)
    left = b""
    for piece in pieces:  # as gmqtt's `_read_loop` does it
        left += piece
        if (size := protocol._read_packet(left)) == -1:
            return arrived, left, True
        left = left[size:]
    return arrived, left, False


TOPICS = st.sampled_from([b"a", b"hybrid/x/P-1/telemetry", "é/ü".encode(), b"", b"\xff/", b"t" * 200])
PAYLOADS = st.binary(max_size=8) | st.sampled_from(
    [b"", b"x" * 120, b"y" * 127, b"z" * 16_384, b"\x32\x07\0\1a\0\1\0\0"]
)
TRACE = b"\x26\0\x0btraceparent\0\x0500-ab"
PROPERTIES = st.sampled_from(
    [b"\0", b"\0", b"\0", length(len(TRACE)) + TRACE, b"\x02\x01\x01", b"\x05\x01", b"\x80\0", b"\x02\x7f\0"]
)
HEADS = st.sampled_from([0x32, 0x32, 0x32, 0x3A, 0x33, 0x30, 0x34, 0x36])
WELL_FORMED = st.builds(
    lambda topic, payload, number, head, properties: publish(topic, payload, number, head=head, properties=properties),
    TOPICS,
    PAYLOADS,
    st.integers(0, 65_535),
    HEADS,
    PROPERTIES,
)
OTHERS = st.sampled_from([b"\x40\x02\0\x05", b"\xd0\0", b"\x40\x03\0\x05\0", b"\xf0\0", b"\x90\x04\0\1\0\1"])
ODD = st.sampled_from(
    [
        b"\x32\0", b"\x32\x04\0\1a\0", b"\x32\x05\0\1a\0\1", b"\x32\x06\0\x09a\0\1\0", b"\x32\x06\xff\xffa\0\1\0",
        b"\x32\x80\0", b"\x32\x88\x80\0\0\1a\0\1\0xy", b"\x32\xff\xff\xff\xff\x01" + b"x" * 9,
        b"\x32\x87\0\0\1a\0\1\0z", b"\x32\xff\xff\xff\x7f", b"\x32", b"\x00\0",
        b"\x32\x80\x80\x80\x80\0" + b"x" * 9, b"\x32\x81\x80\x80\0x",
    ]
)  # fmt: skip
STREAMS = st.lists(WELL_FORMED | WELL_FORMED | OTHERS | ODD, max_size=8).map(b"".join)


@settings(max_examples=200)
@given(STREAMS, st.lists(st.integers(0, 60_000), max_size=6), st.booleans())
@example(publish(b"a", b"1") + b"\x32\x80\x80\x80\x80\0" + publish(b"a", b"2"), [], True)
@example(b"\x32\x81\x80\x80\0x", [], True)
@example(publish(b"a", b"1") + b"\x40\x02\0\x05" + publish(b"a", b"2"), [], True)
@example(
    publish(b"a", b"1") + publish(b"a", b"2", properties=length(len(TRACE)) + TRACE) + publish(b"a", b"3"), [], True
)
def test_bytes_are_read_as_gmqtt_reads_them_wherever_they_are_cut(data: bytes, cuts: list[int], v5: bool) -> None:
    at = sorted(cut % (len(data) + 1) for cut in cuts)
    pieces = [data[begin:end] for begin, end in zip([0, *at], [*at, len(data)], strict=True)]

    async def both() -> None:
        assert await read(pieces, v5=v5, quickly=True) == await read(pieces, v5=v5, quickly=False)

    asyncio.run(both())


@pytest.mark.parametrize("v5", [True, False])
@pytest.mark.parametrize("size", [0, 1, 110, 127, 128, 16_383, 16_384, 2_097_152])
def test_plain_packets_of_any_size_are_taken_in_a_row(size: int, v5: bool) -> None:
    none = b"\0" if v5 else None
    first = publish("hybrid/é".encode(), b"x" * size, 65_535, properties=none)
    second = publish(b"b", b"{}", 7, head=0x3B, properties=none)
    data = b"??" + first + second + first[:-1]
    found, at = plain_publishes(data, 2, v5=v5)
    assert found == [("hybrid/é", b"x" * size, 65_535, None), ("b", b"{}", 7, None)]
    assert at == 2 + len(first) + len(second)
    assert packet_end(data, 2) == 2 + len(first)


def test_the_row_ends_where_a_closer_look_is_needed() -> None:
    plain = publish(b"a", b"1")
    for other in (b"\x40\x02\0\x05", publish(b"a", b"", properties=length(len(TRACE)) + TRACE), publish(b"", b"1")):
        assert plain_publishes(plain + other + plain, 0, v5=True)[1] == len(plain)
