"""A document holds its contract, or everything against it is told: the field, its value, its range."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.contracts import ITEM, Column, Contract, WindowRule
from backbone.document_checks import document_findings, require_document
from backbone.errors import ContractError

CONTRACT = Contract(
    name="verdict",
    version="1.0.0",
    description="",
    owner="",
    document=True,
    columns=(
        Column("passed", "boolean", required=True),
        Column("reasons", "array"),
        Column(
            "metrics",
            "object",
            parts=(
                Column("rmse", "number", minimum=0, maximum=40, maximum_from="cap"),
                Column("cost_ratio", "number", above=0),
            ),
        ),
        Column("shares", "array", parts=(Column(ITEM, "number", minimum=0, maximum=1, sum_at_most=1),)),
        Column(
            "candidates",
            "array",
            parts=(Column(ITEM, "object", parts=(Column("rmse", "number", required=True, minimum=0),)),),
        ),
        Column("seconds", "number", minimum=0),
        Column("version", "integer", minimum=1, maximum=9),
        Column("kind", "string", allowed=("first", "later")),
        Column("at", "timestamp"),
    ),
)
GOOD = {
    "passed": True,
    "reasons": [],
    "metrics": {"rmse": 6.4, "cost_ratio": 0.5, "chosen": "trees"},
    "shares": [0.3, 0.3, 0.4],
    "candidates": [{"rmse": 1}],
    "seconds": 1,
    "version": 2,
    "kind": "first",
    "at": "2025-01-02T12:00:00Z",
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"added_later": 1}, None),
        ({"reasons": None}, None),
        ({"passed": None}, "missing:passed"),
        ({"passed": "yes"}, "wrong_type:passed"),
        ({"reasons": "none"}, "wrong_type:reasons"),
        ({"metrics": []}, "wrong_type:metrics"),
        ({"seconds": True}, "wrong_type:seconds"),
        ({"seconds": -1}, "out_of_range:seconds (-1, range 0 to …)"),
        ({"seconds": math.nan}, "not_finite:seconds (nan)"),
        ({"version": 2.0}, "wrong_type:version"),
        ({"version": 10}, "out_of_range:version (10, range 1 to 9)"),
        ({"kind": "last"}, "not_allowed:kind ('last', one of first, later)"),
        ({"at": "noon"}, "wrong_type:at"),
        ({"metrics": {}}, None),
        ({"metrics": {"rmse": 40, "cost_ratio": 1e-300}}, None),
        ({"metrics": {"rmse": math.nextafter(40, 41)}}, None),
        ({"metrics": {"rmse": 40.000001}}, "out_of_range:metrics.rmse (40.000001, range 0 to 40)"),
        ({"metrics": {"rmse": 40.5}}, "out_of_range:metrics.rmse (40.5, range 0 to 40)"),
        ({"metrics": {"cost_ratio": 0}}, "out_of_range:metrics.cost_ratio (0, range above 0)"),
        ({"metrics": {"cost_ratio": math.inf}}, "not_finite:metrics.cost_ratio (inf)"),
        ({"metrics": {"rmse": "6"}}, "wrong_type:metrics.rmse"),
        ({"shares": [0.5, 0.6]}, "out_of_range:shares (sum 1.1, at most 1)"),
        ({"shares": [0.2, -0.1]}, "out_of_range:shares[1] (-0.1, range 0 to 1, together at most 1)"),
        ({"shares": [0.2, "nan"]}, "wrong_type:shares[1]"),
        ({"candidates": [{"rmse": 1}, {}]}, "missing:candidates[1].rmse"),
        ({"unknown": {"deep": [[1.0, -math.inf]]}}, "not_finite:unknown.deep (-inf)"),
    ],
)
def test_a_field_gets_the_reason_people_can_act_on(change: dict[str, object], reason: str | None) -> None:
    assert [str(f) for f in document_findings(CONTRACT, GOOD | change)] == ([reason] if reason else [])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9).filter(lambda weights: sum(weights) > 0))
def test_shares_of_a_whole_are_never_found_too_many(weights: list[float]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    assert document_findings(CONTRACT, GOOD | {"shares": shares}) == []


def test_a_document_that_does_not_hold_is_refused_with_every_value_and_range() -> None:
    said = r"missing:passed, out_of_range:metrics.rmse \(41, range 0 to 40\), out_of_range:version \(0, range 1 to 9\)"
    with pytest.raises(ContractError, match=said):
        require_document(CONTRACT, {"version": 0, "metrics": {"rmse": 41}})


def test_a_rule_that_is_only_a_warning_refuses_nothing_and_is_told() -> None:
    lenient = replace(CONTRACT, rules=(WindowRule("in_range", "warning", "accuracy"),))
    late = GOOD | {"version": 10}
    require_document(lenient, late)
    assert [f.severity(lenient) for f in document_findings(lenient, late)] == ["warning"]
    with pytest.raises(ContractError, match="missing:passed"):
        require_document(lenient, late | {"passed": None})
