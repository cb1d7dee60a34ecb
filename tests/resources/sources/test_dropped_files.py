"""Files dropped into a folder: whole, damaged, hostile, early, twice."""

import io
import json
import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.errors import ConfigurationError, SourceError, StorageFull
from backbone.row_checks import DEFECT, decode
from backbone.sources import Batch, RefusedBatch, SourceContext
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.sources.files import MOST_BAD_LINES, SPEC, DroppedFiles, FilesSettings

CONTRACTS = read_contracts([SHIPPED])
NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
FAR = datetime(2999, 12, 31, tzinfo=UTC)
READINGS = [
    {"equipment_id": "007", "ts": "2025-05-01T06:00:00Z", "flow_m3_h": 181.5},
    {"equipment_id": "007", "ts": "2025-05-02T06:00:00Z", "flow_m3_h": 182.0},
    {"equipment_id": "P-2", "ts": "2025-05-02T07:00:00Z", "flow_m3_h": None},
]
HEADER = b"equipment_id,ts,flow_m3_h\n"


def context(drop: Path, **chosen: Any) -> SourceContext:
    return SourceContext(
        "test", CONTRACTS["pump"], CONTRACTS["maintenance"], date(2025, 1, 1), date(2025, 12, 31), drop, chosen
    )


def source(drop: Path, now: datetime = NOW, **chosen: Any) -> DroppedFiles:
    return DroppedFiles(context(drop), FilesSettings(**chosen), now=lambda: now)


def drop_file(drop: Path, name: str, content: bytes, at: datetime = NOW - timedelta(hours=1)) -> Path:
    path = drop / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def found(drop: Path, **chosen: Any) -> list[Batch | RefusedBatch]:
    return list(source(drop, **chosen).batches(None, FAR))


def only(drop: Path, **chosen: Any) -> Batch | RefusedBatch:
    [batch] = found(drop, **chosen)
    return batch


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def as_csv(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    return buffer.getvalue()


def as_json_lines(table: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()


FORMATS: dict[str, Callable[[pa.Table], bytes]] = {
    "x.parquet": as_parquet,
    "x.csv": as_csv,
    "x.jsonl": as_json_lines,
    "x.ndjson": as_json_lines,
    "X.JSON": as_json_lines,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_readings(tmp_path: Path, name: str) -> None:
    drop_file(tmp_path, name, FORMATS[name](pa.Table.from_pylist(READINGS)))
    batch = only(tmp_path)
    assert isinstance(batch, Batch)
    assert batch.stream == "telemetry"
    assert batch.day == date(2025, 5, 2), "the day most rows are of"
    rows = decode(CONTRACTS["pump"], batch.rows)
    assert rows[DEFECT].null_count == 3
    assert rows["equipment_id"].to_pylist() == ["007", "007", "P-2"]
    assert rows["flow_m3_h"].to_pylist() == [181.5, 182.0, None]
    assert rows["ts"].to_pylist()[0] == datetime(2025, 5, 1, 6, tzinfo=UTC)


def test_folders_tell_the_streams_apart(tmp_path: Path) -> None:
    drop_file(tmp_path, "telemetry/a.csv", HEADER + b"P-1,2025-05-01T06:00:00Z,1\n")
    drop_file(tmp_path, "maintenance/b.csv", b"equipment_id,ts,event\nP-1,2025-05-01T06:00:00Z,failure\n")
    assert {b.origin: b.stream for b in found(tmp_path)} == {
        "telemetry/a.csv": "telemetry",
        "maintenance/b.csv": "maintenance",
    }


def test_oldest_file_comes_first(tmp_path: Path) -> None:
    for hours, name in ((1, "a.csv"), (3, "b.csv"), (2, "c.csv")):
        drop_file(tmp_path, name, HEADER + f"P-1,2025-05-01T0{hours}:00:00Z,1\n".encode(), NOW - timedelta(hours=hours))
    assert [b.origin for b in found(tmp_path)] == ["b.csv", "c.csv", "a.csv"]


def test_the_folders_to_drop_into_are_made(tmp_path: Path) -> None:
    drop = tmp_path / "not" / "yet"
    assert found(drop) == []
    assert sorted(p.name for p in drop.iterdir()) == ["maintenance", "telemetry"]


def test_bad_csv_lines_are_refused_one_by_one_with_their_true_numbers(tmp_path: Path) -> None:
    lines = [
        HEADER.strip(),
        b"P-1,2025-05-01T06:00:00Z,1",
        b"P-1,2025-05-01T07:00:00Z",
        b"",
        b"P-1,2025-05-01T08:00:00Z,3,4",
        b'P-1,"2025-05-01T09:00:00Z,5',
        b"P-1,2025-05-01T10:00:00Z,6",
    ]
    drop_file(tmp_path, "x.csv", b"\r\n".join(lines))
    *refused, batch = found(tmp_path)
    assert isinstance(batch, Batch)
    assert batch.rows["flow_m3_h"].to_pylist() == [1, 6]
    assert [r.txn.removeprefix(batch.txn) for r in refused] == [":line3", ":line5", ":line6"]
    assert all(isinstance(r, RefusedBatch) and r.reason.startswith("unreadable_line: line ") for r in refused)
    assert {r.day for r in refused} == {date(2025, 5, 1)}


def test_bad_json_lines_are_refused_one_by_one(tmp_path: Path) -> None:
    good = json.dumps(READINGS[0])
    drop_file(tmp_path, "x.jsonl", f'{good}\nnull\n\n{good}\n{{"equipment_id": "P-'.encode())
    *refused, batch = found(tmp_path)
    assert isinstance(batch, Batch)
    assert batch.rows.num_rows == 2
    assert [r.txn.removeprefix(batch.txn) for r in refused] == [":line2", ":line5"]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_a_line_in_another_encoding_is_refused(tmp_path: Path, name: str) -> None:
    table = pa.Table.from_pylist([*READINGS, READINGS[0] | {"equipment_id": "Bär"}])
    content = FORMATS[name](table).replace(b"B\\u00e4r", b"B\xe4r").replace("Bär".encode(), b"B\xe4r")
    drop_file(tmp_path, name, content)
    line, batch = found(tmp_path)
    assert isinstance(line, RefusedBatch)
    assert isinstance(batch, Batch)
    assert batch.rows.num_rows == 3


@pytest.mark.parametrize("bad", ["yesterday", 20250501.5, {"day": 1}])
def test_one_bad_value_spoils_its_own_row_only(tmp_path: Path, bad: object) -> None:
    """Also where times carry no zone: they are UTC, whatever their neighbours look like."""
    times = ["2025-05-01T06:00:00", bad, "2025-05-01 07:00:00.5", "2025-05-01T08:00:00+02:00"]
    rows = [{"equipment_id": "P-1", "ts": ts, "flow_m3_h": 1.0} for ts in times]
    drop_file(tmp_path, "x.jsonl", "\n".join(map(json.dumps, rows)).encode())
    batch = only(tmp_path)
    assert isinstance(batch, Batch)
    decoded = decode(CONTRACTS["pump"], batch.rows)
    assert decoded[DEFECT].to_pylist() == [None, "wrong_type:ts", None, None]
    assert [t and (t.hour, t.microsecond) for t in decoded["ts"].to_pylist()] == [(6, 0), None, (7, 500_000), (6, 0)]


def test_a_column_may_change_its_looks_late_in_a_large_file(tmp_path: Path) -> None:
    early = [f"P-1,2025-05-01T06:00:00.{n:06d}Z,{n % 300}" for n in range(40_000)]
    drop_file(tmp_path, "x.csv", HEADER + "\n".join([*early, "P-1,2025-05-02T06:00:00Z,1.5"]).encode())
    batch = only(tmp_path)
    assert isinstance(batch, Batch)
    rows = decode(CONTRACTS["pump"], batch.rows)
    assert rows[DEFECT].null_count == rows.num_rows == 40_001
    assert rows["flow_m3_h"].to_pylist()[-1] == 1.5


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", b"", "empty_file: "),
        ("x.jsonl", b"\n \n", "empty_file: "),
        ("x.csv", HEADER, "empty_file: it has columns but no rows"),
        ("x.parquet", as_parquet(pa.Table.from_pylist(READINGS).slice(0, 0)), "empty_file: "),
        ("x.parquet", as_parquet(pa.Table.from_pylist(READINGS))[:-20], "unreadable_file: not a complete Parquet"),
        ("x.parquet", b"PAR1", "unreadable_file: not a complete Parquet"),
        ("x.csv", b"item,price\nmilk,1\n", "wrong_schema: equipment_id, ts missing; got item, price"),
        ("x.csv", b"ts,equipment_id,ts\n1,2,3\n", "wrong_schema: column ts is there more than once"),
        ("x.jsonl", b'{"equipment_id": "P-1"}\n', "wrong_schema: ts missing"),
        ("x.jsonl", b'{"equipment_id": "P-1", "ts": "x", "\\ud800": 1}', "unreadable_file: a key is no text"),
        ("x.jsonl", b"no\nno\n", "unreadable_file: 2 bad lines; the first: line 1"),
        ("x.csv", b'"equipment_id,ts\nP-1,2025\n', "unreadable_file: the header line cannot be read"),
        ("x.xlsx", b"PK", "unreadable_file: .xlsx is no format we read; use one of: .parquet, .csv"),
        ("README", b"hello", "unreadable_file: a name without ending"),
        ("x.csv", HEADER + b"a\n" * (MOST_BAD_LINES + 1), f"unreadable_file: {MOST_BAD_LINES + 1} bad lines"),
    ],
)
def test_a_file_without_rows_is_refused_whole_and_says_why(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    drop_file(tmp_path, name, content)
    refused = only(tmp_path)
    assert isinstance(refused, RefusedBatch)
    assert refused.reason.startswith(reason)
    assert refused.day == date(2025, 6, 1), "the day it was dropped"
    source(tmp_path).taken_up(refused)
    [moved] = [p for p in (tmp_path / "refused").iterdir() if not p.name.endswith(".reason.txt")]
    assert moved.read_bytes() == content
    assert moved.with_name(f"{moved.name}.reason.txt").read_text() == f"{refused.reason}\n"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    drop_file(tmp_path, "x.csv", HEADER + b"P-1,2025-05-01T06:00:00Z,1\n")
    refused = only(tmp_path, max_bytes=20)
    assert isinstance(refused, RefusedBatch)
    assert refused.reason.startswith("file_too_large: ")


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = drop_file(tmp_path, "outside/secret.csv", HEADER + b"P-1,2025-05-01T06:00:00Z,1\n")
    drop = tmp_path / "drop"
    drop.mkdir()
    (drop / "x.csv").symlink_to(secret)
    (drop / "telemetry").symlink_to(secret.parent)
    files = source(drop, now=datetime.now(UTC) + timedelta(hours=1))
    refused = list(files.batches(None, FAR))
    assert [r.reason for r in refused if isinstance(r, RefusedBatch)] == [
        "unreadable_file: a symbolic link, which is not followed; drop the file itself"
    ] * len(refused)
    assert len(refused) == 2
    for batch in refused:
        files.taken_up(batch)
    assert list(files.batches(None, FAR)) == []
    assert secret.exists()


def test_pipes_are_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")
    assert found(tmp_path, settle_s=0) == []


@pytest.mark.parametrize("name", [".x.csv", "x.csv.part", "x.csv.TMP"])
def test_unfinished_names_are_left_alone(tmp_path: Path, name: str) -> None:
    drop_file(tmp_path, name, HEADER + b"P-1,2025-05-01T06:00:00Z,1\n")
    assert found(tmp_path) == []


def test_a_file_is_left_until_it_has_settled(tmp_path: Path) -> None:
    drop_file(tmp_path, "x.csv", HEADER + b"P-1,2025-05-01T06:00:00Z,1\n", at=NOW)
    assert list(source(tmp_path, NOW + timedelta(seconds=1)).batches(None, FAR)) == []
    assert len(list(source(tmp_path, NOW + timedelta(seconds=2)).batches(None, FAR))) == 1
    # A sender whose clock is ahead must not keep us waiting until then.
    assert len(list(source(tmp_path, NOW - timedelta(days=1)).batches(None, FAR))) == 1


def test_the_same_content_under_two_names_is_one_transaction(tmp_path: Path) -> None:
    content = HEADER + b"P-1,2025-05-01T06:00:00Z,1\n"
    for name in ("a.csv", "b.csv"):
        drop_file(tmp_path, name, content)
    batches = found(tmp_path)
    assert len({b.txn for b in batches}) == 1
    for batch in batches:
        source(tmp_path).taken_up(batch)
    assert found(tmp_path) == []


def test_nothing_that_was_put_away_is_overwritten(tmp_path: Path) -> None:
    content = HEADER + b"P-1,2025-05-01T06:00:00Z,1\n"
    for _ in range(3):
        drop_file(tmp_path, "x.csv", content)
        source(tmp_path).taken_up(only(tmp_path))
    assert len(list((tmp_path / "taken").iterdir())) == 3


def test_a_new_file_in_the_place_of_a_taken_one_stays(tmp_path: Path) -> None:
    drop_file(tmp_path, "x.csv", HEADER + b"P-1,2025-05-01T06:00:00Z,1\n")
    first = only(tmp_path)
    drop_file(tmp_path, "x.csv", HEADER + b"P-1,2025-05-01T07:00:00Z,2\n")
    source(tmp_path).taken_up(first)
    assert only(tmp_path).txn != first.txn


def test_a_file_with_bad_lines_stays_until_its_good_rows_are_taken_up(tmp_path: Path) -> None:
    drop_file(tmp_path, "x.csv", HEADER + b"P-1\nP-1,2025-05-01T06:00:00Z,1\n")
    line, rows = found(tmp_path)
    source(tmp_path).taken_up(line)
    assert len(found(tmp_path)) == 2
    source(tmp_path).taken_up(rows)
    assert found(tmp_path) == []


def test_a_long_name_fits_with_the_reason_beside_it(tmp_path: Path) -> None:
    drop_file(tmp_path, "ü" * 120 + ".csv", b"")
    source(tmp_path).taken_up(only(tmp_path))
    assert len(list((tmp_path / "refused").iterdir())) == 2


def test_a_drop_folder_that_is_a_file_says_what_to_do(tmp_path: Path) -> None:
    path = drop_file(tmp_path, "drop", b"")
    with pytest.raises(SourceError, match="Check that it is a folder"):
        found(path)


def test_a_full_disk_keeps_the_file_where_it_is(full_disk: Path) -> None:
    drop_file(full_disk, "x.csv", b"")
    refused = only(full_disk)
    with pytest.raises(OSError, match="space"):
        (full_disk / ".filler").write_bytes(bytes(2**21))
    with pytest.raises(StorageFull, match="Free some space"):
        source(full_disk).taken_up(refused)
    (full_disk / ".filler").unlink()
    source(full_disk).taken_up(only(full_disk))
    assert found(full_disk) == []


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="settle_s"):
        SPEC.open(context(tmp_path, settle_s=-1))


@settings(max_examples=150)
@given(
    content=st.binary(max_size=200)
    | st.text('equipmnt_d,s"{}[]:0123456789TZ-\n\r\t ', max_size=200).map(str.encode)
    | st.binary(max_size=40).map(HEADER.__add__),
    ending=st.sampled_from([".csv", ".jsonl", ".parquet"]),
)
def test_any_bytes_end_in_one_batch_and_leave_the_folder(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    drop = tmp_path_factory.mktemp("drop")
    drop_file(drop, f"x{ending}", content)
    *lines, file = found(drop)
    assert all(isinstance(b, RefusedBatch) and b.txn.startswith(f"{file.txn}:line") for b in lines)
    if isinstance(file, Batch):
        assert decode(CONTRACTS["pump"], file.rows).num_rows > 0
    source(drop).taken_up(file)
    assert found(drop) == []


@given(st.lists(st.sampled_from(["good", "cut", "blank", "long"]), min_size=1, max_size=30))
def test_no_line_of_a_csv_file_vanishes(tmp_path_factory: pytest.TempPathFactory, kinds: list[str]) -> None:
    text = {"good": b"P-1,2025-05-01T06:00:00Z,1", "cut": b"P-1,2025", "blank": b"", "long": b"P-1,2025,1,2"}
    drop = tmp_path_factory.mktemp("drop")
    drop_file(drop, "x.csv", HEADER + b"\n".join(text[k] for k in kinds))
    count = Counter(kinds)
    *lines, file = found(drop)
    if count["good"]:
        assert isinstance(file, Batch)
        assert file.rows.num_rows == count["good"]
        assert len(lines) == count["cut"] + count["long"]
    else:
        assert isinstance(file, RefusedBatch)
        assert lines == []
