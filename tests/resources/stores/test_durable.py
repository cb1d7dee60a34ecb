"""After a power failure a table holds all that was confirmed, and can be read and written again."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from backbone.errors import IntegrityError
from backbone.sources import Batch
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.landing import Landing
from resources.stores.durable import confirm, confirmed, take_back_torn

FIRST, LAST = date(2025, 1, 1), date(2025, 1, 10)
END = datetime.combine(LAST + timedelta(days=1), time(), UTC)
CONTRACTS = read_contracts([SHIPPED])


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    contracts = {"telemetry": CONTRACTS["pump"], "maintenance": CONTRACTS["maintenance"]}
    return Landing(tmp_path / "landing", "north", contracts, FIRST, LAST)


def land(landing: Landing, number: int, days: int = 2) -> None:
    ts = [datetime(2025, 1, 1, 6, tzinfo=UTC) + timedelta(days=d) for d in range(days)]
    rows = pa.table({"equipment_id": [f"p{number}"] * days, "ts": ts})
    (receipt,) = landing.take_up([Batch(f"b{number}", "telemetry", FIRST, rows, "a test", "")], until=END)
    assert receipt.new


def rows(landing: Landing) -> int:
    return sum(landing.counts("telemetry").values())


def commit_file(path: Path, version: int) -> Path:
    return path / "_delta_log" / f"{version:020d}.json"


def data_of(path: Path, version: int) -> Path:
    from deltalake import DeltaTable

    before = set(DeltaTable(str(path), version=version - 1).file_uris()) if version else set()
    (added, *_) = sorted(set(DeltaTable(str(path), version=version).file_uris()) - before)
    return Path(added.removeprefix("file://"))


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def halved(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def middle_zeroed(file: Path) -> None:
    """Footer and length are right."""
    content = bytearray(file.read_bytes())
    content[8:200] = bytes(192)
    file.write_bytes(content)


def lost(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("what", [commit_file, data_of])
@pytest.mark.parametrize("harm", [emptied, halved, zeroed, middle_zeroed, lost])
@pytest.mark.parametrize("version", [2, 3])
def test_what_was_torn_after_the_last_confirmation_is_taken_back_and_lands_again(
    landing: Landing, what: Callable[[Path, int], Path], harm: Callable[[Path], None], version: int
) -> None:
    path = landing.path("telemetry")
    for number in range(4):
        land(landing, number)
        if number == 1:
            confirm(path)
    harm(what(path, version))
    taken_back = take_back_torn(path)
    assert taken_back == list(range(version + ((what, harm) == (commit_file, lost)), 4))
    assert rows(landing) == 2 * version
    for number in range(version, 4):
        land(landing, number)
    assert rows(landing) == 8
    confirm(path)
    assert take_back_torn(path) == []


@pytest.mark.parametrize("harm", [emptied, halved, lost])
def test_a_table_whose_first_commit_is_torn_is_none(landing: Landing, harm: Callable[[Path], None]) -> None:
    path = landing.path("telemetry")
    land(landing, 0)
    harm(commit_file(path, 0))
    assert take_back_torn(path) == ([] if harm is lost else [0])
    land(landing, 0)
    assert rows(landing) == 2


@pytest.mark.parametrize("since", [None, 0])
def test_a_file_that_is_damaged_long_after_it_has_landed_costs_nothing_that_has_come_since(
    landing: Landing, since: int | None
) -> None:
    """`since`: the newest commit that is known to be confirmed."""
    path = landing.path("telemetry")
    for number in range(4):
        land(landing, number)
        if number == since:
            confirm(path)
    for version in range(2):
        days_ago = commit_file(path, version).stat().st_mtime - 3 * 86_400
        os.utime(commit_file(path, version), (days_ago, days_ago))
    emptied(data_of(path, 1))
    before = sorted(file.name for file in (path / "_delta_log").iterdir())
    with pytest.raises(IntegrityError, match="version 1"):
        take_back_torn(path)
    assert sorted(file.name for file in (path / "_delta_log").iterdir()) == before


def test_what_is_whole_stays(landing: Landing) -> None:
    for number in range(3):
        land(landing, number)
    assert take_back_torn(landing.path("telemetry")) == []
    assert rows(landing) == 6


@pytest.mark.parametrize("harmed", ["*.checkpoint.parquet", "_last_checkpoint"])
def test_a_torn_checkpoint_is_done_without(landing: Landing, harmed: str) -> None:
    from deltalake import DeltaTable

    path = landing.path("telemetry")
    for number in range(4):
        land(landing, number)
        if number == 1:
            confirm(path)
    DeltaTable(str(path)).create_checkpoint()
    (file,) = (path / "_delta_log").glob(harmed)
    halved(file)
    assert take_back_torn(path) == []
    assert landing.taken_up_to("telemetry", "b3") == 1
    assert rows(landing) == 8


def test_confirming_waits_for_every_file_and_folder_of_a_commit(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def fsync(descriptor: int, really: Callable[[int], None] = os.fsync) -> None:
        asked.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    path = landing.path("telemetry")
    land(landing, 0)
    there = {p for p in path.rglob("*") if not p.name.startswith(".")}
    confirm(path)
    assert confirmed(path) == 0
    assert {path, path.parent} | there <= set(asked)
    files = [n for n, p in enumerate(asked) if p.suffix == ".parquet"]
    assert max(files) < asked.index(commit_file(path, 0)), "an entry in the log is confirmed after what it names"
    assert asked[-1].name == "._confirmed", "and what is confirmed, after that"
    asked.clear()
    confirm(path)
    assert asked == []
    land(landing, 1)
    confirm(path)
    assert confirmed(path) == 1
    assert sum(p.suffix == ".parquet" for p in asked) == 2


def test_nothing_has_landed_yet(tmp_path: Path) -> None:
    confirm(tmp_path / "none")
    assert confirmed(tmp_path / "none") == -1
    assert take_back_torn(tmp_path / "none") == []
    assert list(tmp_path.iterdir()) == []


def test_a_torn_file_is_done_without_where_a_commit_that_merged_it_is_whole(landing: Landing) -> None:
    from deltalake import DeltaTable

    path = landing.path("telemetry")
    for number in range(3):
        land(landing, number, days=1)
    torn = data_of(path, 2)
    DeltaTable(str(path)).optimize.compact()
    halved(torn)
    assert take_back_torn(path) == []
    assert rows(landing) == 3


def test_a_torn_merge_takes_back_the_torn_file_that_it_merged(landing: Landing) -> None:
    from deltalake import DeltaTable

    path = landing.path("telemetry")
    for number in range(3):
        land(landing, number, days=1)
    torn = data_of(path, 1)
    DeltaTable(str(path)).optimize.compact()
    halved(torn)
    halved(data_of(path, 3))
    assert take_back_torn(path) == [1, 2, 3]
    assert rows(landing) == 1
    assert [landing.taken_up_to("telemetry", f"b{n}") for n in range(3)] == [1, None, None]


@pytest.mark.parametrize("known", [True, False])
def test_a_log_that_was_cleaned_up_since_the_last_confirmation_has_no_gap(landing: Landing, known: bool) -> None:
    """A gateway was down for as long as a log is kept."""
    from deltalake import DeltaTable

    path = landing.path("telemetry")
    for number in range(6):
        land(landing, number, days=1)
        if number == 1 and known:
            confirm(path)
    DeltaTable(str(path), version=4).create_checkpoint()
    for version in range(4):
        commit_file(path, version).unlink()
    assert take_back_torn(path) == []
    assert rows(landing) == 6
    confirm(path)
    assert confirmed(path) == 5
