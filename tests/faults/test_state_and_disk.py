"""The state database is held by somebody else, or the disk is full: what was due is answered afterwards, once."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.closing_check import nothing_is_missing_or_twice
from tests.faults.running_plant import FLEET, LAST_SERVED, SITE, Layout, RunningPlant, running
from tests.scenarios.installation import Installation

pytestmark = [pytest.mark.slow, pytest.mark.plant, pytest.mark.timeout(900)]

LOCKED_S = 20
_HOLD = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
database.execute("COMMIT")
"""
_DISK_MB = 48

Measured = Callable[[str, object], None]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real, small file system of its own; needs the right to mount."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def plant(another: Callable[[Layout], Installation], disk: Path) -> Iterator[RunningPlant]:
    """A plant whose premises keep their store on that disk."""
    layout = Layout()
    installation = another(layout)
    store = disk / "on_prem"
    shutil.move(installation.home.store("on_prem"), store)
    replace(layout, store=store).write(installation.home)
    with running(installation) as plant:
        yield plant


def test_a_state_database_held_by_another_process_delays_and_loses_nothing(plant: RunningPlant) -> None:
    run_id = plant.serve(LAST_SERVED)
    plant.working(run_id, "scoring")
    arguments = [str(plant.home.root / "state.db"), str(LOCKED_S)]
    with subprocess.Popen([sys.executable, "-c", _HOLD, *arguments], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert plant.status(run_id) == "STARTED"
        assert holder.wait(LOCKED_S + 30) == 0
    assert plant.ended(run_id) == "SUCCESS", plant.log(run_id)[-5:]
    assert plant.answer(LAST_SERVED).epoch == plant.plant.answers(FLEET).epoch_of(run_id)
    plant.made_good(datetime.now(UTC))
    assert plant.runs_in_place_of(run_id) == []
    nothing_is_missing_or_twice(plant.plant, FLEET, plant.instance)


def test_a_full_disk_is_told_and_the_rules_answer_when_there_is_room(
    plant: RunningPlant, disk: Path, record_testsuite_property: Measured
) -> None:
    before = plant.answer(LAST_SERVED)
    ballast = _fill(disk)
    run_id = plant.serve(LAST_SERVED)
    assert plant.ended(run_id) == "FAILURE"
    (told,) = plant.failures(run_id)
    assert "No room left" in told
    assert "Free some space" in told
    plant.wait(lambda: plant.runs_in_place_of(run_id), "the rules are asked")
    assert plant.answer(LAST_SERVED) == before
    ballast.unlink()
    room = datetime.now(UTC)
    epoch = plant.plant.answers(FLEET).epoch_of(run_id)
    assert epoch is not None
    plant.wait(lambda: plant.answer(LAST_SERVED).epoch >= epoch, "an answer comes")
    by_rules = plant.answer(LAST_SERVED)
    assert by_rules.epoch == epoch
    assert not any(by.startswith("model") for by in by_rules.served_by)
    record_testsuite_property("full_disk.seconds_to_fallback", (by_rules.answered_at - room).total_seconds())
    record_testsuite_property("full_disk.seconds_to_recovery", plant.made_good(room))
    history = plant.plant.advisories(FLEET).history(SITE, LAST_SERVED, LAST_SERVED, columns=["epoch"])
    assert {before.epoch, epoch, plant.answer(LAST_SERVED).epoch} <= set(history["epoch"].to_pylist())
    nothing_is_missing_or_twice(plant.plant, FLEET, plant.instance)


def _fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    assert shutil.disk_usage(disk).free < 4096
    return ballast
