"""Taking up is whole, once, and into the window a row belongs to."""

import shutil
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backbone.row_checks import DEFECT
from backbone.sources import Batch, RefusedBatch
from backbone.windows import WindowRange
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.landing import TOLD, Landing, Receipt

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


def gateway_batch(first: int, last: int, offsets: list[int], day: int = 0) -> Batch:
    ts = [datetime(2025, 1, 1 + day, 6, minute, tzinfo=UTC) for minute in offsets]
    provenance = pa.table(
        {
            "offset": offsets,
            "reading_id": [f"press/1/{first + offset}" for offset in offsets],
            "received_at": pa.array(ts, pa.timestamp("us", tz="UTC")),
            "is_historical": [offset % 2 == 1 for offset in offsets],
        }
    )
    rows = pa.table({"equipment_id": ["p1"] * len(ts), "ts": ts})
    name = f"gateway:north:gw-1:ab:{first}-{last}:pump"
    return Batch(name, "telemetry", FIRST, rows, "gateway gw-1", name, "gateway:north:gw-1:ab:pump", last, provenance)


def test_of_a_series_what_is_not_above_its_highest_serial_has_no_effect(landing: Landing) -> None:
    receipts = landing.take_up([gateway_batch(0, 3, [0, 2]), gateway_batch(3, 5, [0])], until=END)
    assert [r.new for r in receipts] == [True, True]
    assert [take_up(landing, gateway_batch(*span, [0])).new for span in ((0, 3), (3, 5), (2, 4))] == [False] * 3
    assert take_up(landing, gateway_batch(5, 6, [0])).new
    assert landing.taken_up_to("telemetry", "gateway:north:gw-1:ab:pump") == 6
    assert landing.taken_up_to("telemetry", "gateway:north:gw-2:cd:pump") is None
    assert landing.taken_up_to("maintenance", "gateway:north:gw-1:ab:pump") is None
    assert sum(landing.counts("telemetry").values()) == 4


def test_what_a_gateway_tells_of_a_row_stays_with_it(landing: Landing, tmp_path: Path) -> None:
    take_up(landing, batch("file", [0]))
    take_up(landing, gateway_batch(10, 14, [0, 3]))
    file = tmp_path / "out.parquet"
    landing.export("telemetry", WindowRange("north", FIRST, LAST), file)
    rows = pq.read_table(file).select(["batch", "offset", "reading_id", "is_historical"]).to_pylist()
    name = "gateway:north:gw-1:ab:10-14:pump"
    assert [tuple(row.values()) for row in rows] == [
        ("file", 0, None, None),
        (name, 0, "press/1/10", False),
        (name, 3, "press/1/13", True),
    ]
    (plain, first, _) = pq.read_table(file)["received_at"].to_pylist()
    assert plain is None
    assert first == datetime(2025, 1, 1, 6, tzinfo=UTC)


def test_a_table_of_before_gateways_told_anything_is_exported_and_added_to(landing: Landing, tmp_path: Path) -> None:
    from deltalake import write_deltalake

    take_up(landing, batch("new", [0]))
    there = landing.path("telemetry")
    told = [field.name for field in TOLD]
    landing.export("telemetry", WindowRange("north", FIRST, LAST), tmp_path / "new.parquet")
    before = pq.read_table(tmp_path / "new.parquet").drop_columns(told)
    shutil.rmtree(there)
    write_deltalake(str(there), before, partition_by=["site", "date"])
    file = tmp_path / "out.parquet"
    for rows in (1, 2):
        landing.export("telemetry", WindowRange("north", FIRST, LAST), file)
        assert pq.read_schema(file).field("is_historical").type == pa.bool_()
        assert pq.read_table(file)["reading_id"].null_count == 1
        assert pq.read_table(file).num_rows == rows
        take_up(landing, gateway_batch(0, 1, [0]))


def test_many_files_of_days_that_are_over_become_one_and_nothing_else_changes(landing: Landing, tmp_path: Path) -> None:
    for n in range(40):
        take_up(landing, gateway_batch(n, n + 1, [0], day=n % 2))
    take_up(landing, batch("file", [5, 6]))
    windows = WindowRange("north", FIRST, LAST)
    assert landing.compact("telemetry", FIRST + timedelta(days=9)) == [], "20 files are few"
    for n in range(40, 80):
        take_up(landing, gateway_batch(n, n + 1, [0], day=n % 2))
    before, counts = landing.fingerprints(), landing.counts("telemetry")
    landing.export("telemetry", windows, tmp_path / "before.parquet")
    assert landing.compact("telemetry", FIRST + timedelta(days=1)) == [FIRST]
    assert landing.fingerprints() == before
    assert (
        landing.counts("telemetry")
        == counts
        == {FIRST: 40, **dict.fromkeys(_days(1), 40), **dict.fromkeys(_days(5, 6), 1)}
    )
    landing.export("telemetry", windows, tmp_path / "after.parquet")
    assert pq.read_table(tmp_path / "after.parquet").equals(pq.read_table(tmp_path / "before.parquet"))
    assert landing.taken_up_to("telemetry", "gateway:north:gw-1:ab:pump") == 80
    assert not take_up(landing, gateway_batch(79, 80, [0])).new
    assert landing.compact("telemetry", FIRST + timedelta(days=1)) == []
    take_up(landing, gateway_batch(80, 81, [0], day=0))
    changed = {day for day, fingerprint in landing.fingerprints().items() if before[day] != fingerprint}
    assert changed == {FIRST}


def _days(*numbers: int) -> list[date]:
    return [FIRST + timedelta(days=n) for n in numbers]


def test_another_table_with_as_many_rows_has_other_fingerprints(landing: Landing) -> None:
    take_up(landing, batch("a", [0]))
    before = landing.fingerprints()
    shutil.rmtree(landing.path("telemetry"))
    take_up(landing, batch("b", [0]))
    assert landing.fingerprints().keys() == before.keys()
    assert landing.fingerprints() != before


def test_nothing_landed_exports_an_empty_file_with_the_columns(landing: Landing, tmp_path: Path) -> None:
    file = tmp_path / "out.parquet"
    assert landing.export("maintenance", WindowRange("north", FIRST, LAST), file) == 0
    assert "event" in pq.read_schema(file).names
