"""What is found of a rule, from what became of its expectations; without Great Expectations."""

from datetime import date, timedelta

import pyarrow as pa
import pytest

from backbone.contracts import Column, Contract, Severity, WindowRule
from quality.findings import Finding, findings_of
from quality.requests import Batch, Outcome
from quality.window_batches import Windows, batches_of
from tests.quality.rows import NO_EVENTS, at, telemetry

DAYS = [date(2025, 3, 1), date(2025, 3, 2)]


def contract(*rules: WindowRule) -> Contract:
    columns = (
        Column("equipment_id", "string", required=True, key=True),
        Column("ts", "timestamp", required=True, key=True),
        Column("temp", "number", unit="degC", role="input", minimum=0, maximum=100),
    )
    return Contract("pump", "1.0.0", "", "team", columns, rules=rules)


def rule(kind: str, severity: Severity = "error", **parameters: float) -> WindowRule:
    return WindowRule(kind, severity, "accuracy", parameters, "As it should be.")


def readings(machines: list[str], days: list[date], per_day: int = 4) -> pa.Table:
    """So many a day of each machine, six hours apart, each a degree above the one before."""
    return telemetry((m, at(d, 6 * n), 20.0 + n) for d in days for m in machines for n in range(per_day))


def windows(rows: pa.Table, around: pa.Table | None = None) -> Windows:
    newest = at(DAYS[-1] + timedelta(days=1), 0)
    return Windows(DAYS, rows, rows if around is None else around, NO_EVENTS, newest=newest)


def by_hand(batch: Batch) -> list[Outcome]:
    """What Great Expectations says of a pair a ≥ b, for profiles whose rows are few."""
    (expectation,) = batch.expectations
    a, b = (batch.rows[expectation.kwargs[k]].to_pylist() for k in ("column_A", "column_B"))
    failing: dict[date, list[int]] = {}
    for n, day in enumerate(batch.rows["date"].to_pylist()):
        if a[n] < b[n]:
            failing.setdefault(day, []).append(n)
    counts = {day: len(positions) for day, positions in failing.items()}
    return [Outcome(batch.name, expectation, "failed" if failing else "passed", counts, failing)]


def completeness(heard: list[str], machines: int = 10) -> Finding:
    known = [f"m{n}" for n in range(machines)]
    rows = pa.concat_tables([readings(known, DAYS[:1]), readings(heard, DAYS[1:])])
    of = contract(rule("completeness", readings_per_day=4, least_share=0.75))
    batches, errors = batches_of(of, windows(rows))
    assert errors == []
    outcomes = by_hand(next(b for b in batches if b.name == "completeness"))
    return next(f for f in findings_of(of, windows(rows), batches, outcomes) if f.day == DAYS[1])


@pytest.mark.parametrize(("silent", "severity", "blocks"), [(2, "warning", False), (3, "error", True)])
def test_one_machine_does_not_stop_a_plant_but_a_quarter_of_them_does(silent: int, severity: str, blocks: bool) -> None:
    found = completeness([f"m{n}" for n in range(10 - silent)])
    assert (found.status, found.severity, found.blocks) == ("failed", severity, blocks)
    assert found.numbers["machines_silent"] == silent
    assert {row["equipment_id"] for row in found.sample} == {f"m{n}" for n in range(10 - silent, 10)}
    assert found.numbers["completeness of m9"] == 0


def test_a_window_without_rows_is_said_to_have_none_and_its_silence_is_found() -> None:
    found = completeness([])
    assert (found.rows, found.blocks) == (0, True)
    assert "the window has no rows" in found.observed


def test_a_check_that_cannot_be_made_is_a_warning_and_blocks_nothing() -> None:
    of = contract(rule("drift", psi_above=0.25), rule("stuck_sensors", longest_run=3), rule("not_null"))
    rows = readings(["a", "b"], DAYS)
    batches, errors = batches_of(of, windows(rows, around=rows.drop_columns(["temp"])))
    assert [e.expectation.rule for e in errors] == ["stuck_sensors"], "drift has no reference, and nothing to judge"
    found = {f.rule.kind: f for f in findings_of(of, windows(rows), batches, errors) if f.day == DAYS[0]}
    assert (found["stuck_sensors"].status, found["stuck_sensors"].severity) == ("error", "warning")
    assert not found["stuck_sensors"].blocks
    assert "KeyError" in found["stuck_sensors"].observed
    assert found["not_null"].status == "passed"


def test_an_engine_that_started_anew_is_a_warning_that_names_it() -> None:
    of = Contract(
        "engine", "1.0.0", "", "team", (*contract().columns, Column("cycle", "integer", required=True)),
        rules=(rule("rising", "warning"),),
    )  # fmt: skip
    rows = readings(["a", "b"], DAYS)
    counts = [n + 1 for n in range(8)] + [n % 6 + 1 for n in range(8)]
    by_machine = rows.sort_by([("equipment_id", "ascending"), ("ts", "ascending")])
    rows = by_machine.append_column("cycle", pa.array(counts))
    batches, errors = batches_of(of, windows(rows))
    assert errors == []
    (batch,) = (b for b in batches if b.name == "rising")
    failing = [n for n, r in enumerate(batch.rows.to_pylist()) if r["value"] <= r["before"]]
    outcome = Outcome("rising", batch.expectations[0], "failed", {DAYS[1]: len(failing)}, {DAYS[1]: failing})
    before, after = findings_of(of, windows(rows), batches, [outcome])
    assert (before.status, after.status, after.blocks) == ("passed", "failed", False)
    assert after.numbers["machines_not_rising"] == 1
    assert [(row["equipment_id"], row["before"], row["value"]) for row in after.sample] == [("b", 6, 1)]


def test_what_fails_is_counted_by_column_and_by_window() -> None:
    of = contract(rule("in_range"))
    rows = readings(["a"], DAYS)
    batches, _ = batches_of(of, windows(rows))
    (expectation,) = batches[0].expectations
    assert expectation.kwargs == {"column": "temp", "min_value": 0, "max_value": 100}
    outcome = Outcome("rows", expectation, "failed", {DAYS[1]: 2}, {DAYS[1]: [4, 5]})
    good, bad = findings_of(of, windows(rows), batches, [outcome])
    assert (good.status, good.numbers["failing: temp"]) == ("passed", 0)
    assert (bad.failing, bad.numbers["failing: temp"]) == (2, 2)
    assert [row["ts"].hour for row in bad.sample] == [0, 6]
