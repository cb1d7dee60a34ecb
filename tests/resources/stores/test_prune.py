"""What nobody can read any more goes; every version that was the newest since then is read as it was."""

import os
import random
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from backbone.windows import WindowRange
from resources.stores.answers import AnswerTable
from resources.stores.delta_log import checkpoints, commits
from resources.stores.opened import NOTHING
from resources.stores.prune import prune
from resources.stores.tables import WindowTable

NOW = datetime.now(UTC)
STEP = timedelta(hours=3)
"""Between two commits: Delta itself cleans up a log that is older than a month."""
DAYS = [date(2025, 1, 1) + timedelta(days=n) for n in range(3)]
Content = list[tuple[date, str]]


def ago(steps: float) -> datetime:
    return NOW - steps * STEP


def rows(*machines: str) -> pa.Table:
    return pa.table({"equipment_id": list(machines)})


class Aged:
    """A table whose commits are made a step after each other, the last one now.

    Attributes:
        was: what each version held.
    """

    def __init__(self, path: Path) -> None:
        self.table, self.was = WindowTable(path), dict[int, Content]()

    def replace(self, day: date, *machines: str, site: str = "north") -> None:
        self.table.replace(WindowRange(site, day, day), rows(*machines), run_id="r")
        self._made()

    def replaced(self, times: int) -> None:
        for n in range(times):
            self.replace(DAYS[0], f"P-{n}")

    def merged(self) -> None:
        from deltalake import DeltaTable

        before = self.table.version
        DeltaTable(str(self.table.path)).optimize.compact()
        if self.table.version != before:
            self._made()

    def _made(self) -> None:
        version = self.table.version
        assert version is not None
        self.was[version] = self.read(version) or []
        for file in [path for path in self.table.path.rglob("*") if path.is_file()]:
            written = file.stat().st_mtime
            at = NOW.timestamp() if written > NOW.timestamp() else written - STEP.total_seconds()
            os.utime(file, (at, at))

    def read(self, version: int | None = None) -> Content | None:
        """A version, whole, by a reader who opens it now; None where it cannot be read any more."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            found = DeltaTable(str(self.table.path), version=version).to_pyarrow_table()
        except (DeltaError, FileNotFoundError):
            return None
        return sorted(zip(found["date"].to_pylist(), found["equipment_id"].to_pylist(), strict=True))

    def files(self) -> int:
        return len(list(self.table.path.rglob("date=*/*.parquet")))


@pytest.fixture
def aged(tmp_path: Path) -> Aged:
    return Aged(tmp_path / "telemetry")


def test_versions_since_then_are_read_as_they_were_and_others_leave_nothing(aged: Aged) -> None:
    aged.replaced(10)
    pruned = prune(aged.table.path, ago(3.5))
    assert pruned is not None
    assert pruned.since == 5, "the newest at that time"
    assert {v: aged.read(v) for v in range(5, 10)} == {v: aged.was[v] for v in range(5, 10)}
    assert [aged.read(v) for v in range(5)] == [None] * 5
    assert (pruned.data.files, pruned.kept.files, aged.files()) == (5, 5, 5)
    assert aged.table.version == 9, "who looks for what is new finds nothing"
    again = prune(aged.table.path, ago(3.5))
    assert again is not None
    assert again.data == again.log == NOTHING


def test_who_has_opened_a_version_that_is_kept_goes_on_reading_it(aged: Aged) -> None:
    from deltalake import DeltaTable

    aged.replaced(6)
    opened = DeltaTable(str(aged.table.path), version=3)
    prune(aged.table.path, ago(2.5))
    aged.replaced(2)
    prune(aged.table.path, ago(4.5))
    assert opened.to_pyarrow_table()["equipment_id"].to_pylist() == ["P-3"]


def test_only_telling_says_what_would_go_and_leaves_it(aged: Aged) -> None:
    aged.replaced(30)
    before = sorted(aged.table.path.rglob("*"))
    told = prune(aged.table.path, ago(4), dry_run=True)
    assert told is not None
    assert sorted(aged.table.path.rglob("*")) == before
    assert prune(aged.table.path, ago(4)) == told
    assert told.data.bytes > 0 < told.log.files


def test_the_log_goes_up_to_a_checkpoint_that_leads_to_all_versions_that_are_kept(aged: Aged) -> None:
    aged.replaced(45)
    prune(aged.table.path, ago(10))
    (start, *_) = checkpoints(aged.table.path)
    assert 0 < start <= 34
    assert commits(aged.table.path)[0][0] == start
    assert {v: aged.read(v) for v in range(34, 45)} == {v: aged.was[v] for v in range(34, 45)}
    aged.replaced(1)
    assert aged.table.version == 45
    assert aged.table.read("north").num_rows == 1


def test_a_torn_checkpoint_leads_to_nothing_and_the_log_stays(aged: Aged) -> None:
    aged.replaced(25)
    (checkpoint,) = checkpoints(aged.table.path).values()
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    (aged.table.path / "_delta_log" / "_last_checkpoint").unlink()
    first, *_ = commits(aged.table.path)
    assert first[0] == 0
    with pytest.raises(Exception, match="arquet"):  # the table cannot be opened: nothing is removed
        prune(aged.table.path, ago(2))
    assert aged.files() == 25


def test_what_a_checkpoint_has_forgotten_was_removed_is_kept_as_long(aged: Aged) -> None:
    """Delta forgets after a week, unless it is told otherwise, what was removed."""
    from deltalake import DeltaTable

    aged.replaced(12)
    table = DeltaTable(str(aged.table.path))
    table.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 hours"})
    DeltaTable(str(aged.table.path)).create_checkpoint()
    prune(aged.table.path, ago(9.5))
    assert {v: aged.read(v) for v in range(2, 12)} == {v: aged.was[v] for v in range(2, 12)}


def test_what_nobody_committed_goes_when_it_is_old(aged: Aged) -> None:
    aged.replaced(2)
    folder = next(aged.table.path.rglob("date=*"))
    left, being_written = folder / "part-left.parquet", folder / "part-new.parquet"
    for file, at in ((left, ago(8)), (being_written, NOW)):
        file.write_bytes(b"PAR1")
        os.utime(file, (at.timestamp(),) * 2)
    pruned = prune(aged.table.path, ago(7))
    assert pruned is not None
    assert pruned.data.files == 1
    assert (left.exists(), being_written.exists()) == (False, True)


def test_where_there_is_no_table(tmp_path: Path) -> None:
    assert prune(tmp_path / "none", NOW) is None


def test_answers_stay_all(tmp_path: Path) -> None:
    """They are only ever added; merging them replaces files."""
    table = AnswerTable(tmp_path / "advisories")
    window = WindowRange("north", DAYS[0], DAYS[0])
    for epoch in range(40):
        dated = rows("P-1").append_column("date", pa.array([DAYS[0]]))
        table.add(window, dated, epoch=epoch, run_id="r")
    prune(table.path, datetime.now(UTC) + timedelta(days=1))
    assert table.history("north").num_rows == 40
    assert len(list(table.path.rglob("date=*/*.parquet"))) < 40


def test_others_write_merge_and_read_meanwhile(tmp_path: Path) -> None:
    table, ended = AnswerTable(tmp_path / "advisories"), threading.Event()
    window = WindowRange("north", DAYS[0], DAYS[0])
    dated = rows("P-1").append_column("date", pa.array([DAYS[0]]))
    table.add(window, dated, epoch=0, run_id="r")

    def write() -> None:
        try:
            for epoch in range(1, 80):
                AnswerTable(table.path).add(window, dated, epoch=epoch, run_id="r")
        finally:
            ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    before = 0
    while not ended.is_set():
        assert prune(table.path, datetime.now(UTC) - timedelta(seconds=1)) is not None
        now = table.history("north").num_rows
        assert now >= before
        before = now
    writer.join()
    assert table.history("north").num_rows == 80


@pytest.mark.parametrize("seed", range(6))
def test_whatever_was_written_and_pruned_before(tmp_path: Path, seed: int) -> None:
    drawn = random.Random(seed)  # noqa: S311 - what happens, not secrets
    aged, least = Aged(tmp_path / "telemetry"), 0
    aged.replaced(1)
    for _ in range(3):
        for _ in range(drawn.randrange(3, 15)):
            does: Callable[[], None] = drawn.choice(
                (
                    lambda: aged.replace(drawn.choice(DAYS), "P-1", "P-2", site=drawn.choice(("north", "a b"))),
                    lambda: aged.replace(drawn.choice(DAYS), f"P-{drawn.randrange(99)}"),
                    aged.merged,
                )
            )
            does()
        kept = drawn.randrange(1, 8) + 0.5
        pruned = prune(aged.table.path, ago(kept))
        newest = max(aged.was)
        assert pruned is not None
        least = max(least, newest - int(kept) - 1, 0)
        assert pruned.since == least
        assert {v: aged.read(v) for v in range(least, newest + 1)} == {
            v: content for v, content in aged.was.items() if v >= least
        }
