"""The quick way takes what the slow way takes, with the same reading, and nothing else."""

from datetime import date

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backbone.contracts import Column, Contract
from gateway.contract_check import ContractJudge, Equipment, ReadingCheck
from gateway.decoding import MAX_BYTES, Reading
from gateway.plain_payloads import PlainColumn, plain_decoder
from gateway.ports import Message

COLUMNS = (
    Column("lift", "number", unit="mm", required=True, minimum=-1, maximum=50),
    Column("heat", "number", unit="degC", minimum=-40),
    Column("share", "number"),
    Column("strokes", "integer", physical_type="integer", minimum=0),
    Column("count", "integer"),
)
NOTE = Column("note", "string")
"""No column of numbers: with it there is no quick way."""
NOON_US = 1_735_819_200_000_000


def judge(*columns: Column) -> ContractJudge:
    key = (
        Column("equipment_id", "string", required=True, key=True),
        Column("ts", "timestamp", required=True, key=True),
    )
    check = ReadingCheck(
        Contract("valve", "1.2.3", "", "reliability", key + columns), ahead_s=600.0, first_day=date(2025, 1, 1)
    )
    return ContractJudge(Equipment({"valve": ["V-*"]}), {"valve": check}, {})


QUICK, SLOW = judge(*COLUMNS), judge(*COLUMNS, NOTE)


def same_either_way(payload: bytes) -> None:
    message = Message("dev", "V-1", payload, NOON_US)
    quick, slow = QUICK.judge(message), SLOW.judge(message)
    if isinstance(slow, Reading):
        assert slow.values.pop() is None
    assert repr(quick) == repr(slow)  # tells -0.0 from 0.0, 1 from 1.0, and no NaN from another


TWO = plain_decoder([PlainColumn("lift", float, 0, 50, False), PlainColumn("heat", float, -40, 99, True)])


NUMBERS = (
    st.sampled_from(
        "0 -0 -0.0 0.0 -0e5 1 7 50 50.0 50.000000000000001 50.00000000000001 5e1 5E+1 -1 -40 01 1. .5 +1 - 1e 1e+ 0x1 "
        "1_0 NaN -NaN Infinity -Infinity null true false nan 1e400 -1e400 1e-400 -1e-400 1e308 2.0 2e0 2.5 "
        "4.9e-324 2e-324 9007199254740991 9007199254740992 9007199254740993 -9007199254740993 9007199254740993.0 "
        "2147483647 2147483648 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 "
        "18446744073709551616 123456789012345678901234567890 1e19 1e22 1e23 8.5 "
        '"7" "" [] [7] {} {"a":1}'.split()
    )
    | st.sampled_from(["7" * 400, "7" * 5000, "0." + "3" * 400, "1" + "0" * 20])
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.floats(-40, 50).map(repr)
    | st.integers(-(2**70), 2**70).map(str)
    | st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
)
TIMES = st.sampled_from(
    [
        *(f'"{text}"' for text in (
            "2025-01-02T12:00:00Z", "2025-01-02 12:00:00.5", "2025-01-02T12:00:00.1234567+02:00", "2025-01-02T12:00",
            "2025-01-02T12:00Z", "2025-01-02T12", "20250102T120000Z", "2025-W01-4T12:00:00", "2025-01-02x12:00:00Z",
            "2025-01-02T12:00:60Z", "2025-02-30T12:00:00Z", "2024-12-31T23:59:59Z", "2025-01-02T12:10:00.000001Z",
            "2025-01-02T12:00:00+02:00:30", "2025-01-02T12:00:00,5Z", "0001-01-01T00:00:00+10:00", "",
            "2025-01-02T12:00:00\\u005a", "\u0662025-01-02T12:00:00Z", "2025-01-02T12:00:00\u00e9",
        )),
        "1735819200000", "1735819200000000", "1735819200", "1735819200000000000", "1735819200000.0", "1.7358192e12",
        "-1735819200000", "99999999999", "100000000000", "null", "true", "[]", "1" * 30,
    ]
)  # fmt: skip
COUNTS = st.sampled_from(
    [
        "0",
        "17",
        "-1",
        "-0",
        "17.0",
        "1e3",
        "9223372036854775807",
        "9223372036854775808",
        '"17"',
        "null",
        "true",
        "1" * 50,
    ]
)
TEXTS = st.sampled_from(
    ['""', '"s"', '"a:b"', '"a\\u003ab"', '"é"', '"\u2028"', '"\x01"', '"\\n"', '"' + "x" * 128 + '"',
     '"' + "x" * 129 + '"', "null", "5", '"1.2.3"', '"1.0.0"', '"1.3.0"', '"2.0.0"', '"1.2.3:"', "[]", '"\\ud800"']
)  # fmt: skip
UNITS = st.sampled_from(
    ["null", "{}", '{"lift":"mm"}', '{"lift":"in"}', '{"lift":"mm","lift":"mm"}', '{"share":"1"}', '{"lift":5}', "[]",
     '{"colour:":"nm"}', '{"colour":"n:m"}', '{"lift":null}', '"mm"']
)  # fmt: skip
TRUTHS = st.sampled_from(["true", "false", "null", "0", '"true"'])
OTHERS = st.sampled_from(["1", "null", '"a:b"', "[[[]]]", "[" * 20 + "]" * 20, '{"a":1,"a":2}', "NaN"])
SPACE = st.sampled_from(["", "", "", "", " ", "\n", "\t\r", "\x0b", "\u00a0"])


@st.composite
def objects(draw: st.DrawFn, pairs: dict[str, st.SearchStrategy[str]], needed: tuple[str, ...]) -> str:
    """An object of some of these pairs in any order: mostly each at most once, and the needed ones there."""
    keys = draw(st.lists(st.sampled_from(sorted(pairs)), unique=draw(st.integers(0, 3)) > 0, max_size=7))
    if draw(st.integers(0, 5)):
        keys = [*needed, *(key for key in keys if key not in needed)]
    members = [f'"{key}"{draw(SPACE)}:{draw(SPACE)}{draw(pairs[key])}' for key in keys]
    return "{" + draw(SPACE) + f",{draw(SPACE)}".join(members) + draw(SPACE) + "}"


VALUES = objects(
    {c.name: NUMBERS for c in COLUMNS} | {"colour": OTHERS, "li\\u0066t": NUMBERS, "lift:": NUMBERS, "": NUMBERS},
    ("lift",),
)
PAYLOADS = objects(
    {
        "ts": TIMES,
        "seq": COUNTS,
        "values": VALUES | OTHERS,
        "session": TEXTS,
        "units": UNITS,
        "contract": TEXTS,
        "is_historical": TRUTHS,
        "firmware": OTHERS,
    },
    ("ts", "seq", "values"),
)
TAILS = st.sampled_from([b"", b"", b"", b"", b"", b" ", b"\n", b"x", b"{}", b"\x00", b"\xff", b",", b"}"])
HEADS = st.sampled_from([b"", b"", b"", b"", b"", b" ", b"\xef\xbb\xbf", b"\x00", b"\xff\xfe"])


@settings(max_examples=500)
@given(HEADS, PAYLOADS, TAILS)
@example(b"", '{"ts":1735819200000,"seq":1,"values":{"lift":1,"heat":1,"heat":2,"share":0,"strokes":0}}', b"")
@example(b"", '{"ts":1735819200000,"seq":1,"seq":2,"session":"\\u003a","values":{"lift":1}}', b"")
@example(b"", '{"ts":1735819200000,"seq":1,"session":"\u2028","values":{"lift":1}}', b"")
def test_an_ugly_payload_is_judged_the_same_either_way(head: bytes, payload: str, tail: bytes) -> None:
    same_either_way(head + payload.encode() + tail)


GOOD = (
    b'{"ts":"2025-01-02T12:00:00Z","seq":17,"session":"a:b","units":{"lift":"mm"},"contract":"1.2.3",'
    b'"is_historical":true,"values":{"lift":3,"heat":20.5,"share":null,"strokes":4,"count":-9}}'
)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 2), st.binary(max_size=2)), min_size=1, max_size=3)
)
def test_a_payload_damaged_on_its_way_is_judged_the_same_either_way(damages: list[tuple[int, int, bytes]]) -> None:
    payload = GOOD
    for at, gone, come in damages:
        payload = payload[:at] + come + payload[at + gone :]
    same_either_way(payload)


@settings(max_examples=200)
@given(NUMBERS, NUMBERS, st.sampled_from([c.name for c in COLUMNS]))
@example("1", "9007199254740993", "share")
@example("1", "-9007199254740993", "share")
@example("1", "9223372036854775808", "count")
def test_a_number_in_any_form_is_taken_the_same_either_way(lift: str, other: str, column: str) -> None:
    more = "" if column == "lift" else f',"{column}":{other}'
    same_either_way(f'{{"ts":1735819200000,"seq":1,"values":{{"lift":{lift}{more}}}}}'.encode())


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('"ts":1735819200000,"values":{"lift":3,"heat":20.5}', ("", "[3.0, 20.5]", None, None, False)),
        ('"values":{"heat":null,"lift":-0.0},"ts":"2025-01-02T12:00:00Z"', ("", "[-0.0, nan]", None, None, False)),
        ('"ts":1735819200000000,"session":"a:b","values":{"lift":50}', ("a:b", "[50.0, nan]", None, None, False)),
        (
            '"ts":1735819200000,"values":{"lift":0},"units":{"lift":"mm"},"contract":"1.2.3","is_historical":true',
            ("", "[0.0, nan]", {"lift": "mm"}, "1.2.3", True),
        ),
    ],
)  # fmt: skip
def test_what_is_as_it_should_be_goes_the_quick_way(payload: str, expected: tuple[object, ...]) -> None:
    found = TWO(f'{{"seq":17,{payload}}}'.encode())
    assert found is not None
    assert (*found[:3], repr(found[3]), *found[4:]) == (NOON_US, 17, *expected)


@pytest.mark.parametrize(
    "values",
    [
        '{"lift":50.1}', '{"lift":-1}', "{}", '{"lift":null}', '{"lift":"3"}', '{"lift":true}', '{"lift":3,"lift":4}',
        '{"lift":3,"colour":4}', '{"lift":3,"heat":1,"heat":2}', '{"li\\u0066t":3}', '{"lift":3,"heat":NaN}', "[3]",
    ],
)  # fmt: skip
def test_whatever_needs_a_closer_look_is_left_to_it(values: str) -> None:
    assert TWO(f'{{"ts":1735819200000,"seq":1,"values":{values}}}'.encode()) is None


def test_a_payload_of_more_than_may_be_is_not_read() -> None:
    payload = b'{"ts":1735819200000,"seq":1,"values":{"lift":3}}'
    assert TWO(payload.ljust(MAX_BYTES)) is not None
    assert TWO(payload.ljust(MAX_BYTES + 1)) is None
