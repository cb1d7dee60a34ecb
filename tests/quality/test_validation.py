"""Batches through Great Expectations itself; the only tests, with those of the worker, that pay for its import."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from quality.data_docs import Page, rendered, result_of, write_pages
from quality.requests import Batch, Expectation, Outcome
from quality.validation import validate

DAYS = [date(2025, 3, 1), date(2025, 3, 2)]
BETWEEN, NOT_NULL = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"
UNIQUE, NO_LESS = "expect_compound_columns_to_be_unique", "expect_column_pair_values_a_to_be_greater_than_b"


def rows(**changes: list[object]) -> pa.Table:
    columns: dict[str, list[object]] = {
        "date": [*DAYS, *DAYS],
        "id": ["a", "a", "b", "b"],
        "x": [1.0, 2.0, 3.0, 4.0],
        "y": [0.0, 1.0, 2.0, 3.0],
    }
    return pa.table(columns | changes)


def asked(*expectations: tuple[str, dict[str, object]]) -> list[Expectation]:
    return [Expectation(kind, kwargs, "in_range", "x") for kind, kwargs in expectations]


def test_failing_rows_are_counted_by_window_and_pointed_at() -> None:
    batch = Batch("b", rows(x=[1.0, 99.0, None, 98.0]), asked((BETWEEN, {"column": "x", "max_value": 10})))
    (outcome,) = validate([batch])
    assert (outcome.status, outcome.counts) == ("failed", {DAYS[1]: 2})
    assert outcome.positions == {DAYS[1]: [1, 3]}
    assert Outcome.from_json(outcome.to_json()) == outcome


def test_keys_are_unique_within_a_window_and_pairs_compare_row_by_row() -> None:
    batch = Batch(
        "b",
        rows(id=["a", "a", "a", "b"], y=[0.0, 9.0, 2.0, 3.0]),
        asked(
            (UNIQUE, {"column_list": ["id", "date"], "ignore_row_if": "never"}),
            (NO_LESS, {"column_A": "x", "column_B": "y", "or_equal": True, "ignore_row_if": "neither"}),
        ),
    )
    found = {o.expectation.type: o.counts for o in validate([batch])}
    assert found == {UNIQUE: {DAYS[0]: 2}, NO_LESS: {DAYS[1]: 1}}


def test_an_expectation_that_raises_is_its_own_error_and_the_others_report() -> None:
    batch = Batch(
        "b",
        rows(x=[1.0, 99.0, 3.0, 4.0]),
        asked(
            (NOT_NULL, {"column": "no_such_column"}),
            ("expect_no_such_thing", {"column": "x"}),
            (BETWEEN, {"column": "x", "min_value": "not a number"}),
            (BETWEEN, {"column": "x", "max_value": 10}),
            (NOT_NULL, {"column": "y"}),
        ),
    )
    outcomes = validate([batch])
    found = {(o.expectation.type, str(o.expectation.kwargs)): o for o in outcomes}
    assert len(found) == 5
    assert [o.status for o in outcomes].count("error") == 3
    assert "no_such_column" in found[NOT_NULL, "{'column': 'no_such_column'}"].error
    assert found[BETWEEN, "{'column': 'x', 'max_value': 10}"].counts == {DAYS[1]: 1}
    assert found[NOT_NULL, "{'column': 'y'}"].status == "passed"


def test_a_batch_without_rows_holds() -> None:
    empty = Batch("b", rows().slice(0, 0), asked((NOT_NULL, {"column": "x"}), (NOT_NULL, {"column": "none"})))
    assert [o.status for o in validate([empty])] == ["passed", "passed"]


def test_the_same_suite_is_evaluated_anew_for_each_batch() -> None:
    expectations = asked((BETWEEN, {"column": "x", "max_value": 10}))
    good, bad = rows(), rows(x=[1.0, 2.0, 3.0, 40.0])
    found = validate([Batch("1", good, expectations), Batch("2", bad, expectations), Batch("3", good, expectations)])
    assert [o.status for o in found] == ["passed", "failed", "passed"]


def test_it_finds_what_great_expectations_finds_by_its_own_way() -> None:
    """The short way through its public classes must not come to other results than `Batch.validate`."""
    import great_expectations as gx

    random = np.random.default_rng(5)
    n = 400
    table = pa.table(
        {
            "date": pa.array([DAYS[i % 2] for i in range(n)]),
            "id": [f"m{i % 37}" for i in range(n)],
            "x": pa.array(np.where(random.random(n) < 0.1, np.nan, random.normal(size=n)), from_pandas=True),
            "y": random.normal(size=n),
            "why": pa.array([("gone", None, "late", None, "odd")[i % 5] for i in range(n)], pa.string()),
        }
    )
    expectations = asked(
        (BETWEEN, {"column": "x", "min_value": -1.5, "max_value": 1.5}),
        (BETWEEN, {"column": "y", "min_value": -9, "max_value": 9}),
        (NOT_NULL, {"column": "x"}),
        (UNIQUE, {"column_list": ["id", "date"], "ignore_row_if": "never"}),
        (NO_LESS, {"column_A": "x", "column_B": "y", "or_equal": True, "ignore_row_if": "either_value_is_missing"}),
        ("expect_column_values_to_be_in_set", {"column": "id", "value_set": [f"m{i}" for i in range(30)]}),
        ("expect_column_values_to_not_be_in_set", {"column": "why", "value_set": ["gone", "odd"]}),
    )
    context = gx.get_context(mode="ephemeral")
    made = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    registry = gx.expectations.registry
    suite = gx.ExpectationSuite(
        name="s", expectations=[registry.get_expectation_impl(e.type)(**e.kwargs) for e in expectations]
    )
    theirs = made.get_batch({"dataframe": table.to_pandas()}).validate(suite, result_format="COMPLETE")
    expected = {r.expectation_config.type + str(r.expectation_config.kwargs.get("column")): r for r in theirs.results}
    for outcome in validate([Batch("b", table, expectations)]):
        result = expected[outcome.expectation.type + str(outcome.expectation.kwargs.get("column"))]
        assert (outcome.status == "passed") == result.success
        assert sum(outcome.counts.values()) == result.result["unexpected_count"]
        assert {at for some in outcome.positions.values() for at in some} <= set(result.result["unexpected_index_list"])


def test_pages_show_what_failed_are_bounded_and_stay_in_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "docs"
    batch = Batch("rows", rows(x=[1.0, 2.0, 3.0, 987.5]), asked((BETWEEN, {"column": "x", "max_value": 10})))
    (outcome,) = validate([batch])
    results = [result_of(outcome, day, batch.rows, 2) for day in DAYS]
    assert [r["success"] for r in results] == [True, False]
    monkeypatch.setattr("quality.data_docs.MOST_PAGES", 2)
    for number in range(1, 4):
        write_pages(folder, [Page(f"pump/north/telemetry/2025-03-0{number}.html", "pump/telemetry", results)])
    kept = sorted(p.name for p in folder.glob("*/*/*/*.html"))
    assert len(kept) == 2
    assert "987.5" in (folder / "pump/north/telemetry" / kept[-1]).read_text()
    assert all(name in (folder / "index.html").read_text() for name in kept)
    with pytest.raises(ValueError, match="no page"):
        write_pages(folder, [Page("../outside.html", "", results)])


def test_a_page_by_itself_says_what_passed_what_failed_and_what_could_not_be_made() -> None:
    between = {"column": "x", "max_value": 10}
    batch = Batch(
        "rows", rows(x=[1.0, 2.0, 3.0, 987.5]), asked((BETWEEN, between), (BETWEEN, {**between, "max_value": 999}))
    )
    outcomes = [
        *validate([batch]),
        *validate([Batch("rows", batch.rows, asked((NOT_NULL, {"column": "gone"})))]),
        Outcome("drift", Expectation("", {}, "drift", "drift"), "error", error="KeyError: '<x>'"),
    ]
    assert sorted(o.status for o in outcomes) == ["error", "error", "failed", "passed"]
    page = rendered(Page("p", "pump/telemetry", [result_of(o, DAYS[1], batch.rows, 2) for o in outcomes]))
    assert (page.count(">✗ failed<"), page.count(">✓ passed<"), page.count(">✗ not made<")) == (1, 1, 2)
    assert "✗ 3 of 4 failed: pump/telemetry" in page
    assert "KeyError: &#x27;&lt;x&gt;&#x27;" in page
    assert "987.5" in page
    for elsewhere in ("<script", "<link", "<img", "<footer", "onclick", "://", "fa-"):
        assert elsewhere not in page, "nothing is loaded, and no mark is left to a font that is not there"


def test_what_a_plant_sent_is_text_in_a_page() -> None:
    forged = ["m1", "m1", "m1", "</td><footer>✓ passed"]
    batch = Batch(
        "rows", rows(id=forged), asked(("expect_column_values_to_be_in_set", {"column": "id", "value_set": ["m1"]}))
    )
    (outcome,) = validate([batch])
    page = rendered(Page("p", "pump/telemetry", [result_of(outcome, DAYS[1], batch.rows, 2)]))
    assert "&lt;/td&gt;&lt;footer&gt;✓ passed" in page
    assert "<footer>" not in page


def test_a_page_on_which_all_passed_says_so() -> None:
    batch = Batch("rows", rows(x=[1.0, 2.0, 3.0, 4.0]), asked((BETWEEN, {"column": "x", "max_value": 10})))
    page = rendered(Page("p", "pump/telemetry", [result_of(o, DAYS[1], batch.rows, 2) for o in validate([batch])]))
    assert "✓ all 1 passed: pump/telemetry" in page
    assert "✗" not in page


def test_nothing_of_a_plant_goes_over_a_network(tmp_path: Path) -> None:
    """Importing, validating and rendering open no connection to anybody."""
    code = """
import socket, sys
from datetime import date
from pathlib import Path
def refuse(self, address):
    Path(sys.argv[1]).write_text(str(address))
    raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = refuse
from quality.data_docs import Page, rendered
from quality.validation import warm_up
warm_up()
assert "telemetry" in rendered(Page("a", "telemetry", []))
"""
    told = tmp_path / "connected"
    done = subprocess.run([sys.executable, "-c", code, str(told)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert not told.exists()
