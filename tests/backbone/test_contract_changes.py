"""What is let through leaves each version able to read the other's rows; what is refused says which rule and column."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from backbone.contract_changes import CHANGE_RULES, contract_changes, refused_changes
from backbone.contracts import ITEM, Column, Contract, WindowRule
from backbone.row_checks import decode, row_check

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
VALVE = Contract(
    name="valve",
    id="valve-telemetry",
    version="1.2.3",
    description="",
    owner="reliability",
    columns=(
        Column("equipment_id", "string", role="key", required=True, key=True),
        Column("ts", "timestamp", role="key", required=True, key=True),
        Column("lift_mm", "number", unit="mm", role="input", minimum=0, maximum=50),
        Column("strokes", "integer"),
        Column("state", "string", required=True, allowed=("open", "shut")),
        Column("note", "string", deprecated=True),
        Column("serial", "string", classification="confidential"),
        Column("metrics", "object", parts=(Column("rmse", "number", minimum=0),)),
        Column("shares", "array", parts=(Column(ITEM, "number", minimum=0),)),
    ),
    rules=(
        WindowRule("unique", "error", "uniqueness"),
        WindowRule("stuck_sensors", "warning", "accuracy", {"longest_run": 8}),
    ),
    classification="confidential",
    retention_days=730,
    latency_s=3600,
    completeness=0.9,
)


def with_column(name: str, /, **changes: Any) -> Contract:
    columns = tuple(replace(c, **changes) if c.name == name else c for c in VALVE.columns)
    return replace(VALVE, version="1.3.0", columns=columns)


def with_parts(*parts: Column) -> Contract:
    return with_column("metrics", parts=parts)


def without(name: str) -> Contract:
    return replace(VALVE, version="1.3.0", columns=tuple(c for c in VALVE.columns if c.name != name))


def changed(**changes: Any) -> Contract:
    return replace(VALVE, version="1.3.0", **changes)


def and_column(column: Column) -> Contract:
    return changed(columns=(*VALVE.columns, column))


def rules(**changes: Any) -> Contract:
    return changed(rules=(VALVE.rules[0], replace(VALVE.rules[1], **changes)))


REFUSED = [
    (changed(product="valves"), "product_changed", None),
    (changed(document=True), "product_changed", None),
    (changed(name="tap"), "product_changed", None),
    (without("strokes"), "column_removed", "strokes"),
    (without("state"), "column_removed", "state"),
    (with_column("strokes", name="cycles"), "column_renamed", "strokes"),
    (and_column(Column("site_code", "string", required=True)), "column_required_added", "site_code"),
    (with_column("strokes", logical_type="number"), "type_changed", "strokes"),
    (with_column("strokes", physical_type="byte"), "type_changed", "strokes"),
    (with_column("lift_mm", unit="m"), "unit_changed", "lift_mm"),
    (with_column("strokes", required=True), "made_required", "strokes"),
    (with_column("state", required=False), "made_optional", "state"),
    (with_column("lift_mm", maximum=40), "range_narrowed", "lift_mm"),
    (with_column("strokes", minimum=0), "range_narrowed", "strokes"),
    (with_column("lift_mm", minimum=-1), "range_widened", "lift_mm"),
    (with_column("lift_mm", maximum=None), "range_widened", "lift_mm"),
    (with_column("state", allowed=("open", "shut", "ajar")), "value_added", "state"),
    (with_column("state", allowed=()), "value_added", "state"),
    (with_column("state", allowed=("open",)), "value_removed", "state"),
    (with_column("note", allowed=("a",)), "value_removed", "note"),
    (with_column("lift_mm", minimum=None, above=0), "range_narrowed", "lift_mm"),
    (with_column("lift_mm", maximum=None, maximum_from="cap"), "range_narrowed", "lift_mm"),
    (with_parts(Column("rmse", "number", minimum=1)), "range_narrowed", "metrics.rmse"),
    (with_parts(Column("rmse", "number")), "range_widened", "metrics.rmse"),
    (with_parts(), "column_removed", "metrics.rmse"),
    (
        with_parts(Column("rmse", "number", minimum=0), Column("mae", "number", required=True)),
        "column_required_added",
        "metrics.mae",
    ),
    (with_column("shares", parts=(Column(ITEM, "number", minimum=0, sum_at_most=1),)), "range_narrowed", "shares[]"),
    (with_column("strokes", key=True, required=True), "key_changed", None),
    (with_column("lift_mm", role="context"), "inputs_changed", "lift_mm"),
    (with_column("strokes", role="input", unit=None), "inputs_changed", "strokes"),
    (and_column(Column("heat", "number", unit="degC", role="setting")), "inputs_changed", "heat"),
    (changed(classification="internal"), "classification_lowered", None),
    (with_column("serial", classification="public"), "classification_lowered", "serial"),
    (changed(retention_days=365), "retention_shortened", None),
    (changed(retention_days=None), "retention_shortened", None),
    (changed(latency_s=7200), "latency_loosened", None),
    (changed(completeness=0.5), "completeness_loosened", None),
    (changed(rules=VALVE.rules[1:]), "rule_removed", None),
    (changed(rules=(replace(VALVE.rules[0], severity="warning"), VALVE.rules[1])), "severity_lowered", None),
    (rules(parameters={"longest_run": 9}), "rule_loosened", None),
    (replace(VALVE, owner="others"), "version_not_raised", None),
    (replace(VALVE, version="1.2.2"), "version_not_raised", None),
    (replace(and_column(Column("heat", "number")), version="1.2.4"), "version_not_raised", None),
]


@pytest.mark.parametrize(("new", "rule", "column"), REFUSED, ids=[f"{r}-{c}" for _, r, c in REFUSED])
def test_a_change_that_breaks_a_reader_is_refused_by_rule_and_column(
    new: Contract, rule: str, column: str | None
) -> None:
    refused = contract_changes(VALVE, new)
    assert (rule, column) in {(c.rule, c.column) for c in refused}
    assert all(c.instead and c.problem and c.because and c.contract == new.name for c in refused)


def test_every_rule_that_looks_at_one_contract_is_tried_here() -> None:
    about_several = {"contract_removed", "migration_missing"}
    assert {rule for _, rule, _ in REFUSED} == set(CHANGE_RULES) - about_several


@pytest.mark.parametrize(
    "new",
    [
        VALVE,
        replace(VALVE, version="1.2.4", owner="others", description="Valves."),
        and_column(Column("heat", "number", unit="degC")),
        without("note"),
        with_column("strokes", deprecated=True),
        with_parts(Column("rmse", "number", minimum=0), Column("mae", "number", minimum=0)),
        changed(retention_days=1000, latency_s=60, completeness=0.95),
        changed(classification="restricted"),
        rules(severity="error"),
        rules(parameters={"longest_run": 4}),
        changed(columns=(*VALVE.columns[:2], *VALVE.columns[:1:-1])),
    ],
)
def test_what_both_can_read_is_let_through(new: Contract) -> None:
    assert contract_changes(VALVE, new) == []


def test_a_bound_of_the_class_is_one_promise_whatever_it_is_set_to() -> None:
    of_40, of_30 = (with_column("lift_mm", maximum=cap, maximum_from="cap") for cap in (40, 30))
    assert contract_changes(of_40, replace(of_30, version="1.4.0")) == []


def test_texts_of_parts_are_texts() -> None:
    (rmse,) = VALVE["metrics"].parts
    said = replace(with_parts(replace(rmse, description="How far off.")), version="1.2.4")
    assert contract_changes(VALVE, said) == []


def test_a_breaking_change_stays_refused_whatever_its_version_says() -> None:
    new = replace(with_column("lift_mm", unit="m"), version="2.0.0")
    assert [c.rule for c in contract_changes(VALVE, new)] == ["unit_changed"]


def test_it_can_be_had_side_by_side_with_a_migration() -> None:
    beside = replace(
        with_column("lift_mm", unit="m"),
        id="valve-telemetry-2",
        name="valve_2",
        version="2.0.0",
        supersedes=VALVE.id,
        migration="Multiply by 1000.",
    )
    assert refused_changes({"valve": VALVE}, {"valve": VALVE, "valve_2": beside}) == []
    late = replace(beside, version="1.9.0")
    (refused,) = refused_changes({"valve": VALVE}, {"valve": VALVE, "valve_2": late})
    assert refused.rule == "migration_missing"


def test_a_contract_goes_only_after_it_was_deprecated() -> None:
    (refused,) = refused_changes({"valve": VALVE}, {})
    assert (refused.rule, refused.contract) == ("contract_removed", "valve")
    assert refused_changes({"valve": replace(VALVE, status="deprecated")}, {}) == []


BOUND = st.one_of(st.none(), st.integers(-3, 3))
FREE = st.builds(
    Column,
    name=st.sampled_from(["a", "b", "c"]),
    logical_type=st.sampled_from(["number", "integer"]),
    unit=st.sampled_from([None, "mm", "m"]),
    required=st.booleans(),
    minimum=BOUND,
    maximum=BOUND,
    deprecated=st.booleans(),
).filter(lambda c: c.minimum is None or c.maximum is None or c.minimum <= c.maximum)
WORDS = st.builds(
    Column,
    name=st.sampled_from(["s", "t"]),
    logical_type=st.just("string"),
    required=st.booleans(),
    allowed=st.sets(st.sampled_from(["x", "y", "z"])).map(lambda v: tuple(sorted(v))),
    deprecated=st.booleans(),
)
COLUMNS = st.lists(st.one_of(FREE, WORDS), max_size=3, unique_by=lambda c: c.name)


def contract(columns: list[Column], version: str) -> Contract:
    return replace(VALVE, version=version, columns=(*VALVE.columns[:2], *columns), rules=())


def one_change(column: Column) -> st.SearchStrategy[Column]:
    """The column with one of its promises another."""
    flags = [st.just({"required": not column.required}), st.just({"deprecated": not column.deprecated})]
    if column.logical_type == "string":
        values = st.sets(st.sampled_from(["x", "y", "z"])).map(lambda v: {"allowed": tuple(sorted(v))})
        return st.one_of(values, *flags).map(lambda change: replace(column, **change))
    low = st.integers(-9, -3 if column.maximum is None else int(column.maximum)).map(lambda v: {"minimum": v})
    high = st.integers(3 if column.minimum is None else int(column.minimum), 9).map(lambda v: {"maximum": v})
    kinds = st.sampled_from([{"logical_type": "number"}, {"logical_type": "integer"}, {"unit": "m"}])
    return st.one_of(low, high, kinds, *flags).map(lambda change: replace(column, **change))


@st.composite
def versions(draw: st.DrawFn) -> tuple[Contract, Contract]:
    """A contract and its next version: columns as they were, changed in one promise, gone, or new."""
    before = draw(COLUMNS)
    after = []
    for column in before:
        fate = draw(st.integers(0, 5))
        if fate < 4:
            after.append(draw(one_change(column)) if fate < 2 else column)
    if draw(st.booleans()):
        after += draw(COLUMNS)
    return contract(before, "1.0.0"), contract(list({c.name: c for c in reversed(after)}.values()), "1.1.0")


def value(column: Column) -> st.SearchStrategy[Any]:
    if column.logical_type == "string":
        found: st.SearchStrategy[Any] = st.sampled_from(column.allowed or ("x", "y", "q"))
    else:
        low = -9 if column.minimum is None else int(column.minimum)
        high = 9 if column.maximum is None else int(column.maximum)
        found = st.integers(low, high) if column.logical_type == "integer" else st.floats(low, high)
    return found if column.required else st.one_of(st.none(), found)


def refusals(written: Contract, read: Contract, rows: list[dict[str, Any]]) -> list[str | None]:
    """What a reader's row check says of rows that were written, stored and carried under another version."""
    stored = decode(written, pa.Table.from_pylist(rows, written.arrow_schema))
    assert pc.all(pc.is_null(row_check(written)(stored, date(2025, 1, 1), date(2025, 1, 9)))).as_py() is not False
    carried = stored.select(written.arrow_schema.names)
    return row_check(read)(decode(read, carried), date(2025, 1, 1), date(2025, 1, 9)).to_pylist()


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow], max_examples=100, deadline=None)
@given(versions(), st.data())
def test_rows_of_either_version_hold_the_other_where_the_change_is_let_through(
    pair: tuple[Contract, Contract], data: st.DataObject
) -> None:
    old, new = pair
    assume(not contract_changes(old, new))
    for written, read in ((old, new), (new, old)):
        row = st.fixed_dictionaries({c.name: value(c) for c in written.columns[2:]})
        rows = [
            {"equipment_id": "v1", "ts": NOON + timedelta(hours=i), **values}
            for i, values in enumerate(data.draw(st.lists(row, max_size=4)))
        ]
        assert set(refusals(written, read, rows)) <= {None}


@pytest.mark.parametrize(
    ("new", "breaks", "row", "reason"),
    [
        (with_column("lift_mm", maximum=40), "new", {"lift_mm": 45.0}, "out_of_range:lift_mm"),
        (with_column("lift_mm", maximum=60), "old", {"lift_mm": 55.0}, "out_of_range:lift_mm"),
        (with_column("strokes", required=True), "new", {"strokes": None}, "missing:strokes"),
        (with_column("state", required=False), "old", {"state": None}, "missing:state"),
        (with_column("state", allowed=("open", "shut", "ajar")), "old", {"state": "ajar"}, "not_allowed:state"),
        (with_column("state", allowed=("open",)), "new", {"state": "shut"}, "not_allowed:state"),
        (with_column("strokes", logical_type="number"), "old", {"strokes": 2.5}, "wrong_type:strokes"),
    ],
)
def test_a_refused_change_breaks_the_reader_it_says(
    new: Contract, breaks: str, row: dict[str, Any], reason: str
) -> None:
    (refused,) = contract_changes(VALVE, new)
    assert breaks in refused.breaks
    written, read = (new, VALVE) if breaks == "old" else (VALVE, new)
    good = {"equipment_id": "v1", "ts": NOON, "lift_mm": 3.0, "strokes": 7, "state": "open"}
    assert refusals(written, read, [good | row]) == [reason]
