"""What the porter leaves, the hot process reads to the bit, or refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from backbone.errors import IntegrityError
from gateway.exchange import (
    Canary,
    EdgeRelease,
    FleetState,
    Folders,
    MaintenanceEvents,
    read_release,
    read_state,
    release_folder,
    release_versions,
    write_release,
    write_state,
    write_state_in_parts,
)

CANARY = Canary(np.array([[1.5, np.nan], [0.1, -3e38]], np.float32), np.array([12.5, 0.0]), 0.01, "manifest")
RELEASE = EdgeRelease("pump", 3, b"\x08\x01", {"version": 3, "unit": "°C"}, '{"a": 1}', CANARY, {"name": "pump"})
MANIFEST = b'{"version": 3, "unit": "\xc2\xb0C"}'
NONE = MaintenanceEvents(np.array([], object), np.array([], "datetime64[us]"))


def test_a_release_comes_across_to_the_bit(tmp_path: Path) -> None:
    releases = Folders(tmp_path).releases("pump")
    write_release(release_folder(releases, 3), RELEASE, MANIFEST)
    found = read_release(release_folder(releases, 3))
    assert replace(found, canary=CANARY) == RELEASE
    assert found.canary.features.dtype == np.float32
    np.testing.assert_array_equal(found.canary.features, CANARY.features)
    np.testing.assert_array_equal(found.canary.answers, CANARY.answers)
    assert (found.canary.tolerance, found.canary.origin) == (CANARY.tolerance, CANARY.origin)
    assert release_versions(releases) == [3]
    assert [p.name for p in releases.iterdir()] == ["v3"]


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "baseline.json", "canary.json", "digests.json"])
def test_a_release_with_a_changed_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    write_release(tmp_path / "v3", RELEASE, MANIFEST)
    file = tmp_path / "v3" / name
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(IntegrityError):
        read_release(tmp_path / "v3")
    file.unlink()
    with pytest.raises(IntegrityError):
        read_release(tmp_path / "v3")


@given(
    tail=npst.arrays(float, (2, 3, 2)),
    names=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=2, max_size=2),
    parts=st.booleans(),
)
def test_a_state_comes_across_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, tail: np.ndarray, names: list[str], parts: bool
) -> None:
    moments = np.array(["2025-01-01T00:00:00.000001", "1969-12-31"], "datetime64[us]")
    checkpoint = {
        "baseline": "sha256:1",
        "features": "sha256:2",
        "equipment": np.array(names, object),
        "life": np.array([0, 3]),
        "readings": np.array([7, 8]),
        "started": moments,
        "latest": moments[::-1],
        "tail_age": tail[:, :, 0],
        "tail": tail,
        "sums": np.swapaxes(tail, 0, 1),
    }
    events = MaintenanceEvents(np.array([names[0], names[0]], object), moments[::-1])
    file = tmp_path_factory.mktemp("state") / "pump.npz"
    whole = FleetState("pump", "{}", "2025-01-01", checkpoint, events, late=4)
    if parts:
        write_state_in_parts(file, (_part(whole, slice(n, n + 1), late=3 + n) for n in range(2)))
    else:
        write_state(file, whole)
    found = read_state(file)
    assert found is not None
    assert (found.fleet, found.baseline, found.window, found.late) == ("pump", "{}", "2025-01-01", 4)
    assert found.checkpoint is not None
    assert found.checkpoint.keys() == checkpoint.keys()
    for name, value in checkpoint.items():
        np.testing.assert_array_equal(found.checkpoint[name], value)
        assert getattr(found.checkpoint[name], "dtype", None) == getattr(value, "dtype", None)
    assert {k: v.tolist() for k, v in found.events.of().items()} == {names[0]: moments[::-1].view(np.int64).tolist()}


def _part(whole: FleetState, some: slice, *, late: int) -> FleetState:
    """Of some machines, and as if no maintenance was known before the last part."""
    assert whole.checkpoint is not None
    checkpoint = {
        name: value if isinstance(value, str) else value[:, some] if name == "sums" else value[some]
        for name, value in whole.checkpoint.items()
    }
    return replace(whole, checkpoint=checkpoint, late=late, events=whole.events if some.start else NONE)


def test_no_checkpoint_and_no_file(tmp_path: Path) -> None:
    file = Folders(tmp_path).state("pump")
    assert read_state(file) is None
    write_state(file, FleetState("pump", "{}", None, None, NONE))
    found = read_state(file)
    assert found is not None
    assert found.checkpoint is None
    assert found.events.of() == {}


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pump.npz"
    write_state(file, FleetState("pump", "{}", None, None, NONE))
    whole = file.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            read_state(file)
