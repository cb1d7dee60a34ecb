"""The replay of NASA's text files, on files in their form and, where they lie beside the project, on the real ones."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.contracts import Contract
from backbone.errors import ConfigurationError, SourceError, UnknownName
from backbone.row_checks import decode, row_check
from backbone.sources import Batch, RefusedBatch, SourceContext
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.sources.cmapss import SPEC, calendar_days, ending_on, failures, read_rul, read_units, starting_on

CONTRACTS = read_contracts([SHIPPED])
FIRST = date(2025, 1, 1)
VALUES = "0.0 0.0 100.0 " + " ".join(str(n) for n in range(1, 22))


def write(folder: Path, train: list[str], test: list[str], rul: str = "7\n9\n") -> Path:
    (folder / "train_FD001.txt").write_text("\n".join(train) + "\n")
    (folder / "test_FD001.txt").write_text("\n".join(test) + "\n")
    (folder / "RUL_FD001.txt").write_text(rul)
    return folder


def cycles(unit: int, count: int) -> list[str]:
    return [f"{unit} {cycle} {VALUES}" for cycle in range(1, count + 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, cycles(1, 3) + cycles(2, 5), cycles(1, 2) + cycles(2, 4))


def replay(folder: Path, contracts: dict[str, Contract], last_day: date | None = None) -> list[Batch | RefusedBatch]:
    given_settings = {"directory": str(folder), "subset": "FD001"}
    context = SourceContext(
        "test", contracts["turbofan"], contracts["maintenance"], FIRST, last_day, folder, given_settings
    )
    return list(SPEC.open(context).batches(None, datetime(2030, 1, 1, tzinfo=UTC)))


def stream(batches: list[Batch | RefusedBatch], name: str) -> pa.Table:
    return pa.concat_tables([b.rows for b in batches if isinstance(b, Batch) and b.stream == name])


def noon(day: int) -> datetime:
    return datetime(2025, 1, day, 12, tzinfo=UTC)


def test_training_units_start_together_and_fail_at_their_last_reading(folder: Path, contracts) -> None:
    batches = replay(folder, contracts)
    readings = stream(batches, "telemetry")
    train = readings.filter(pc.starts_with(readings["equipment_id"], "train"))
    assert {(r["equipment_id"], r["ts"]) for r in train.to_pylist() if r["cycle"] == 1} == {
        ("train-001", noon(1)),
        ("train-002", noon(1)),
    }
    assert stream(batches, "maintenance").to_pylist() == [
        {"equipment_id": "train-001", "ts": noon(3), "event": "failure", "failure_mode": None},
        {"equipment_id": "train-002", "ts": noon(5), "event": "failure", "failure_mode": None},
    ]


def test_the_last_window_asks_the_benchmarks_question(folder: Path, contracts) -> None:
    last = replay(folder, contracts)[-2]
    assert isinstance(last, Batch)
    tests = [r for r in last.rows.to_pylist() if r["equipment_id"].startswith("test")]
    assert [(r["equipment_id"], r["cycle"], r["ts"]) for r in tests] == [
        ("test-001", 2, noon(5)),
        ("test-002", 4, noon(5)),
    ]
    assert read_rul(folder, "FD001").to_pylist() == [
        {"equipment_id": "test-001", "rul": 7},
        {"equipment_id": "test-002", "rul": 9},
    ]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_every_cycle_is_replayed_once_a_day(tmp_path_factory, train: list[int], test: list[int]) -> None:
    folder = tmp_path_factory.mktemp("cmapss")
    lines = [[line for unit, n in enumerate(lengths, start=1) for line in cycles(unit, n)] for lengths in (train, test)]
    write(folder, *lines)
    batches = replay(folder, CONTRACTS)
    readings = stream(batches, "telemetry")
    assert readings.num_rows == sum(train) + sum(test)
    days = calendar_days(folder, "FD001")
    assert days == max(train + test) == len({b.day for b in batches})
    for row in readings.to_pylist():
        split, unit = row["equipment_id"].split("-")
        shift = 0 if split == "train" else days - test[int(unit) - 1]
        assert row["ts"].date() == FIRST + timedelta(days=row["cycle"] - 1 + shift)


def test_a_bad_line_is_refused_and_the_rest_goes_on(folder: Path, contracts) -> None:
    lines = [*cycles(1, 3), "2 1 0.5 0.0", f"x 2 {VALUES}", f"2 3 {VALUES[:-2]}abc", "", *cycles(3, 2)]
    write(folder, lines, cycles(1, 2))
    batches = replay(folder, contracts)
    refused = [b for b in batches if isinstance(b, RefusedBatch)]
    assert [(b.day, b.origin) for b in refused] == [(FIRST, "train_FD001.txt")] * 3
    assert [b.reason.split(": ")[1] for b in refused] == ["line 4", "line 5", "line 6"]
    assert "4 of 26 columns" in refused[0].reason
    assert stream(batches, "telemetry").num_rows == 7


def test_a_benchmark_refuses_a_file_with_a_bad_line(folder: Path) -> None:
    write(folder, [*cycles(1, 3), "2 1 0.5"], cycles(1, 2), rul="7\nmany\n")
    with pytest.raises(SourceError, match="line 4: 3 of 26 columns"):
        read_units(folder, "FD001", "train")
    with pytest.raises(SourceError, match="line 2: 'many'"):
        read_rul(folder, "FD001")


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\x00\xff\xfe", b"PK\x03\x04"])
def test_a_missing_empty_or_foreign_file_says_so(folder: Path, contracts, content: bytes | None) -> None:
    path = folder / "test_FD001.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"test_FD001\.txt"):
        replay(folder, contracts)


def test_an_unknown_subset_lists_the_subsets(folder: Path, contracts) -> None:
    context = SourceContext(
        "test", contracts["turbofan"], contracts["maintenance"], FIRST, None, folder,
        {"directory": str(folder), "subset": "FD005"},
    )  # fmt: skip
    with pytest.raises(UnknownName, match="FD001, FD002, FD003, FD004"):
        SPEC.open(context)
    with pytest.raises(UnknownName, match="FD005"):
        read_units(folder, "FD005", "train")


def test_a_calendar_that_is_too_short_says_how_long_it_must_be(folder: Path, contracts) -> None:
    with pytest.raises(ConfigurationError, match="last_day = 2025-01-05"):
        replay(folder, contracts, last_day=date(2025, 1, 4))


def test_other_content_has_another_txn(folder: Path, contracts) -> None:
    before = {b.txn for b in replay(folder, contracts)}
    write(folder, cycles(1, 3) + cycles(2, 5), cycles(1, 2) + cycles(2, 3))
    assert before.isdisjoint(b.txn for b in replay(folder, contracts))


def test_columns_are_the_contracts(folder: Path, contracts) -> None:
    readings = starting_on(read_units(folder, "FD001", "train"), FIRST)
    assert readings.column_names == [c.name for c in contracts["turbofan"].columns]
    assert readings["w32"].to_pylist()[0] == 21.0


@pytest.mark.shared
@pytest.mark.parametrize(
    ("subset", "train_rows", "test_rows", "days"), [("FD001", 20631, 13096, 362), ("FD003", 24720, 16596, 525)]
)
def test_nasas_own_files(
    cmapss_directory: Path, contracts, subset: str, train_rows: int, test_rows: int, days: int
) -> None:
    train, test = (read_units(cmapss_directory, subset, split) for split in ("train", "test"))
    assert (train.num_rows, test.num_rows) == (train_rows, test_rows)
    assert calendar_days(cmapss_directory, subset) == days
    assert read_rul(cmapss_directory, subset).num_rows == failures(starting_on(train, FIRST)).num_rows == 100
    last = FIRST + timedelta(days=days - 1)
    readings = pa.concat_tables([starting_on(train, FIRST), ending_on(test, last)])
    reasons = row_check(contracts["turbofan"])(decode(contracts["turbofan"], readings), FIRST, last)
    assert reasons.null_count == train_rows + test_rows
