"""Documents against their contracts, with the numbers that people see."""

from typing import Any

import pytest

from backbone.contracts import Column, Contract, WindowRule
from backbone.document_checks import require_document
from backbone.errors import ContractError
from maintenance.data_products import contracts_of
from maintenance.equipment_class import equipment_class_from_contract
from quality.documents import held
from resources.catalog.contracts import SHIPPED, read_contracts

CONTRACT = Contract(
    "model_evaluation",
    "1.0.0",
    "",
    "team",
    (
        Column("passed", "boolean", required=True),
        Column("metrics", "object", parts=(Column("rmse", "number", minimum=0, maximum=40),)),
        Column("seconds", "number", minimum=0),
    ),
    document=True,
)


def test_a_document_that_holds_shows_its_own_numbers_and_its_metrics() -> None:
    found = held(CONTRACT, {"passed": True, "metrics": {"rmse": 5.5, "chosen": "x"}, "seconds": 3})
    assert list(found.reasons) == []
    assert found.numbers == {"rmse": 5.5, "seconds": 3.0, "fields": 4, "reasons": 0}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"metrics": {}}, "missing:passed"),
        ({"passed": True, "seconds": -1}, "out_of_range:seconds (-1, range 0 to …)"),
        ({"passed": True, "metrics": {"rmse": 41}}, "out_of_range:metrics.rmse (41, range 0 to 40)"),
        ({"passed": True, "metrics": {"rmse": float("nan")}}, "not_finite:metrics.rmse (nan)"),
        ({"passed": True, "level": [[1.0, float("inf")]]}, "not_finite:level (inf)"),
        (
            {"passed": True, "manifest": {"metrics": {"width": float("-inf")}}},
            "not_finite:manifest.metrics.width (-inf)",
        ),
    ],
)
def test_every_reason_against_a_document_is_told(document: dict[str, object], reason: str) -> None:
    found = held(CONTRACT, document)
    assert (list(found.reasons), found.severity) == ([reason], "error")
    assert found.numbers["reasons"] == 1


def test_what_breaks_a_warning_only_is_a_warning() -> None:
    lenient = Contract("x", "1.0.0", "", "t", CONTRACT.columns, rules=(WindowRule("in_range", "warning", "accuracy"),))
    found = held(lenient, {"passed": True, "seconds": -1})
    assert (len(found.reasons), found.severity) == (1, "warning")


# ---- what ships
def shipped(product: str) -> Contract:
    """A contract as the pump's class has it: the cap of its remaining life is 40 days."""
    known = read_contracts([SHIPPED])
    return contracts_of(equipment_class_from_contract(known["pump"]), known)[product]


EVALUATION: dict[str, Any] = {
    "passed": True,
    "reasons": [],
    "metrics": {"rmse": 6.4, "coverage": 0.9, "width": 20.0, "cost_ratio": 0.5, "rules_rmse": 15.0, "nasa_score": 9.0}
    | {"rules_pr_auc": 0.4, "false_alarm_share": 0.02},
    "points": {},
}
MANIFEST: dict[str, Any] = {
    "rul": {"unit": "day", "seconds": 86400.0, "cap": 40.0},
    "candidates": [{"model": ["trees"], "rmse": 6.4, "nasa_score": 9.0}],
    "intervals": {"coverage": 0.9, "cap": 40.0},
    "policy": {"act_below": 8.0, "cost_rate": 0.04, "failures": 0, "fixed_age": None, "planned": 1.0, "failure": 9.0},
    "metrics": {"rmse": 6.4, "onnx_max_abs_diff": 1e-5, "rows": 9, "failures": 8, "machines": 5},
}
TRAINED: dict[str, Any] = {
    "location": "on_prem",
    "bundle": "work/1",
    "manifest": MANIFEST,
    "card": "",
    "train_seconds": 1.0,
    "points": {},
}
BASELINE: dict[str, Any] = {
    "settings": ["speed_rpm"],
    "inputs": ["heat"],
    "centres": [[1450.0], [2900.0]],
    "ranges": [3600.0],
    "shares": [0.4, 0.6],
    "level": [[1.0], ["nan"]],
    "scale": [["inf"], ["nan"]],
}


@pytest.mark.parametrize(
    ("product", "document", "at", "value", "said"),
    [
        ("model_evaluation", EVALUATION, ("metrics", "rmse"), 40.1, r"metrics.rmse \(40.1, range 0 to 40\)"),
        ("model_evaluation", EVALUATION, ("metrics", "coverage"), 1.01, r"metrics.coverage \(1.01, range 0 to 1\)"),
        ("model_evaluation", EVALUATION, ("metrics", "width"), -1.0, r"metrics.width \(-1.0, range 0 to 40\)"),
        ("model_evaluation", EVALUATION, ("metrics", "cost_ratio"), 0.0, r"cost_ratio \(0.0, range above 0\)"),
        ("model_evaluation", EVALUATION, ("metrics", "rules_pr_auc"), 1.5, r"rules_pr_auc \(1.5, range 0 to 1\)"),
        ("model_evaluation", EVALUATION, ("metrics", "false_alarm_share"), -0.1, r"false_alarm_share \(-0.1, range"),
        ("trained_model", TRAINED, ("manifest", "metrics", "onnx_max_abs_diff"), 0.02, r"\(0.02, range 0 to 0.01\)"),
        ("trained_model", TRAINED, ("manifest", "candidates", 0, "rmse"), 99.0, r"candidates\[0\].rmse \(99.0, range"),
        ("trained_model", TRAINED, ("manifest", "policy", "act_below"), 41.0, r"act_below \(41.0, range 0 to 40\)"),
        ("operating_baseline", BASELINE, ("shares", 1), 0.7, r"shares \(sum 1.1, at most 1\)"),
        ("operating_baseline", BASELINE, ("ranges", 0), 0.0, r"ranges\[0\] \(0.0, range above 0\)"),
    ],
)
def test_a_figure_that_cannot_be_is_refused_and_the_same_document_without_it_is_not(
    product: str, document: dict[str, Any], at: tuple[str | int, ...], value: float, said: str
) -> None:
    contract = shipped(product)
    require_document(contract, document)
    with pytest.raises(ContractError, match=said):
        require_document(contract, changed(document, at, value))


def changed(document: Any, at: tuple[str | int, ...], value: float) -> Any:
    if not at:
        return value
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    copy[at[0]] = changed(copy[at[0]], at[1:], value)
    return copy
