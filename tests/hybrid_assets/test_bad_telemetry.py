"""However ugly what a source sends, in whatever order and files: nothing vanishes, and features are those of the rest.

The way a plant's rows take, without Dagster: landing, row check, readings, features by window, rules.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.contracts import Contract
from backbone.odcs import contract_from_odcs
from backbone.row_checks import row_check
from backbone.sources import Batch, RefusedBatch
from backbone.windows import WindowRange
from maintenance.assessments import assess
from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import equipment_class_from_contract
from maintenance.readings import Readings, history_from_arrow, readings_from_arrow
from resources.landing import Landing

FIRST, DAYS, A_DAY = date(2025, 3, 1), 4, 4
LAST = FIRST + timedelta(days=DAYS - 1)
NOW = datetime.combine(LAST, time(20), UTC)
WHOLE = WindowRange("west", FIRST, LAST)
EVENTS = pa.table(
    {
        "equipment_id": ["press-1"],
        "ts": pa.array([datetime(2025, 3, 2, 13, tzinfo=UTC)], pa.timestamp("us", tz="UTC")),
        "event": ["failure"],
    }
)
Row = dict[str, Any]


def column(name: str, kind: str, role: str, least: float, most: float, **more: Any) -> dict[str, Any]:
    custom = [{"property": "unit", "value": "1"}, {"property": "role", "value": role}]
    bounds = {"minimum": least, "maximum": most}
    return {"name": name, "logicalType": kind, "logicalTypeOptions": bounds, "customProperties": custom, **more}


CONTRACT: Contract = contract_from_odcs(
    {
        "id": "press",
        "version": "1.0.0",
        "schema": [
            {
                "name": "telemetry",
                "properties": [
                    {"name": "equipment_id", "logicalType": "string", "primaryKey": True, "required": True},
                    {"name": "ts", "logicalType": "timestamp", "primaryKey": True, "required": True},
                    column("cycle", "integer", "context", 1, 9999, required=True),
                    column("force", "number", "input", 0, 100),
                    column("heat", "number", "input", -20, 200),
                ],
            }
        ],
        "customProperties": [
            {"property": "remainingUsefulLife", "value": {"unit": "day", "seconds": 86400, "cap": 30}},
            {"property": "features", "value": {"means": [3, 6], "deviations": [6], "slopes": [6], "averages": [0.2]}},
        ],
    }
)
CLS = equipment_class_from_contract(CONTRACT)


def good_rows() -> list[Row]:
    """Three presses, read four times a day; a sensor is silent now and then."""
    drawn = np.random.default_rng(5)
    return [
        {
            "equipment_id": f"press-{machine}",
            "ts": datetime.combine(FIRST + timedelta(days=day), time(hour), UTC),
            "cycle": 1 + day * A_DAY + n,
            "force": None if drawn.random() < 0.05 else round(50 + day + float(drawn.normal()), 2),
            "heat": round(80 + 3 * machine + float(drawn.normal()), 2),
        }
        for machine in range(3)
        for day in range(DAYS)
        for n, hour in enumerate((1, 7, 13, 19))
    ]


GOOD = good_rows()

ROWS_REFUSED = {
    "infinite": {"force": np.inf},
    "minus infinite": {"heat": -np.inf},
    "in another unit, beyond the range": {"heat": 353.15},
    "a cycle below one": {"cycle": -3},
    "no cycle": {"cycle": None},
    "no machine": {"equipment_id": None},
    "a blank machine": {"equipment_id": " "},
    "no time": {"ts": None},
    "before the plant": {"ts": datetime(1970, 1, 1, tzinfo=UTC)},
    "a clock hours ahead": {"ts": NOW + timedelta(hours=3)},
    "a clock years ahead": {"ts": NOW + timedelta(days=4000)},
}
"""What makes a row one that is refused, whatever else is sent."""


@dataclass(frozen=True)
class Sent:
    """Files, in the order in which they are taken up."""

    files: list[list[Row]]
    unreadable: int
    rows: int


@st.composite
def ugly(draw: st.DrawFn) -> Sent:
    """The good rows among bad ones and copies, late and out of order, over some files, of which some come twice."""
    bad = draw(st.lists(st.tuples(st.sampled_from(GOOD), st.sampled_from(sorted(ROWS_REFUSED))), max_size=12))
    # At a time of its own: what is refused is not what was good.
    refused = [row | {"ts": row["ts"] + timedelta(minutes=7)} | ROWS_REFUSED[how] for row, how in bad]
    copies = draw(st.lists(st.sampled_from(GOOD), max_size=6))
    nan = [row | {"force": np.nan} if row["force"] is None else row for row in GOOD]
    rows = [*nan, *refused, *copies]
    if draw(st.booleans()):
        draw(st.randoms(use_true_random=False)).shuffle(rows)
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    files = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    # A reading that says something else of a time that has come already, and after it.
    conflicts = [row | {"heat": row["heat"] + 1} for row in draw(st.lists(st.sampled_from(GOOD), max_size=4))]
    files.append(conflicts)
    sent = sum(len(rows) for rows in files)
    files += draw(st.lists(st.sampled_from(files), max_size=2))  # the same content has no effect
    return Sent(files, unreadable=draw(st.integers(0, 2)), rows=sent)


def batches(sent: Sent) -> list[Batch | RefusedBatch]:
    schema = pa.schema([(f.name, f.type) for f in CONTRACT.arrow_schema])
    files: list[Batch | RefusedBatch] = [
        Batch(str(hash(repr(rows))), "telemetry", LAST, pa.Table.from_pylist(rows, schema), "a file", position="")
        for rows in sent.files
        if rows
    ]
    torn = (f"torn {n}" for n in range(sent.unreadable))
    return [*files, *(RefusedBatch(name, "telemetry", LAST, "unreadable_file: torn", name, "") for name in torn)]


def features_by_window(stored: pa.Table, windows: list[WindowRange]) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """What the graph computes of the windows in turn, and what the rules say of it."""
    baseline = fit_baseline(CLS, readings(table(GOOD)))
    state, matrices, said = None, [], []
    for window in windows:
        rows = readings(between(stored, window))
        features, state = compute_features(CLS, baseline, rows, state)
        matrices.append((features.rows.equipment, features.rows.ts, features.matrix))
        said += assess(CLS, features).reasons()
    at = np.lexsort((np.concatenate([m[1] for m in matrices]), np.concatenate([m[0] for m in matrices]).astype(str)))
    return features.names, np.concatenate([m[2] for m in matrices])[at], sorted(said)


def readings(rows: pa.Table) -> Readings:
    return readings_from_arrow(CLS, rows, history_from_arrow(EVENTS))


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, CONTRACT.arrow_schema)


def between(rows: pa.Table, days: WindowRange) -> pa.Table:
    day = rows["ts"].cast(pa.date32(), safe=False)
    return rows.filter(pc.and_(pc.greater_equal(day, pa.scalar(days.first)), pc.less_equal(day, pa.scalar(days.last))))


@given(ugly(), st.sampled_from([1, 2, DAYS]), st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_nothing_vanishes_and_features_are_those_of_the_good_rows(
    tmp_path_factory: pytest.TempPathFactory, sent: Sent, at_once: int, commits: int
) -> None:
    folder = tmp_path_factory.mktemp("plant")
    landing = Landing(folder / "landing", "west", {"telemetry": CONTRACT}, FIRST, None)
    given_over = batches(sent)
    for n in range(commits):
        landing.take_up(given_over[n::commits], until=NOW)
    windows = [
        WindowRange("west", FIRST + timedelta(days=n), FIRST + timedelta(days=min(n + at_once, DAYS) - 1))
        for n in range(0, DAYS, at_once)
    ]
    stored, accepted = [], landing.counts("telemetry")
    assert sum(accepted.values()) == sent.rows + sent.unreadable
    for window in windows:
        landing.export("telemetry", window, folder / "packed.parquet")
        rows = pq.read_table(folder / "packed.parquet")
        reasons = row_check(CONTRACT)(rows, window.first, window.last)
        kept = rows.filter(pc.is_null(reasons))
        assert kept.num_rows + len(reasons.drop_null()) == sum(accepted.get(day, 0) for day in window)
        stored.append(kept.select(CONTRACT.arrow_schema.names))

    found = pa.concat_tables(stored).sort_by([("equipment_id", "ascending"), ("ts", "ascending")])
    if commits == 1:  # else a later reading of a time may have come first, and stands
        assert (
            found.to_pylist() == table(GOOD).sort_by([("equipment_id", "ascending"), ("ts", "ascending")]).to_pylist()
        )
        _, matrix, said = features_by_window(found, windows)
        _, expected, expected_said = features_by_window(table(GOOD), [WHOLE])
        np.testing.assert_array_equal(matrix, expected)
        assert said == expected_said
    keys = [(row["equipment_id"], row["ts"]) for row in found.to_pylist()]
    assert keys == [(row["equipment_id"], row["ts"]) for row in GOOD]
