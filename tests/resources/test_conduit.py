"""What crosses arrives whole and recorded, or not at all."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backbone.conduit import StorePath
from backbone.errors import IntegrityError, StorageFull
from resources.conduit import RecordingConduit
from resources.state.database import Database
from resources.state.plant_state import State

AT = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(Database(f"sqlite:///{tmp_path / 'state.db'}"))


@pytest.fixture
def conduit(tmp_path: Path, state: State) -> RecordingConduit:
    return RecordingConduit(lambda location: tmp_path / location, state, now=lambda: AT)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_folder_arrives_whole_and_is_recorded(tmp_path: Path, conduit: RecordingConduit, state: State) -> None:
    write(tmp_path / "cloud/model/a.onnx", b"weights")
    write(tmp_path / "cloud/model/deep/b.json", b"{}")
    crossing = conduit.carry("model", StorePath("cloud", "model"), StorePath("plant", "in/model"), run_id="r1")
    assert (tmp_path / "plant/in/model/a.onnx").read_bytes() == b"weights"
    assert (tmp_path / "plant/in/model/deep/b.json").read_bytes() == b"{}"
    assert (crossing.files, crossing.size_bytes, crossing.at) == (2, 9, AT)
    assert state.crossings("r1") == [crossing]


def test_what_was_there_is_replaced(tmp_path: Path, conduit: RecordingConduit) -> None:
    write(tmp_path / "plant/m/old.bin", b"old")
    write(tmp_path / "cloud/m/new.bin", b"new")
    conduit.carry("model", StorePath("cloud", "m"), StorePath("plant", "m"), run_id="r")
    assert [p.name for p in (tmp_path / "plant/m").iterdir()] == ["new.bin"]
    assert [p.name for p in (tmp_path / "plant").iterdir()] == ["m"]


def test_nothing_to_carry_is_an_error_and_leaves_no_record(conduit: RecordingConduit, state: State) -> None:
    with pytest.raises(IntegrityError, match="nothing at cloud:gone"):
        conduit.carry("model", StorePath("cloud", "gone"), StorePath("plant", "m"), run_id="r")
    assert state.crossings() == []


@pytest.mark.parametrize("path", ["../elsewhere", "/etc/passwd", "a/../../b"])
def test_a_path_cannot_leave_its_store(tmp_path: Path, conduit: RecordingConduit, path: str) -> None:
    write(tmp_path / "cloud/m", b"x")
    with pytest.raises(IntegrityError, match="outside its store"):
        conduit.carry("model", StorePath("cloud", "m"), StorePath("plant", path), run_id="r")


def test_a_disk_that_fills_up_leaves_nothing_behind(
    tmp_path: Path, conduit: RecordingConduit, state: State, full_disk: Path
) -> None:
    write(tmp_path / "cloud/big", os.urandom(4 << 20))
    (tmp_path / "plant").symlink_to(full_disk)
    with pytest.raises(StorageFull, match="Free some space"):
        conduit.carry("set", StorePath("cloud", "big"), StorePath("plant", "big"), run_id="r")
    assert list(full_disk.iterdir()) == []
    assert state.crossings() == []
