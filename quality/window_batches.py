"""A contract's rules become batches of rows, each with the expectations it is held to.

Rules about values are put to Great Expectations as they are, on the product's own rows. Those that it has no
expectation for are first computed into a small table (`quality.profiles`), which is then checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from backbone.contracts import Contract, WindowRule
from backbone.reasons import INHERENT
from quality import profiles
from quality.drift import DriftReference
from quality.requests import WINDOW, Batch, Expectation, Outcome

ROWS = "rows"
"""Name of the batch that holds a product's own rows; those of profiles have the names of their rules."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one product that are judged, and what it takes to judge them.

    Attributes:
        days: the windows.
        rows: the product's own, of those days.
        around: the same with the days before them, as far as a rule looks back.
        events: failures and renewals, up to the last day.
        newest: the newest reading of the plant that has landed; None where nothing has.
        newest_of_day: the newest reading that has landed for each day.
        reference: what sensors told in the training set; one of no columns where there is none.
        counted: (day, rows accepted, rows kept) of days that were ingested as they now stand.
        cap: the longest remaining useful life that a prognosis can be of.
    """

    days: Sequence[date]
    rows: pa.Table
    around: pa.Table
    events: pa.Table
    newest: datetime | None = None
    newest_of_day: Mapping[date, datetime] = field(default_factory=dict)
    reference: DriftReference = field(default_factory=DriftReference)
    counted: Sequence[tuple[date, int, int]] = ()
    cap: float | None = None


def batches_of(contract: Contract, windows: Windows) -> tuple[list[Batch], list[Outcome]]:
    """What the windows are held to: one batch of the rows, and one for each rule that a profile is made for.

    Returns:
        The batches, and an error for each rule whose profile cannot be made, as where a column is missing.
    """
    on_rows: list[Expectation] = []
    found: list[Batch] = []
    errors: list[Outcome] = []
    for rule in contract.rules:
        if rule.kind in _ON_ROWS and not (rule.kind == "in_range" and _share(rule) < 1):
            asked = _ON_ROWS[rule.kind](contract, windows)
            on_rows += [Expectation(kind, kwargs, rule.kind, about) for kind, kwargs, about in asked]
            continue
        try:
            found.append(Batch(rule.kind, *_PROFILES[rule.kind](contract, rule, windows)))
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            errors.append(Outcome(rule.kind, Expectation("", {}, rule.kind, rule.kind), "error", error=why))
    return [Batch(ROWS, windows.rows, on_rows), *found], errors


_Asked = list[tuple[str, dict[str, Any], str]]


def _not_null(contract: Contract, _: Windows) -> _Asked:
    required = [c.name for c in contract.columns if c.required and c.name not in ("site", WINDOW)]
    return [("expect_column_values_to_not_be_null", {"column": name}, name) for name in required]


def _in_range(contract: Contract, _: Windows) -> _Asked:
    return [
        ("expect_column_values_to_be_between", _bounds(name, low, high), name)
        for name, (low, high) in _bounded(contract).items()
    ]


def _allowed(contract: Contract, _: Windows) -> _Asked:
    return [
        ("expect_column_values_to_be_in_set", {"column": c.name, "value_set": list(c.allowed)}, c.name)
        for c in contract.columns
        if c.allowed
    ]


def _unique(contract: Contract, _: Windows) -> _Asked:
    # The window is part of every key: a batch may hold several.
    keys = list(dict.fromkeys([*contract.keys, WINDOW]))
    asked = {"column_list": keys, "ignore_row_if": "never"}
    return [("expect_compound_columns_to_be_unique", asked, ", ".join(contract.keys))]


def _sane(_: Contract, windows: Windows) -> _Asked:
    pairs = [("rul_high", "rul"), ("rul", "rul_low")]
    asked: _Asked = [
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": a, "column_B": b, "or_equal": True, "ignore_row_if": "either_value_is_missing"},
            f"{a} ≥ {b}",
        )
        for a, b in pairs
    ]
    return [
        ("expect_column_values_to_be_between", _bounds("rul_low", 0, None), "rul_low ≥ 0"),
        *asked,
        ("expect_column_values_to_be_between", _bounds("rul", 0, windows.cap), "rul"),
    ]


def _answerable(_: Contract, __: Windows) -> _Asked:
    return [
        ("expect_column_values_to_not_be_in_set", {"column": "abstained", "value_set": sorted(INHERENT)}, "readings")
    ]


_ON_ROWS: Mapping[str, Callable[[Contract, Windows], _Asked]] = {
    "not_null": _not_null,
    "in_range": _in_range,
    "allowed_values": _allowed,
    "unique": _unique,
    "sane": _sane,
    "answerable": _answerable,
}


def _schema(contract: Contract, rule: WindowRule, windows: Windows) -> tuple[pa.Table, list[Expectation]]:
    profile = profiles.schema_profile(windows.rows.schema, contract.arrow_schema, windows.days)
    pair = {"column_A": "stored", "column_B": "promised", "ignore_row_if": "neither"}
    return profile, [Expectation("expect_column_pair_values_to_be_equal", pair, rule.kind, "types of the columns")]


def _share_in_range(contract: Contract, rule: WindowRule, windows: Windows) -> tuple[pa.Table, list[Expectation]]:
    profile = profiles.shares_in_range(windows.rows, _bounded(contract))
    return profile, [_between("share", _share(rule), None, rule, "share within range")]


def _completeness(_: Contract, rule: WindowRule, windows: Windows) -> tuple[pa.Table, list[Expectation]]:
    profile = profiles.COMPLETENESS.empty_table()
    if windows.newest is not None:
        profile = profiles.completeness_profile(
            windows.around, windows.events, windows.days, windows.newest, cadence_of(rule)
        )
    pair = {"column_A": "present", "column_B": "least", "or_equal": True, "ignore_row_if": "neither"}
    kind = "expect_column_pair_values_a_to_be_greater_than_b"
    return profile, [Expectation(kind, pair, rule.kind, "readings of each machine")]


def _freshness(_: Contract, rule: WindowRule, windows: Windows) -> tuple[pa.Table, list[Expectation]]:
    within = float(rule.parameters["within_s"])
    has_times = "ts" in windows.rows.column_names
    profile = profiles.freshness_profile(windows.rows, windows.newest_of_day if has_times else {})
    return profile, [_between("lag_s", None, within, rule, "newest row")]


def _stuck(contract: Contract, rule: WindowRule, windows: Windows) -> tuple[pa.Table, list[Expectation]]:
    profile = profiles.stuck_profile(windows.around, contract.inputs, windows.days)
    return profile, [_between("run", None, int(rule.parameters["longest_run"]), rule, "readings in a row")]


def _rising(contract: Contract, rule: WindowRule, windows: Windows) -> tuple[pa.Table, list[Expectation]]:
    profile = profiles.rising_profile(windows.around, windows.events, contract.counters, windows.days)
    pair = {"column_A": "value", "column_B": "before", "ignore_row_if": "neither"}
    kind = "expect_column_pair_values_a_to_be_greater_than_b"
    return profile, [Expectation(kind, pair, rule.kind, "readings after another")]


def _drift(_: Contract, rule: WindowRule, windows: Windows) -> tuple[pa.Table, list[Expectation]]:
    profile = windows.reference.profile(windows.around, windows.days, float(rule.parameters["psi_above"]))
    pair = {"column_A": "allowed", "column_B": "psi", "or_equal": True, "ignore_row_if": "neither"}
    kind = "expect_column_pair_values_a_to_be_greater_than_b"
    return profile, [Expectation(kind, pair, rule.kind, "distribution of each sensor")]


def _reconciliation(_: Contract, rule: WindowRule, windows: Windows) -> tuple[pa.Table, list[Expectation]]:
    profile = profiles.reconciliation_profile(windows.counted, windows.days)
    pair = {"column_A": "accepted", "column_B": "kept", "ignore_row_if": "neither"}
    return profile, [Expectation("expect_column_pair_values_to_be_equal", pair, rule.kind, "accepted = kept")]


_PROFILES: Mapping[str, Callable[[Contract, WindowRule, Windows], tuple[pa.Table, list[Expectation]]]] = {
    "schema": _schema,
    "in_range": _share_in_range,
    "completeness": _completeness,
    "freshness": _freshness,
    "stuck_sensors": _stuck,
    "rising": _rising,
    "drift": _drift,
    "reconciliation": _reconciliation,
}


def cadence_of(rule: WindowRule) -> profiles.Cadence:
    """What a completeness rule promises."""
    return profiles.Cadence(float(rule.parameters["readings_per_day"]), float(rule.parameters["least_share"]))


def _share(rule: WindowRule) -> float:
    return float(rule.parameters.get("least_share", 1.0))


def _bounded(contract: Contract) -> dict[str, tuple[float | None, float | None]]:
    return {
        c.name: (c.minimum, c.maximum)
        for c in contract.columns
        if c.logical_type in ("number", "integer") and (c.minimum is not None or c.maximum is not None)
    }


def _bounds(column: str, low: float | None, high: float | None) -> dict[str, Any]:
    sides = {"min_value": low, "max_value": high}
    return {"column": column} | {side: value for side, value in sides.items() if value is not None}


def _between(column: str, low: float | None, high: float | None, rule: WindowRule, about: str) -> Expectation:
    return Expectation("expect_column_values_to_be_between", _bounds(column, low, high), rule.kind, about)
