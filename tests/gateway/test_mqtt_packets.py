"""What comes out of a connection's bytes, wherever the line cuts them, whatever their size, and whatever is wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.decoding import digest_of
from gateway.mqtt_packets import MOST_BYTES, Arrived, Found, Packet, Packets, TooLarge, plain_publishes

MOST = 400
"""Bytes of a packet, in most tests here."""
TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"


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


def read(pieces: Sequence[bytes], *, v5: bool, most: int = MOST) -> tuple[list[Arrived | TooLarge | Packet], bool]:
    """What is found in bytes that come in these pieces, one by one, and whether they were no MQTT."""
    packets, found = Packets(v5=v5, most=most), list[Found]()
    for piece in pieces:
        found += packets.feed(piece)
    single = [one for each in found for one in (each if isinstance(each, list) else [each])]
    return single, packets.broken is not None


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    at = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[begin:end] for begin, end in zip([0, *at], [*at, len(data)], strict=True)]


def user_property(name: bytes, value: bytes) -> bytes:
    return b"\x26" + len(name).to_bytes(2) + name + len(value).to_bytes(2) + value


TRACED = user_property(b"traceparent", TRACE.encode())
NO_TRACE = user_property(b"traceparent", b"x" * 55)
OTHER_PROPERTIES = [
    NO_TRACE,
    b"\x01\x01",
    b"\x02\0\0\0\x09",
    b"\x03\0\x01x",
    b"\x0b\x81\x01",
    user_property(b"a", b"traceparent"),
]
Expected = tuple[bytes, Arrived | TooLarge | Packet]


@st.composite
def messages(draw: st.DrawFn, v5: bool) -> Expected:
    """A PUBLISH, and what it is to be taken for."""
    topic = draw(st.sampled_from(["a", "hybrid/x/P-1/telemetry", "é/ü", "t" * 200]))
    payload = draw(
        st.binary(max_size=8) | st.integers(0, 3 * MOST).map(lambda size: bytes(n % 251 for n in range(size)))
    )
    head = draw(st.sampled_from([0x32, 0x32, 0x3A, 0x33, 0x30, 0x31]))
    number = draw(st.integers(0, 65_535))
    told, trace = None, None
    if v5:
        given_ = draw(st.lists(st.sampled_from([TRACED, *OTHER_PROPERTIES]), max_size=2, unique=True))
        trace = TRACE if TRACED in given_ else None
        told = b"".join(given_)
        told = length(len(told)) + told
    packet = publish(topic.encode(), payload, number, head=head, properties=told)
    arrived = topic, payload, number if head & 6 else None, trace
    size = len(packet) - 1 - len(length(len(packet) - 3))
    if (over := size - MOST) > 0:
        return packet, TooLarge((topic, payload[: len(payload) - over], *arrived[2:]), digest_of(payload))
    return packet, arrived


OTHERS = st.sampled_from([(0x40, b"\0\5"), (0xD0, b""), (0x90, b"\0\1\1"), (0x20, b"\0\0"), (0xE0, b"\x8e\0")]).map(
    lambda packet: (bytes([packet[0]]) + length(len(packet[1])) + packet[1], Packet(*packet))
)


@settings(max_examples=300)
@given(st.data(), st.booleans(), st.lists(st.integers(0, 60_000), max_size=12))
def test_the_same_is_found_wherever_the_line_cuts_the_bytes(data: st.DataObject, v5: bool, cuts: list[int]) -> None:
    sent = data.draw(st.lists(messages(v5) | messages(v5) | OTHERS, max_size=8))
    whole = b"".join(packet for packet, _ in sent)
    expected = [what for _, what in sent]
    assert read(cut(whole, cuts), v5=v5) == (expected, False)
    assert read([whole[at : at + 1] for at in range(len(whole))], v5=v5) == (expected, False)


ODD = st.sampled_from(
    [
        b"\x32\0", b"\x32\x04\0\1a\0", b"\x32\x05\0\1a\0\1", b"\x32\x06\0\x09a\0\1\0", b"\x32\x06\xff\xffa\0\1\0",
        b"\x32\x80\0", b"\x32\x88\x80\0\0\1a\0\1\0xy", b"\x32\xff\xff\xff\xff\x01" + b"x" * 9,
        b"\x32\x87\0\0\1a\0\1\0z", b"\x32\xff\xff\xff\x7f", b"\x32", b"\x00\0", b"\x34\x07\0\1a\0\1\0z",
        b"\x32\x80\x80\x80\x80\0" + b"x" * 9, b"\x32\x81\x80\x80\0x", b"\x90\xff\x7f", b"\x32\x06\0\1\xff\0\1\0",
        b"\x32\x08\0\1a\0\1\x7fxy", b"\x32\x08\0\1a\0\1\x02\x7fx",
    ]
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(ODD | messages(v5=True).map(lambda m: m[0]) | st.binary(max_size=40), max_size=6).map(b"".join),
       st.lists(st.integers(0, 60_000), max_size=12), st.booleans())  # fmt: skip
@example(publish(b"a", b"1") + b"\x32\x80\x80\x80\x80\0" + publish(b"a", b"2"), [], True)
def test_whatever_comes_the_same_is_found_wherever_it_is_cut_and_nothing_is_raised(
    data: bytes, cuts: list[int], v5: bool
) -> None:
    assert read(cut(data, cuts), v5=v5) == read([data], v5=v5)


def test_what_came_before_bytes_that_are_no_mqtt_is_found_and_nothing_after_them() -> None:
    good, bad = publish(b"a", b"1"), b"\x32\xff\xff\xff\xff\x01"
    for pieces in ([good + bad + good], [good, bad, good]):
        assert read(pieces, v5=True) == ([("a", b"1", 1, None)], True)


def test_a_topic_that_is_no_text_does_not_keep_its_message_from_being_settled() -> None:
    found, broken = read([publish(b"\xff/a", b"1", 7)], v5=True)
    assert (found, broken) == ([("\ufffd/a", b"1", 7, None)], False)


@pytest.mark.parametrize("v5", [True, False])
def test_a_message_of_any_size_takes_memory_for_its_beginning_and_time_for_its_bytes(v5: bool) -> None:
    size, piece = 200 << 20, bytes(1 << 16)
    head = b"\x32" + length(size) + b"\0\1a\0\7" + (b"\0" if v5 else b"")
    packets, found, began = Packets(v5=v5), list[Found](), time.process_time()
    found += packets.feed(publish(b"a", b"1", 6, properties=b"\0" if v5 else None) + head)
    left = size - (len(head) - 5)
    while left:
        found += packets.feed(piece[:left])
        left -= min(left, len(piece))
        held = packets.held
        assert held <= MOST_BYTES + len(piece)
    assert time.process_time() - began < 10  # gathered by copying, 640 GiB would have been copied
    first, large = found
    assert first == [("a", b"1", 6, None)]
    assert isinstance(large, TooLarge)
    assert (large.arrived[0], large.arrived[2], large.arrived[3]) == ("a", 7, None)
    assert MOST_BYTES - 8 <= len(large.arrived[1]) < MOST_BYTES


@pytest.mark.parametrize("v5", [True, False])
@pytest.mark.parametrize("size", [0, 1, 110, 127, 128, 16_383, 16_384, 1_048_576])
def test_plain_packets_of_any_size_are_taken_in_a_row(size: int, v5: bool) -> None:
    none = b"\0" if v5 else None
    first = publish("hybrid/é".encode(), b"x" * size, 65_535, properties=none)
    second = publish(b"b", b"{}", 7, head=0x3B, properties=none)
    data = b"??" + first + second + first[:-1]
    found, at = plain_publishes(data, 2, v5=v5)
    assert found == [("hybrid/é", b"x" * size, 65_535, None), ("b", b"{}", 7, None)]
    assert at == 2 + len(first) + len(second)


def test_the_row_ends_where_a_closer_look_is_needed() -> None:
    plain = publish(b"a", b"1")
    traced = publish(b"a", b"", properties=length(len(TRACED)) + TRACED)
    for other in (b"\x40\x02\0\x05", traced, publish(b"", b"1"), publish(b"a", bytes(MOST))):
        assert plain_publishes(plain + other + plain, 0, v5=True, most=MOST)[1] == len(plain)
