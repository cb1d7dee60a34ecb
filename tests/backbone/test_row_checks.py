"""Every row sent is decoded, and every decoded row is either good or has one reason."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.contracts import Column, Contract
from backbone.errors import ContractError
from backbone.row_checks import DEFECT, RAW, decode, landed_schema, row_check

CONTRACT = Contract(
    name="valve",
    version="1.0.0",
    description="",
    owner="reliability",
    columns=(
        Column("equipment_id", "string", role="key", required=True, key=True),
        Column("ts", "timestamp", role="key", required=True, key=True),
        Column("lift_mm", "number", unit="mm", role="input", minimum=0, maximum=50),
        Column("strokes", "integer"),
        Column("state", "string", allowed=("open", "shut")),
    ),
)
NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
DAY = NOON.date()


def reasons(rows: list[dict[str, object]], first: date = DAY, last: date = DAY) -> list[str | None]:
    sent = {name: [row.get(name) for row in rows] for name in CONTRACT.arrow_schema.names}
    decoded = decode(CONTRACT, pa.table({n: _column(v) for n, v in sent.items()}))
    return row_check(CONTRACT)(decoded, first, last).to_pylist()


def _column(values: list[object]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else str(v) for v in values])


GOOD = {"equipment_id": "v1", "ts": NOON, "lift_mm": 3.0, "strokes": 7, "state": "open"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"lift_mm": None}, None),
        ({"lift_mm": float("nan")}, None),
        ({"equipment_id": None}, "missing:equipment_id"),
        ({"equipment_id": "  "}, "missing:equipment_id"),
        ({"ts": None}, "missing:ts"),
        ({"ts": "  "}, "missing:ts"),
        ({"lift_mm": -0.1}, "out_of_range:lift_mm"),
        ({"lift_mm": 50.1}, "out_of_range:lift_mm"),
        ({"lift_mm": float("inf")}, "out_of_range:lift_mm"),
        ({"lift_mm": "3,5"}, "wrong_type:lift_mm"),
        ({"strokes": 2.5}, "wrong_type:strokes"),
        ({"strokes": "seven"}, "wrong_type:strokes"),
        ({"ts": "yesterday"}, "wrong_type:ts"),
        ({"state": "ajar"}, "not_allowed:state"),
        ({"ts": NOON + timedelta(days=1)}, "outside_window"),
    ],
)
def test_a_row_gets_the_reason_people_can_act_on(change: dict[str, object], reason: str | None) -> None:
    assert reasons([GOOD | change]) == [reason]


def test_a_refused_value_keeps_what_was_sent() -> None:
    decoded = decode(CONTRACT, pa.table({"equipment_id": ["v1"], "ts": ["yesterday"], "lift_mm": ["1.5"]}))
    assert "yesterday" in decoded[RAW][0].as_py()
    assert decoded["lift_mm"].to_pylist() == [1.5]


def test_a_missing_required_column_is_a_wrong_schema_not_bad_rows() -> None:
    with pytest.raises(ContractError, match=r"wrong schema: ts missing; got equipment_id"):
        decode(CONTRACT, pa.table({"equipment_id": ["v1"]}))


def test_unknown_columns_are_left_out_and_absent_optional_ones_are_null() -> None:
    decoded = decode(CONTRACT, pa.table({"equipment_id": ["v1"], "ts": [NOON], "colour": ["red"]}))
    assert decoded.schema.equals(landed_schema(CONTRACT))
    assert decoded["lift_mm"].null_count == 1


def test_of_rows_with_one_key_the_first_stands() -> None:
    again, other = GOOD | {}, GOOD | {"lift_mm": 4.0}
    assert reasons([GOOD, again, other]) == [None, "duplicate", "conflicting_duplicate"]


def test_a_bad_first_row_does_not_shadow_a_good_second_one() -> None:
    assert reasons([GOOD | {"lift_mm": -1.0}, GOOD]) == ["out_of_range:lift_mm", None]


VALUES = st.one_of(
    st.none(), st.floats(allow_nan=True, allow_infinity=True), st.text(max_size=5), st.integers(-5, 70).map(float)
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "equipment_id": st.one_of(st.none(), st.sampled_from(["a", "b", ""])),
            "ts": st.one_of(st.none(), st.integers(-2, 2).map(lambda d: NOON + timedelta(days=d))),
            "lift_mm": VALUES,
        }
    ),
    max_size=20,
)


@given(ROWS)
def test_nothing_vanishes_and_what_passes_holds_the_contract(rows: list[dict[str, object]]) -> None:
    sent = pa.table({n: _column([r[n] for r in rows]) for n in ("equipment_id", "ts", "lift_mm")}) if rows else None
    if sent is None:
        return
    decoded = decode(CONTRACT, sent)
    verdict = row_check(CONTRACT)(decoded, DAY, DAY)
    assert decoded.num_rows == len(verdict) == len(rows)
    good = decoded.filter(pc.is_null(verdict))
    assert good["equipment_id"].null_count == good["ts"].null_count == 0
    assert all(v is None or 0 <= v <= 50 for v in good["lift_mm"].to_pylist())
    keys = list(zip(good["equipment_id"].to_pylist(), good["ts"].to_pylist(), strict=True))
    assert len(keys) == len(set(keys))
    assert good[DEFECT].null_count == good.num_rows


TYPED = st.lists(
    st.fixed_dictionaries(
        {
            "equipment_id": st.sampled_from([None, "a", "b", " "]),
            "ts": st.one_of(st.none(), st.integers(-30, 30).map(lambda h: NOON + timedelta(hours=h))),
            "lift_mm": st.sampled_from([None, -1.0, 0.0, 3.0, 50.0, 51.0, float("inf")]),
            "strokes": st.sampled_from([None, 1, 2]),
            "state": st.sampled_from([None, "open", "ajar"]),
        }
    ),
    max_size=40,
)


def row_by_row(rows: list[dict[str, object]]) -> list[str | None]:
    """The same rules in the plainest words."""
    found: list[str | None] = []
    seen: dict[object, dict[str, object]] = {}
    for row in rows:
        ts, lift = row["ts"], row["lift_mm"]
        reason = None
        if not str(row["equipment_id"] or "").strip():
            reason = "missing:equipment_id"
        elif not isinstance(ts, datetime):
            reason = "missing:ts"
        elif isinstance(lift, float) and not 0 <= lift <= 50:
            reason = "out_of_range:lift_mm"
        elif row["state"] not in (None, "open", "shut"):
            reason = "not_allowed:state"
        elif ts.date() != DAY:
            reason = "outside_window"
        else:
            first = seen.setdefault((row["equipment_id"], ts), row)
            if first is not row:
                reason = "duplicate" if first == row else "conflicting_duplicate"
        found.append(reason)
    return found


@given(TYPED, st.integers(0, 5))
def test_whole_columns_find_what_one_row_after_another_finds(rows: list[dict[str, object]], skipped: int) -> None:
    stored = pa.Table.from_pylist(rows, CONTRACT.arrow_schema).slice(skipped)
    verdict = row_check(CONTRACT)(stored, DAY, DAY)
    assert verdict.to_pylist() == row_by_row([dict(row) for row in rows[skipped:]])
