"""Whatever the bytes, a payload is a reading of the form or has one reason."""

import json
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway import reasons
from gateway.decoding import MAX_BYTES, MAX_DEPTH, Refusal, Sent, decode, digest_of, timestamp_us

GOOD = {"ts": "2025-01-02T12:00:00Z", "seq": 7, "values": {"a": 1.5, "b": None}}
NOON_US = 1_735_819_200_000_000


def sent(**changes: object) -> Sent | Refusal:
    return decode(orjson.dumps(GOOD | changes))


def reason(payload: bytes) -> str | None:
    found = decode(payload)
    return found.reason if isinstance(found, Refusal) else None


def body(text: str) -> bytes:
    """A payload that is good but for what stands for the value of `a`."""
    return b'{"ts":"2025-01-02T12:00:00Z","seq":7,"values":{"a":' + text.encode() + b"}}"


def test_a_reading_comes_out_as_it_was_sent() -> None:
    found = sent(session="s:1", units={"a": "K"}, contract="1.2.0", is_historical=True, kind="telemetry")
    assert found == Sent(NOON_US, 7, "s:1", {"a": 1.5, "b": None}, {"a": "K"}, "1.2.0", True)
    assert sent() == Sent(NOON_US, 7, "", {"a": 1.5, "b": None}, None, None, False)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", reasons.INVALID_JSON),
        (b"\x80\x81", reasons.INVALID_UTF8),
        (b'{"ts": "\xff"}', reasons.INVALID_UTF8),
        (b'"\xed\xa0\x80"', reasons.INVALID_UTF8),
        (b"{", reasons.INVALID_JSON),
        (body("1,"), reasons.INVALID_JSON),
        (body("01"), reasons.INVALID_JSON),
        (body("12,5"), reasons.INVALID_JSON),
        (body('"\\ud800"'), reasons.INVALID_JSON),
        (b"\xef\xbb\xbf" + orjson.dumps(GOOD), reasons.INVALID_JSON),
        (orjson.dumps(GOOD) + b"{}", reasons.INVALID_JSON),
        (body("NaN"), reasons.NOT_FINITE),
        (body("Infinity"), reasons.NOT_FINITE),
        (body("-Infinity"), reasons.NOT_FINITE),
        (body("1e999"), reasons.NOT_FINITE),
        (body("-1e999"), reasons.NOT_FINITE),
        (body("9" * 5000), reasons.TOO_LONG_NUMBER),
        (body("-" + "9" * 5000), reasons.TOO_LONG_NUMBER),
        (body('1,"a":1'), reasons.DUPLICATE_KEY),
        (body('1,"\\u0061":2'), reasons.DUPLICATE_KEY),
        (body('1},"values":{"a":2'), reasons.DUPLICATE_KEY),
        (body('{"b":1,"b":1}'), reasons.DUPLICATE_KEY),
        (body('1,"a":2},"session":"\\u003a","x":{'), reasons.DUPLICATE_KEY),  # what is unescaped has the lost colon
        (body('[{"b":1,"b":1}]'), reasons.DUPLICATE_KEY),
        (body("[" * 100_000), reasons.TOO_DEEP),
        (body("[" * 50 + "]" * 50), reasons.TOO_DEEP),
        (body('{"a":' * 50 + "1" + "}" * 50), reasons.TOO_DEEP),
        (b"[" * 100_000, reasons.TOO_DEEP),
        (b"[]", reasons.NOT_A_READING),
        (b"7", reasons.NOT_A_READING),
        (b"null", reasons.NOT_A_READING),
        (b"{}", reasons.NOT_A_READING),
        (b" " * MAX_BYTES + orjson.dumps(GOOD), reasons.TOO_LARGE),
    ],
)
def test_what_is_no_json_of_one_meaning_has_its_reason(payload: bytes, why: str) -> None:
    assert reason(payload) == why


@pytest.mark.parametrize(
    "changes",
    [
        {"ts": None},
        {"ts": "yesterday"},
        {"ts": "2025-01-02"},
        {"ts": "2025-W01-4T12:00:00"},
        {"ts": "2025-01-02T25:00:00"},
        {"ts": 1_735_819_200},  # seconds
        {"ts": 1_735_819_200_000_000_000},  # nanoseconds
        {"ts": 1_735_819_200_000.5},
        {"ts": True},
        {"seq": None},
        {"seq": -1},
        {"seq": 1 << 63},
        {"seq": 7.0},
        {"seq": "7"},
        {"seq": True},
        {"values": None},
        {"values": [1.5]},
        {"session": 3},
        {"session": "x" * 129},
        {"session": "a\x00b"},
        {"units": ["K"]},
        {"units": {"a": 1}},
        {"contract": 1.2},
        {"is_historical": "yes"},
    ],
)
def test_a_member_of_another_type_makes_it_no_reading(changes: dict[str, object]) -> None:
    found = sent(**changes)
    assert isinstance(found, Refusal)
    assert found.reason == reasons.NOT_A_READING
    assert next(iter(changes)) in found.detail


def test_of_what_is_refused_the_id_is_told_where_it_can_be_read() -> None:
    refused = sent(ts="yesterday", session="s")
    assert isinstance(refused, Refusal)
    assert (refused.session, refused.seq) == ("s", 7)


@pytest.mark.parametrize("key", ["ts", "seq", "values"])
def test_a_missing_member_makes_it_no_reading(key: str) -> None:
    assert reason(orjson.dumps({k: v for k, v in GOOD.items() if k != key})) == reasons.NOT_A_READING


def test_depth_counts_what_nests_and_not_what_stands_in_texts() -> None:
    assert isinstance(sent(note="[" * 1000 + "{" * 1000), Sent)
    assert isinstance(sent(notes=["[]"] * 1000 + [[]] * 1000), Sent)
    deepest = json.loads("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    assert isinstance(sent(note=deepest), Sent)
    assert isinstance(sent(note=[deepest]), Refusal)


@pytest.mark.parametrize(
    ("ts", "us"),
    [
        ("2025-01-02T12:00:00", NOON_US),
        ("2025-01-02 12:00", NOON_US),
        ("2025-01-02T13:00:00+01:00", NOON_US),
        ("2025-01-02T12:00:00.123456789Z", NOON_US + 123_456),
        (NOON_US // 1000, NOON_US),
        (NOON_US, NOON_US),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800_000_000 - 14 * 3_600_000_000),
    ],
)
def test_a_time_is_read_in_utc(ts: object, us: int) -> None:
    assert timestamp_us(ts) == us


MOMENTS = st.datetimes(timezones=st.timezones() | st.just(UTC))


@given(MOMENTS)
def test_a_time_is_the_same_whichever_way_it_is_written(moment: datetime) -> None:
    us = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert timestamp_us(moment.isoformat()) == us
    if 10**14 <= us < 10**17:
        assert timestamp_us(us) == us
        assert timestamp_us(us // 1000) == us // 1000 * 1000


KEYS = st.sampled_from(["a", "b", ":", '"', "\\", "ts", "é", "[", "{"])
TEXTS = st.sampled_from(["", ":", '":', "\\:", "a:b", "{}", "[", "2025-01-02T12:00:00Z"])
LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS


@st.composite
def written(draw: st.DrawFn, depth: int = 2) -> tuple[str, bool]:
    """Some JSON, and whether an object in it has a key twice; keys may be written with escapes."""
    kind = draw(st.sampled_from(["leaf", "object", "list"])) if depth else "leaf"
    if kind == "leaf":
        return json.dumps(draw(LEAVES), ensure_ascii=draw(st.booleans())), False
    if kind == "list":
        items = draw(st.lists(written(depth - 1), max_size=2))
        return "[" + ",".join(text for text, _ in items) + "]", any(twice for _, twice in items)
    return draw(an_object(depth, []))


@st.composite
def an_object(draw: st.DrawFn, depth: int, pairs: list[tuple[str, str]]) -> tuple[str, bool]:
    """An object with these pairs and some more, in any order."""
    others = [(key, *draw(written(depth - 1))) for key in draw(st.lists(KEYS, max_size=3))]
    members = draw(st.permutations([(key, text, False) for key, text in pairs] + others))
    keys = [key for key, _, _ in members]
    colon = draw(st.sampled_from([":", " : "]))
    said = ",".join(_spelled(key, draw(st.booleans())) + colon + text for key, text, _ in members)
    return "{" + said + "}", len(set(keys)) < len(keys) or any(twice for *_, twice in members)


def _spelled(text: str, escaped: bool) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"' if escaped else json.dumps(text, ensure_ascii=False)


@st.composite
def payloads(draw: st.DrawFn) -> tuple[bytes, bool]:
    values, one = draw(an_object(1, [("sensor", "1.5")]))
    units, two = draw(an_object(1, [("sensor", '"K"')]))
    session = _spelled(draw(st.sampled_from(["a:b", ":", "::"])), draw(st.booleans()))
    pairs = [("ts", '"2025-01-02T12:00:00Z"'), ("seq", "7"), ("session", session), ("values", values), ("units", units)]
    text, three = draw(an_object(2, pairs))
    return text.encode(), one or two or three


@settings(max_examples=200)
@given(payloads())
def test_a_key_that_is_there_twice_never_gets_through(drawn: tuple[bytes, bool]) -> None:
    payload, twice = drawn
    found = decode(payload)
    if twice:
        assert found == Refusal(reasons.DUPLICATE_KEY)
    elif isinstance(found, Sent):
        assert found.values == json.loads(payload)["values"]
    else:
        assert found.reason == reasons.NOT_A_READING


PIECES = [
    b'"',
    b"\\",
    b":",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"NaN",
    b"1e999",
    b"\xff",
    b"\x00",
    b"-",
    b"9" * 40,
    b'"a":1,',
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    found = bytearray(orjson.dumps(GOOD | {"session": "s", "units": {"a": "K"}}))
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(found))), draw(st.integers(0, 6))
        found[at : at + length] = draw(st.sampled_from(PIECES) | st.binary(max_size=3))
    return bytes(found)


@settings(max_examples=250)
@given(st.binary(max_size=60) | mutated())
@example(b'{"a":' * 2000)
def test_nothing_is_raised_and_what_is_taken_is_what_python_reads(payload: bytes) -> None:
    found = decode(payload)
    if isinstance(found, Sent):
        read = json.loads(payload, parse_int=float)
        assert found.values == read["values"]
        assert found.seq == read["seq"]
    else:
        assert found.reason


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_another_content_has_another_digest(one: bytes, other: bytes) -> None:
    assert (digest_of(one) == digest_of(other)) == (one == other)
    assert len(digest_of(one)) == 8
