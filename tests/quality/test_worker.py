"""The quality worker as real processes: started twice, killed, stuck, idle, and without a home."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from quality import warm
from quality.requests import Batch, Expectation
from quality.warm import Validated, WarmValidator

DAY = date(2025, 3, 1)
BATCH = Batch(
    "b",
    pa.table({"date": [DAY] * 3, "x": [1.0, 2.0, 99.0]}),
    [Expectation("expect_column_values_to_be_between", {"column": "x", "max_value": 10}, "in_range", "x")],
)


def workers(folder: Path) -> list[int]:
    """The processes that serve a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if b"quality.worker" in command and any(str(folder).encode() in part for part in command) and state != "Z":
                found.append(int(entry.name))
    return found


def gone(folder: Path, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while workers(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    # Longer than what a socket's address may be, as homes are that lie deep.
    deep = tmp_path / ("h" * 60) / "quality"
    yield deep
    for pid in workers(deep):
        os.kill(pid, signal.SIGKILL)


def failing(validated: Validated) -> int:
    return sum(sum(outcome.counts.values()) for outcome in validated.outcomes)


def test_two_who_start_at_once_share_one_worker_which_is_replaced_when_it_is_killed_and_ends_when_idle(
    folder: Path,
) -> None:
    found: list[Validated] = []
    threads = [threading.Thread(target=lambda: found.append(WarmValidator(folder).validate([BATCH]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(warm.START_S)
    assert [(v.by, failing(v)) for v in found] == [("worker", 1)] * 2
    (worker,) = workers(folder)

    # It has the request, and is killed before it has answered.
    os.kill(worker, signal.SIGSTOP)
    asking = threading.Thread(target=lambda: found.append(WarmValidator(folder, idle_s=2).validate([BATCH])))
    asking.start()
    time.sleep(0.3)
    assert len(found) == 2
    os.kill(worker, signal.SIGKILL)
    asking.join(warm.START_S)
    assert (found[2].by, failing(found[2])) == ("worker", 1)
    assert worker not in workers(folder)
    assert gone(folder, within_s=20)
    assert not WarmValidator(folder).socket_path.exists()


def test_without_a_worker_the_process_that_asks_validates_itself_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder can be made below it")
    found = WarmValidator(tmp_path / "file" / "quality").validate([BATCH])
    assert (found.by, failing(found)) == ("own process", 1)
    assert "did not answer" in found.why

    monkeypatch.setattr(sys, "executable", "/bin/false")
    warm._code.cache_clear()
    found = WarmValidator(tmp_path / "quality").validate([BATCH])
    assert (found.by, failing(found)) == ("own process", 1)
    assert "worker.log" in found.why
    warm._code.cache_clear()


def test_a_stuck_worker_is_given_up_and_one_that_is_dismissed_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validator = WarmValidator(folder)
    validator.start()
    (worker,) = workers(folder)
    os.kill(worker, signal.SIGSTOP)
    monkeypatch.setattr(warm, "ANSWER_S", 0.5)
    found = validator.validate([BATCH])
    assert (found.by, failing(found)) == ("own process", 1)
    os.kill(worker, signal.SIGCONT)
    validator.dismiss(wait_s=20)
    assert workers(folder) == []


def test_a_worker_that_is_dismissed_before_it_is_warm_ends_as_well(folder: Path) -> None:
    validator = WarmValidator(folder)
    told: list[str] = []

    def start() -> None:
        try:
            validator.start()
        except OSError as error:
            told.append(str(error))

    starting = threading.Thread(target=start)
    starting.start()
    pid = validator.socket_path.with_suffix(".pid")
    deadline = time.monotonic() + 20
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    validator.dismiss(wait_s=20)
    assert workers(folder) == []
    starting.join(20)
    assert "ended" in told[0]
