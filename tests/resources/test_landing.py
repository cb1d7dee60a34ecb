"""Taking up is whole, once, and into the window a row belongs to."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backbone.row_checks import DEFECT
from backbone.sources import Batch, RefusedBatch
from backbone.windows import WindowRange
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.landing import Landing, Receipt

FIRST, LAST = date(2025, 1, 1), date(2025, 1, 10)
END = datetime.combine(LAST + timedelta(days=1), time(), UTC)
CONTRACTS = read_contracts([SHIPPED])


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    contracts = {"telemetry": CONTRACTS["pump"], "maintenance": CONTRACTS["maintenance"]}
    return Landing(tmp_path / "landing", "north", contracts, FIRST, LAST)


def batch(txn: str, days: list[int], day: date = FIRST, **columns: list[object]) -> Batch:
    ts = [datetime(2025, 1, 1, 6, tzinfo=UTC) + timedelta(days=d) for d in days]
    rows = pa.table({"equipment_id": [f"p{i}" for i in range(len(days))], "ts": ts, **columns})
    return Batch(txn=txn, stream="telemetry", day=day, rows=rows, origin="a test", position=txn)


def take_up(landing: Landing, one: Batch | RefusedBatch) -> Receipt:
    return landing.take_up([one], until=END)[0]


def test_batches_of_one_commit_each_get_their_receipt(landing: Landing) -> None:
    take_up(landing, batch("a", [0]))
    receipts = landing.take_up([batch("b", [1, 2]), batch("a", [0]), batch("b", [1, 2])], until=END)
    assert [(r.new, r.rows) for r in receipts] == [(True, 2), (False, 0), (False, 0)]
    assert sum(landing.counts("telemetry").values()) == 3


def test_a_batch_is_taken_up_once(landing: Landing) -> None:
    assert take_up(landing, batch("a", [0, 1])).rows == 2
    before = landing.fingerprints()
    again = take_up(landing, batch("a", [0, 1]))
    assert (again.new, again.rows) == (False, 0)
    assert landing.fingerprints() == before
    assert sum(landing.counts("telemetry").values()) == 2


def test_rows_land_in_the_window_of_their_own_timestamp(landing: Landing) -> None:
    take_up(landing, batch("a", [0, 3, 3]))
    assert landing.counts("telemetry") == {FIRST: 1, FIRST + timedelta(days=3): 2}


def test_rows_outside_the_calendar_land_in_the_days_of_their_batch(landing: Landing) -> None:
    take_up(landing, batch("a", [-400, 400], day=FIRST + timedelta(days=2)))
    assert landing.counts("telemetry") == {FIRST + timedelta(days=2): 2}


def test_a_row_ahead_of_time_does_not_open_a_window(landing: Landing) -> None:
    landing.take_up([batch("a", [0, 5])], until=datetime(2025, 1, 3, tzinfo=UTC))
    assert landing.counts("telemetry") == {FIRST: 2}


def test_a_clock_that_is_ahead_is_refused_with_the_time_it_said(landing: Landing, tmp_path: Path) -> None:
    now = datetime(2025, 1, 2, 5, 55, tzinfo=UTC)
    landing.take_up([batch("a", [0, 1, 2], day=now.date())], until=now)
    landing.take_up([batch("b", [1], day=now.date())], until=now - timedelta(minutes=6))
    file = tmp_path / "out.parquet"
    landing.export("telemetry", WindowRange("north", FIRST, LAST), file)
    found = pq.read_table(file).select(["ts", "date", DEFECT]).to_pylist()
    said = [(row["ts"].day, row["date"].day, row[DEFECT]) for row in found]
    assert said == [(1, 1, None), (2, 2, None), (3, 2, "ahead_of_clock"), (2, 2, "ahead_of_clock")]


def test_a_late_row_changes_its_window_only(landing: Landing) -> None:
    take_up(landing, batch("a", [0, 1, 2]))
    before = landing.fingerprints()
    take_up(landing, batch("b", [1]))
    changed = {d for d, fp in landing.fingerprints().items() if before[d] != fp}
    assert changed == {FIRST + timedelta(days=1)}


def test_a_batch_nobody_can_read_is_kept_as_one_row_with_the_reason(landing: Landing, tmp_path: Path) -> None:
    refused = RefusedBatch("c", "telemetry", FIRST, "unreadable_file: no footer", "torn.parquet", "c")
    receipt = take_up(landing, refused)
    assert (receipt.rows, receipt.note) == (1, "unreadable_file: no footer")
    file = tmp_path / "out.parquet"
    landing.export("telemetry", WindowRange("north", FIRST, FIRST), file)
    assert pq.read_table(file)[DEFECT].to_pylist() == ["unreadable_file: no footer"]


def test_a_wrong_schema_is_refused_as_a_whole(landing: Landing) -> None:
    rows = pa.table({"machine": ["p1"], "flow": [1.0]})
    receipt = take_up(landing, Batch("d", "telemetry", FIRST, rows, "odd.csv", "d"))
    assert receipt.note.startswith("wrong schema: equipment_id, ts missing; got machine, flow")
    assert landing.counts("telemetry") == {FIRST: 1}


def test_rows_are_exported_in_the_order_they_were_taken_up(landing: Landing, tmp_path: Path) -> None:
    take_up(landing, batch("z", [0], flow_m3_h=[1.0]))
    take_up(landing, batch("a", [0], flow_m3_h=[2.0]))
    file = tmp_path / "out.parquet"
    assert landing.export("telemetry", WindowRange("north", FIRST, LAST), file) == 2
    assert pq.read_table(file)["flow_m3_h"].to_pylist() == [1.0, 2.0]


def test_nothing_landed_exports_an_empty_file_with_the_columns(landing: Landing, tmp_path: Path) -> None:
    file = tmp_path / "out.parquet"
    assert landing.export("maintenance", WindowRange("north", FIRST, LAST), file) == 0
    assert "event" in pq.read_schema(file).names
