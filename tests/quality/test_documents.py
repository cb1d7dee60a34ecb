"""Documents against their contracts, with the numbers that people see."""

import pytest

from backbone.contracts import Column, Contract
from quality.documents import held

CONTRACT = Contract(
    "model_evaluation",
    "1.0.0",
    "",
    "team",
    (Column("passed", "boolean", required=True), Column("metrics", "object"), Column("seconds", "number", minimum=0)),
    document=True,
)


def test_a_document_that_holds_shows_its_own_numbers_and_its_metrics() -> None:
    found = held(CONTRACT, {"passed": True, "metrics": {"rmse": 5.5, "chosen": "x"}, "seconds": 3})
    assert list(found.reasons) == []
    assert found.numbers == {"rmse": 5.5, "seconds": 3.0, "fields": 3, "reasons": 0}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"metrics": {}}, "missing:passed"),
        ({"passed": True, "seconds": -1}, "out_of_range:seconds"),
        ({"passed": True, "metrics": {"rmse": float("nan")}}, "not_finite:metrics.rmse"),
        ({"passed": True, "level": [[1.0, float("inf")]]}, "not_finite:level"),
        ({"passed": True, "manifest": {"metrics": {"width": float("-inf")}}}, "not_finite:manifest.metrics.width"),
    ],
)
def test_every_reason_against_a_document_is_told(document: dict[str, object], reason: str) -> None:
    found = held(CONTRACT, document)
    assert list(found.reasons) == [reason]
    assert found.numbers["reasons"] == 1
