"""One reading is judged as the row check judges the same row, in the same words."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from backbone.contracts import Column, Contract, WindowRule
from backbone.row_checks import decode as decode_rows
from backbone.row_checks import row_check
from gateway import reasons
from gateway.contract_check import ContractJudge, Equipment, MachineWatch, ReadingCheck
from gateway.decoding import Reading, Refusal, digest_of
from gateway.ports import Message

KEY = (
    Column("equipment_id", "string", role="key", required=True, key=True),
    Column("ts", "timestamp", role="key", required=True, key=True),
)
STUCK = WindowRule("stuck_sensors", "warning", "accuracy", {"longest_run": 3})


def contract(*columns: Column, rules: tuple[WindowRule, ...] = ()) -> Contract:
    return Contract("valve", "1.2.3", "", "reliability", (*KEY, *columns), rules=rules)


PLAIN = contract(
    Column("lift", "number", unit="mm", role="input", required=True, minimum=0, maximum=50),
    Column("heat", "number", unit="degC", role="input", minimum=-40),
    Column("share", "number"),
    Column("strokes", "integer", physical_type="integer", minimum=0),
    rules=(STUCK,),
)
EVERY_TYPE = contract(
    *PLAIN.columns[2:],
    Column("small", "number", physical_type="float", minimum=0.1, maximum=1e38),
    Column("single", "number", physical_type="float"),
    Column("count", "integer"),
    Column("byte", "integer", physical_type="byte"),
    Column("note", "string"),
    Column("state", "string", required=True, allowed=("open", "shut")),
    Column("running", "boolean"),
)
NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
MINUTE_US = 60_000_000


def message(values: Mapping[str, Any], equipment: str = "V-1", **changes: object) -> Message:
    sent = {"ts": NOON.isoformat(), "seq": 7, "session": "s", "values": values} | changes
    return Message("dev", equipment, orjson.dumps(sent), NOON_US)


def judge(
    of: Contract = PLAIN, *, watch: bool = False, others_ignored: bool = False, first_day: date | None = None
) -> ContractJudge:
    check = ReadingCheck(of, ahead_s=600.0, first_day=first_day)
    watches = {"valve": MachineWatch(of, check.columns)} if watch else {}
    return ContractJudge(Equipment({"valve": ["V-*"]}, others_ignored=others_ignored), {"valve": check}, watches)


def reason(values: Mapping[str, Any], of: Contract = PLAIN, **changes: object) -> str | None:
    found = judge(of).judge(message(values, **changes))
    return found.reason if isinstance(found, Refusal) else None


GOOD: dict[str, Any] = {"lift": 3.0, "heat": 20, "strokes": 4}


def test_a_reading_has_its_values_in_the_contracts_order() -> None:
    sent = message(GOOD)
    found = judge().judge(sent)
    assert isinstance(found, Reading)
    assert found.values[:2] == [3.0, 20.0]
    assert found.values[2] != found.values[2]
    assert found.values[3] == 4
    assert [type(value) for value in found.values] == [float, float, float, int]
    expected = ("dev", "V-1", "s", 7, NOON_US, found.values, (), NOON_US, None, digest_of(sent.payload))
    assert astuple(found) == expected


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"lift": None}, "missing:lift"),
        ({"lift": 50}, None),
        ({"lift": 50.1}, "out_of_range:lift"),
        ({"heat": 1e308}, None),
        ({"lift": "12,5"}, "wrong_type:lift"),
        ({"lift": "12.5"}, "wrong_type:lift"),
        ({"lift": ""}, "wrong_type:lift"),
        ({"lift": True}, "wrong_type:lift"),
        ({"lift": [3.0]}, "wrong_type:lift"),
        ({"lift": {"value": 3.0}}, "wrong_type:lift"),
        ({"share": (1 << 53) + 1}, "wrong_type:share"),
        ({"strokes": 2**31 - 1}, None),
        ({"strokes": 2**31}, "wrong_type:strokes"),
        ({"strokes": 4.0}, None),
        ({"strokes": 4.5}, "wrong_type:strokes"),
        ({"strokes": False}, "wrong_type:strokes"),
        ({"strokes": -1, "lift": -1.0}, "out_of_range:lift"),
        ({"strokes": "x", "lift": -1.0}, "wrong_type:strokes"),
    ],
)
def test_a_defect_has_the_row_checks_word(changes: dict[str, Any], why: str | None) -> None:
    assert reason(GOOD | changes) == why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"note": "  "}, None),
        ({"note": 5}, "wrong_type:note"),
        ({"state": "ajar"}, "not_allowed:state"),
        ({"state": None}, "missing:state"),
        ({"running": 1}, "wrong_type:running"),
        ({"single": 1e39}, "out_of_range:single"),
    ],
)
def test_columns_that_are_no_numbers_are_judged_too(changes: dict[str, Any], why: str | None) -> None:
    assert reason(GOOD | {"state": "open"} | changes, EVERY_TYPE) == why


NUMBERS = (
    st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-1, 60)
    | st.integers(-60, 60)
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([2.0**31, 2.0**63, -(2.0**31), 1e38, 1.0000001e38, 0.1, 3.5e38, 1 << 53, (1 << 53) + 1, 1 << 24])
    | st.just("12,5")
)
TEXTS = st.none() | st.sampled_from(["open", "shut", "ajar", "", " "])
BY_TYPE = {"number": NUMBERS, "integer": NUMBERS, "string": TEXTS, "boolean": st.none() | st.booleans()}


def rows_of(of: Contract) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"ts": st.integers(-2, 1).map(lambda days: (NOON + timedelta(days=days)).isoformat())}
        | {c.name: BY_TYPE[c.logical_type] for c in of.columns[2:] if c.required},
        optional={c.name: BY_TYPE[c.logical_type] for c in of.columns[2:] if not c.required},
    )


@pytest.mark.parametrize("of", [PLAIN, EVERY_TYPE], ids=["numbers", "every_type"])
@settings(max_examples=150)
@given(st.data())
def test_the_verdict_and_the_values_are_the_row_checks(of: Contract, data: st.DataObject) -> None:
    row = data.draw(rows_of(of))
    table = pa.table({"equipment_id": ["V-1"]} | {name: pa.array([value]) for name, value in row.items()})
    decoded = decode_rows(of, table)
    expected = row_check(of)(decoded, date(2025, 1, 1), date(2025, 1, 9)).to_pylist()[0]
    values = {name: value for name, value in row.items() if name != "ts"}
    found = judge(of, first_day=date(2025, 1, 1)).judge(message(values, ts=row["ts"]))
    assert (found.reason if isinstance(found, Refusal) else None) == expected
    if isinstance(found, Reading):
        stored = decoded.select([c.name for c in of.columns[2:]]).to_pylist()[0]
        assert [None if value != value else value for value in found.values] == list(stored.values())


@pytest.mark.parametrize(
    ("units", "why"),
    [
        ({"lift": "mm", "share": "1"}, None),
        ({"lift": "in"}, reasons.UNKNOWN_UNIT),
        ({"lift": "m"}, reasons.UNKNOWN_UNIT),
        ({"share": "%"}, reasons.UNKNOWN_UNIT),
        ({"colour": "nm"}, None),
    ],
)
def test_no_unit_but_the_columns_own_is_taken(units: dict[str, str], why: str | None) -> None:
    assert reason(GOOD, units=units) == why


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("1.2.3", True),
        ("1.0.0", True),
        ("1.2.9", True),
        ("1.3.0", False),
        ("2.0.0", False),
        ("0.9.0", False),
        ("1.2", False),
        ("v1.2.3", False),
        ("1.2.3\n", False),
        ("1" * 1000, False),
    ],
)
def test_an_earlier_version_of_the_same_major_is_known(version: str, known: bool) -> None:
    assert reason(GOOD, contract=version) == (None if known else reasons.UNKNOWN_CONTRACT_VERSION)


def test_what_is_odd_but_usable_is_flagged_and_both_times_are_kept() -> None:
    ahead = NOON + timedelta(minutes=11)
    found = judge().judge(message(GOOD | {"colour": 3}, ts=ahead.isoformat(), is_historical=True))
    assert isinstance(found, Reading)
    assert found.flags == (reasons.IS_HISTORICAL, reasons.AHEAD_OF_CLOCK, reasons.NEW_COLUMN)
    assert (found.ts_us, found.received_us) == (NOON_US + 11 * MINUTE_US, NOON_US)
    assert len(found.values) == 4


def test_a_new_column_is_seen_beside_a_silent_one() -> None:
    found = judge().judge(message({"lift": 3.0, "colour": 3, "shape": None}))
    assert isinstance(found, Reading)
    assert found.flags == (reasons.NEW_COLUMN,)


def test_a_reading_from_before_the_plant_is_outside_its_windows() -> None:
    plant = judge(first_day=date(2025, 1, 3))
    refused = plant.judge(message(GOOD))
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.session, refused.seq) == ("outside_window", "s", 7)


def flags(plant: ContractJudge, minute: int, **values: Any) -> tuple[str, ...]:
    ts = (NOON + timedelta(minutes=minute)).isoformat()
    found = plant.judge(message({"lift": 3.0} | values, ts=ts))
    assert isinstance(found, Reading)
    return found.flags


def test_a_reading_that_is_not_after_the_newest_is_late() -> None:
    plant = judge(watch=True)
    assert [flags(plant, minute) for minute in (-9, -7, -8, -7, -6)] == [(), (), ("late",), ("late",), ()]
    found = plant.judge(message(GOOD, equipment="V-2", ts=(NOON - timedelta(days=1)).isoformat()))
    assert isinstance(found, Reading)
    assert found.flags == ()


def test_a_clock_that_once_ran_ahead_makes_no_later_reading_late() -> None:
    plant = judge(watch=True)
    assert flags(plant, 60) == (reasons.AHEAD_OF_CLOCK,)
    assert flags(plant, 1) == ()


def test_of_more_machines_than_are_remembered_the_first_is_forgotten() -> None:
    check = ReadingCheck(PLAIN, ahead_s=600.0)
    watch = MachineWatch(PLAIN, check.columns, machines=2)
    plant = ContractJudge(Equipment({"valve": ["V-*"]}), {"valve": check}, {"valve": watch})
    assert flags(plant, 0) == ()
    plant.judge(message(GOOD, equipment="V-2"))
    assert flags(plant, 0) == ("late",)
    plant.judge(message(GOOD, equipment="V-3"))
    assert flags(plant, 0) == ()


def test_a_sensor_that_repeats_a_value_for_longer_than_it_may_is_stuck() -> None:
    plant = judge(watch=True)
    moving = [flags(plant, minute - 100, heat=20 + minute) for minute in range(3)]
    repeating = [flags(plant, minute - 90, heat=30.5) for minute in range(5)]
    assert moving == [()] * 3
    assert repeating == [(), (), (), ("stuck",), ("stuck",)]
    assert flags(plant, -80, heat=31) == ()


def test_silence_neither_ends_a_run_nor_counts() -> None:
    plant = judge(watch=True)
    for minute in range(3):
        flags(plant, minute - 100, heat=20 + minute)
    given = [30.5, 30.5, None, 30.5, None, 30.5]
    assert [flags(plant, at - 90, heat=heat) for at, heat in enumerate(given)] == [()] * 5 + [("stuck",)]


def test_a_sensor_that_has_never_told_anything_is_not_stuck() -> None:
    plant = judge(watch=True)
    assert [flags(plant, minute - 100, heat=minute) for minute in range(9)] == [()] * 9  # lift shows 3.0 all along


def stuck_by_definition(shown: Sequence[float | None]) -> list[bool]:
    """Of each reading, whether the sensor has varied by then and what it showed last has stood for more than three."""
    told, known = [], []
    for value in shown:
        if value is not None:
            known.append(value)
        run = len(known) - max((at + 1 for at, earlier in enumerate(known) if earlier != known[-1]), default=0)
        told.append(run > 3 and len(set(known)) >= 3)
    return told


SHOWN = st.sampled_from([1.0, 1.0, 1.0, 2.0, 3.0, None])


@given(st.lists(st.tuples(SHOWN, SHOWN), max_size=30))
def test_stuck_is_told_as_the_definition_has_it(shown: list[tuple[float | None, float | None]]) -> None:
    of = contract(Column("a", "number", role="input"), Column("b", "number", role="input"), rules=(STUCK,))
    plant = judge(of, watch=True)
    found = []
    for at, (a, b) in enumerate(shown):
        reading = plant.judge(message({"a": a, "b": b}, ts=(NOON + timedelta(minutes=at - 100)).isoformat()))
        assert isinstance(reading, Reading)
        found.append(reasons.STUCK in reading.flags)
    columns = [stuck_by_definition([row[sensor] for row in shown]) for sensor in (0, 1)]
    assert found == [any(either) for either in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    ("name", "fleet"),
    [
        ("V-1", "valve"),
        ("V-é 2", "valve"),
        ("P-7", "pump"),
        ("v-1", None),
        ("X", None),
        ("", None),
        (" ", None),
        (".", None),
        ("..", None),
        ("V-/1", None),
        ("V-+", None),
        ("V-#", None),
        ("V-\x00", None),
        ("V-\n", None),
        ("V-\x85", None),
        ("V-" + "1" * 126, "valve"),
        ("V-" + "1" * 127, None),
    ],
)
def test_a_machine_is_of_the_fleet_whose_pattern_it_fits(name: str, fleet: str | None) -> None:
    assert Equipment({"valve": ["V-*", "*"], "pump": ["P-?"]} if name in ("", " ") else FLEETS).fleet(name) == fleet


FLEETS = {"pump": ["P-?"], "valve": ["V-*", "W"]}


@pytest.mark.parametrize("name", ["", " ", "..", "a/b", "a\x00", "+", "x" * 129])
def test_what_is_no_name_for_a_machine_is_a_dead_letter_whoever_serves_the_others(name: str) -> None:
    plant = ContractJudge(Equipment({"valve": ["*"]}, others_ignored=True), {}, {})
    found = plant.judge(message(GOOD, equipment=name))
    assert found == Refusal(reasons.UNREGISTERED_EQUIPMENT, "s", 7)


def test_machines_of_no_fleet_are_dead_letters_or_anothers() -> None:
    assert judge().judge(message(GOOD, equipment="X")) == Refusal(reasons.UNREGISTERED_EQUIPMENT, "s", 7)
    left = judge(others_ignored=True).judge(message(GOOD, equipment="X"))
    assert left == Refusal(reasons.UNREGISTERED_EQUIPMENT, not_ours=True)


def test_an_unreadable_payload_keeps_its_own_reason() -> None:
    found = judge().judge(Message("dev", "V-1", b'{"seq":1,"seq":1}', NOON_US))
    assert isinstance(found, Refusal)
    assert found.reason == reasons.DUPLICATE_KEY


@given(st.binary(max_size=60), st.text(max_size=6))
def test_judging_raises_nothing(payload: bytes, equipment: str) -> None:
    assert isinstance(judge().judge(Message("dev", equipment, payload, NOON_US)), Refusal)
