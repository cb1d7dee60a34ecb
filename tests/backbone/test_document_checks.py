"""A document holds its contract, or every reason against it is told."""

import pytest

from backbone.contracts import Column, Contract
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
        Column("metrics", "object"),
        Column("seconds", "number", minimum=0),
        Column("version", "integer", minimum=1, maximum=9),
        Column("kind", "string", allowed=("first", "later")),
        Column("at", "timestamp"),
    ),
)
GOOD = {
    "passed": True,
    "reasons": [],
    "metrics": {},
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
        ({"seconds": -1}, "out_of_range:seconds"),
        ({"seconds": float("nan")}, "out_of_range:seconds"),
        ({"version": 2.0}, "wrong_type:version"),
        ({"version": 10}, "out_of_range:version"),
        ({"kind": "last"}, "not_allowed:kind"),
        ({"at": "noon"}, "wrong_type:at"),
    ],
)
def test_a_field_gets_the_reason_people_can_act_on(change: dict[str, object], reason: str | None) -> None:
    assert document_findings(CONTRACT, GOOD | change) == ([reason] if reason else [])


def test_a_document_that_does_not_hold_is_refused_with_every_reason() -> None:
    with pytest.raises(ContractError, match="missing:passed, out_of_range:version"):
        require_document(CONTRACT, {"version": 0})
