"""What was found of each rule in each window: passed or not, how severe, with numbers and failing rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backbone.contracts import Contract, Severity, WindowRule
from quality.requests import WINDOW, Batch, Outcome, Status
from quality.window_batches import ROWS, Windows, cadence_of

WIDESPREAD = 0.2
"""Of a rule about each machine, the contract's severity holds where more than this share of the machines fail it. One
machine that is silent, or has a stuck sensor, is for people to look after; the others are not stopped for it."""
_NUMBERS_SHOWN = 40
_SAMPLE = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one rule in one window of a product.

    Attributes:
        status: `error` where the check itself could not be made; that says nothing about the window.
        severity: of a failure; the contract's, but see `WIDESPREAD`.
        observed, expected: for people.
        rows: the window's; 0 is a case of its own, which `observed` says.
        failing: rows of the window, or of the rule's profile, that fail.
        numbers: by name; the counts by column or machine among them.
        sample: the first of the failing rows.
    """

    product: str
    day: date
    rule: WindowRule
    status: Status
    severity: Severity
    observed: str
    expected: str
    rows: int
    failing: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    sample: Sequence[Mapping[str, Any]] = ()

    @property
    def blocks(self) -> bool:
        return self.status == "failed" and self.severity == "error"


def findings_of(
    contract: Contract, windows: Windows, batches: Sequence[Batch], outcomes: Sequence[Outcome]
) -> list[Finding]:
    """One finding a window and rule, from what became of every expectation."""
    tables = {batch.name: batch.rows for batch in batches}
    rows = _counted(windows.rows)
    found: list[Finding] = []
    for rule in contract.rules:
        mine = [o for o in outcomes if o.expectation.rule == rule.kind]
        found += [_finding(contract, rule, day, rows.get(day, 0), mine, tables) for day in windows.days]
    return found


def _finding(
    contract: Contract,
    rule: WindowRule,
    day: date,
    rows: int,
    outcomes: Sequence[Outcome],
    tables: Mapping[str, pa.Table],
) -> Finding:
    errors = [f"{o.expectation.about}: {o.error}" for o in outcomes if o.status == "error"]
    failed = [o for o in outcomes if day in o.counts]
    failing = sum(o.counts[day] for o in failed)
    profile = _of_day(tables.get(rule.kind), day)
    numbers: dict[str, float] = {"rows": rows, "failing": failing}
    status: Status = "failed" if failed else "error" if errors else "passed"
    severity = rule.severity
    if profile is not None and rule.kind in _NUMBERS and profile.num_rows:
        numbers |= _NUMBERS[rule.kind](profile, rule)
    elif profile is None:
        numbers |= _by_column(outcomes, day)
    if rule.kind in _SHARE_OF_MACHINES and profile is not None and failed:
        share = _SHARE_OF_MACHINES[rule.kind](profile, rule)
        numbers["machines_concerned"] = share
        severity = rule.severity if share > WIDESPREAD else "warning"
    return Finding(
        product=contract.product,
        day=day,
        rule=rule,
        status=status,
        severity="warning" if status == "error" else severity,
        observed=_observed(rows, failed, day, errors, profile),
        expected=_expected(rule),
        rows=rows,
        failing=failing,
        numbers=numbers,
        sample=_sample(failed, day, tables),
    )


def _observed(rows: int, failed: Sequence[Outcome], day: date, errors: Sequence[str], profile: pa.Table | None) -> str:
    said = [f"{o.expectation.about}: {o.counts[day]} of {_whole(o, rows, profile)} fail" for o in failed]
    said += [f"the check could not be made: {error}" for error in errors]
    if not rows:
        said.append("the window has no rows")
    elif profile is not None and not profile.num_rows and not errors:
        said.append("there was nothing to judge")
    return "; ".join(said) or "all hold"


def _whole(outcome: Outcome, rows: int, profile: pa.Table | None) -> int:
    return rows if outcome.batch == ROWS or profile is None else profile.num_rows


def _expected(rule: WindowRule) -> str:
    parameters = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in rule.parameters.items())
    return f"{rule.description} ({parameters})" if parameters else rule.description


def _sample(failed: Sequence[Outcome], day: date, tables: Mapping[str, pa.Table]) -> list[dict[str, Any]]:
    sample: list[dict[str, Any]] = []
    for outcome in failed:
        room = _SAMPLE - len(sample)
        if room <= 0:
            break
        rows = tables[outcome.batch].take(pa.array(list(outcome.positions[day])[:room], pa.int64()))
        sample += [{"fails": outcome.expectation.about, **row} for row in rows.to_pylist()]
    return sample


def _by_column(outcomes: Sequence[Outcome], day: date) -> dict[str, float]:
    """Failing rows of each column that was checked; of many columns, only of those that fail."""
    counts = {o.expectation.about: float(o.counts.get(day, 0)) for o in outcomes if o.status != "error"}
    if len(counts) > _NUMBERS_SHOWN:
        counts = dict(_worst(counts.items()))
    return {f"failing: {about}": n for about, n in counts.items()}


def _completeness(profile: pa.Table, rule: WindowRule) -> dict[str, float]:
    present, due, least = (profile[name].to_numpy() for name in ("present", "due", "least"))
    names = profile["equipment_id"].to_pylist()
    shares = {name: min(p / d, 1.0) for name, p, d in zip(names, present, due, strict=True) if d}
    short = present < least
    least_of_all = min(shares.values(), default=1.0)
    return {
        "machines": len(present),
        "machines_short": int(short.sum()),
        "machines_silent": int(((present == 0) & (due > 0)).sum()),
        "readings_due": int(due.sum()),
        "completeness": float(min(present.sum() / due.sum(), 1.0)) if due.sum() else 1.0,
        "least_complete": float(least_of_all),
        "readings_per_day_promised": cadence_of(rule).per_day,
        **{f"completeness of {name}": float(share) for name, share in _fewest(shares.items())},
    }


def _stuck(profile: pa.Table, rule: WindowRule) -> dict[str, float]:
    longest = profile.group_by("sensor").aggregate([("run", "max")]).to_pylist()
    too_long = profile.filter(pc.greater(profile["run"], int(rule.parameters["longest_run"])))
    return {
        "longest_run": float(pc.max(profile["run"]).as_py()),
        "sensors_stuck": too_long.num_rows,
        "machines_stuck": float(pc.count_distinct(too_long["equipment_id"]).as_py()),
        **{f"longest run of {row['sensor']}": float(row["run_max"]) for row in longest[:_NUMBERS_SHOWN]},
    }


def _rising(profile: pa.Table, _: WindowRule) -> dict[str, float]:
    still = profile.filter(pc.less_equal(profile["value"], profile["before"]))
    return {"machines_not_rising": float(pc.count_distinct(still["equipment_id"]).as_py())}


def _drift(profile: pa.Table, _: WindowRule) -> dict[str, float]:
    psi, allowed = (
        dict(zip(profile["column"].to_pylist(), profile[n].to_pylist(), strict=True)) for n in ("psi", "allowed")
    )
    return {
        "psi_highest": max(psi.values()),
        "columns_drifted": sum(value > allowed[name] for name, value in psi.items()),
        "columns": len(psi),
        **{f"psi of {name}": value for name, value in _worst(psi.items())},
        **{f"psi allowed of {name}": allowed[name] for name, _ in _worst(psi.items())},
    }


def _freshness(profile: pa.Table, _: WindowRule) -> dict[str, float]:
    return {"lag_s": float(pc.max(profile["lag_s"]).as_py())}


def _reconciliation(profile: pa.Table, _: WindowRule) -> dict[str, float]:
    return {name: float(pc.sum(profile[name]).as_py()) for name in ("accepted", "kept")}


def _schema(profile: pa.Table, _: WindowRule) -> dict[str, float]:
    return {"columns": profile.num_rows}


def _share_in_range(profile: pa.Table, _: WindowRule) -> dict[str, float]:
    shares = dict(zip(profile["column"].to_pylist(), profile["share"].to_pylist(), strict=True))
    return {f"share of {name}": share for name, share in _fewest(shares.items())}


_NUMBERS: Mapping[str, Callable[[pa.Table, WindowRule], dict[str, float]]] = {
    "schema": _schema,
    "in_range": _share_in_range,
    "completeness": _completeness,
    "freshness": _freshness,
    "stuck_sensors": _stuck,
    "rising": _rising,
    "drift": _drift,
    "reconciliation": _reconciliation,
}


def _machines_short(profile: pa.Table, _: WindowRule) -> float:
    """The share that sent less than can be expected of what the fleet has sent lately."""
    short = pc.less(profile["present"], profile["usual_least"])
    return float(pc.mean(short.cast(pa.float64())).as_py() or 0.0)


def _machines_stuck(profile: pa.Table, rule: WindowRule) -> float:
    too_long = profile.filter(pc.greater(profile["run"], int(rule.parameters["longest_run"])))
    return float(
        pc.count_distinct(too_long["equipment_id"]).as_py() / pc.count_distinct(profile["equipment_id"]).as_py()
    )


_SHARE_OF_MACHINES: Mapping[str, Callable[[pa.Table, WindowRule], float]] = {
    "completeness": _machines_short,
    "stuck_sensors": _machines_stuck,
}


def _of_day(profile: pa.Table | None, day: date) -> pa.Table | None:
    if profile is None:
        return None
    return profile.filter(pc.equal(profile[WINDOW], pa.scalar(day)))


def _counted(rows: pa.Table) -> dict[date, int]:
    counted = rows.group_by(WINDOW).aggregate([(WINDOW, "count")])
    return dict(zip(counted[WINDOW].to_pylist(), counted[f"{WINDOW}_count"].to_pylist(), strict=True))


def _worst(values: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(values, key=lambda item: -item[1])[:_SHOWN_OF_MANY]


def _fewest(values: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(values, key=lambda item: item[1])[:_SHOWN_OF_MANY]


_SHOWN_OF_MANY = 12
