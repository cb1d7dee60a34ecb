"""The disk as the spool sees it, and the one that fails on demand: it must be able to do what real ones do."""

import errno
from collections import Counter
from pathlib import Path

import pytest

from gateway.disk import Disk, RealDisk, replace_file, write_all
from gateway.disk_faults import SECTOR, FaultyDisk, PowerCut
from tests.gateway.hasty_disk import HastyDisk


@pytest.fixture(params=["real", "faulty"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return RealDisk() if request.param == "real" else FaultyDisk(1)


def put(disk: Disk, path: Path, data: bytes) -> None:
    handle = disk.create(path)
    write_all(disk, handle, data)
    disk.sync(handle)
    disk.close(handle)


def after_power_cut(disk: FaultyDisk, folder: Path) -> dict[str, bytes]:
    disk.power_cut()
    disk.power_on()
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_without_faults_both_do_what_they_are_asked(tmp_path: Path, disk: Disk) -> None:
    folder = tmp_path / "a" / "b"
    disk.make_folder(folder)
    handle = disk.create(folder / "x")
    write_all(disk, handle, b"hello")
    assert disk.write(handle, memoryview(b", world")) == 7
    disk.sync(handle)
    disk.truncate(folder / "x", 10)
    write_all(disk, handle, b"!")
    disk.close(handle)
    disk.sync_file(folder / "x")
    assert (disk.size(folder / "x"), disk.read(folder / "x", 7, 99)) == (11, b"wor!")
    with pytest.raises(FileExistsError):
        disk.create(folder / "x")
    disk.rename(folder / "x", folder / "y")
    disk.sync_folder(folder)
    assert disk.names(folder) == ["y"]
    disk.unlink(folder / "y")
    assert (disk.names(folder), disk.free(folder) > 0) == ([], True)
    for path in (folder / "y", folder / "z"):
        with pytest.raises(FileNotFoundError):
            disk.unlink(path)


def test_a_lock_is_held_by_one(tmp_path: Path, disk: Disk) -> None:
    held = disk.lock(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        disk.lock(tmp_path / "lock")
    disk.close(held)
    disk.close(disk.lock(tmp_path / "lock"))


def test_a_sector_that_cannot_be_read_reads_as_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    (tmp_path / "x").write_bytes(b"a" * 4096 + b"b" * 4096 + b"c" * 100)
    pread = os.pread

    def damaged(handle: int, size: int, at: int) -> bytes:
        if at < 8192 and at + size > 4096:
            raise OSError(errno.EIO, "a bad sector")
        return pread(handle, size, at)

    monkeypatch.setattr(os, "pread", damaged)
    assert RealDisk().read(tmp_path / "x", 0, 1 << 20) == b"a" * 4096 + bytes(4096) + b"c" * 100


def test_a_file_that_is_replaced_is_the_old_or_the_new_one_whole_whenever_the_power_is_cut(tmp_path: Path) -> None:
    old, new = b"o" * 3000, b"n" * 5000
    seen: Counter[bytes] = Counter()
    for seed in range(15):
        for operations in range(8):
            folder, disk = tmp_path / f"{seed}-{operations}", FaultyDisk(seed, HastyDisk(), short_writes=0.5)
            disk.make_folder(folder)
            replace_file(disk, folder / "x", old)
            disk.cut_after(operations)
            try:
                replace_file(disk, folder / "x", new)
            except PowerCut:
                disk.power_on()
            found = (folder / "x").read_bytes()
            assert found in (old, new)
            seen[found] += 1
            disk.heal()
            replace_file(disk, folder / "x", new)
            assert disk.names(folder) == ["x"], "what the power cut left half done"
            assert after_power_cut(disk, folder)["x"] == new
            disk.dispose()
    assert min(seen[old], seen[new]) > 10


def test_what_was_not_synced_is_kept_or_lost_in_any_mix(tmp_path: Path) -> None:
    """Each of these happens on some disk; a test that never sees one proves nothing."""
    data = b"".join(bytes([65 + n]) * SECTOR for n in range(4))
    outcomes: set[str] = set()
    for seed in range(200):
        folder, disk = tmp_path / str(seed), FaultyDisk(seed, HastyDisk())
        disk.make_folder(folder)
        put(disk, folder / "x", b"confirmed")
        disk.sync_folder(folder)
        handle = disk.create(folder / "y")
        disk.write(handle, data)
        files = after_power_cut(disk, folder)
        disk.dispose()
        assert files["x"] == b"confirmed"
        if (found := files.get("y")) is None:
            outcomes.add("no file")
        elif found == data:
            outcomes.add("all")
        elif not found:
            outcomes.add("empty")
        else:
            assert len(found) <= len(data)
            assert all(byte in (0, wanted) for byte, wanted in zip(found, data, strict=False))
            if data.startswith(found):
                outcomes.add("prefix" if len(found) % SECTOR == 0 else "torn")
            else:
                outcomes.add("hole")
    assert outcomes == {"no file", "all", "empty", "prefix", "torn", "hole"}


def test_renames_and_removals_last_once_the_folder_is_synced(tmp_path: Path) -> None:
    names: Counter[frozenset[str]] = Counter()
    for seed in range(60):
        folder, disk = tmp_path / str(seed), FaultyDisk(seed, HastyDisk())
        disk.make_folder(folder)
        for name in ("a", "b"):
            put(disk, folder / name, name.encode())
        disk.sync_folder(folder)
        disk.rename(folder / "a", folder / "c")
        disk.unlink(folder / "b")
        if seed % 2:
            disk.sync_folder(folder)
        files = after_power_cut(disk, folder)
        disk.dispose()
        assert all(data == {"a": b"a", "b": b"b", "c": b"a"}[name] for name, data in files.items())
        if seed % 2:
            assert set(files) == {"c"}
        names[frozenset(files)] += 1
    assert set(names) == {frozenset(n) for n in ({"a"}, {"a", "b"}, {"c"}, {"b", "c"})}


def test_after_a_failed_sync_asking_again_confirms_nothing(tmp_path: Path) -> None:
    lost = 0
    for seed in range(40):
        folder, disk = tmp_path / str(seed), FaultyDisk(seed, HastyDisk())
        disk.make_folder(folder)
        handle = disk.create(folder / "x")
        disk.sync_folder(folder)
        disk.write(handle, b"1" * SECTOR)
        disk.fail("sync")
        with pytest.raises(OSError, match="Input/output error"):
            disk.sync(handle)
        disk.sync(handle)
        disk.write(handle, b"2" * SECTOR)
        disk.sync(handle)
        found = after_power_cut(disk, folder)["x"]
        disk.dispose()
        assert found[SECTOR:] == b"2" * SECTOR, "what was written later was confirmed"
        lost += found[:SECTOR] != b"1" * SECTOR
    assert lost > 10


def test_a_truncation_that_was_not_synced_may_come_undone(tmp_path: Path) -> None:
    found = set()
    for seed in range(40):
        folder, disk = tmp_path / str(seed), FaultyDisk(seed, HastyDisk())
        disk.make_folder(folder)
        put(disk, folder / "x", b"0123456789")
        disk.sync_folder(folder)
        disk.truncate(folder / "x", 4)
        found.add(after_power_cut(disk, folder)["x"])
        disk.dispose()
    assert found == {b"0123456789", b"0123"}


def test_room_runs_out_in_the_middle_of_a_write(tmp_path: Path) -> None:
    disk = FaultyDisk(1, room=7)
    handle = disk.create(tmp_path / "x")
    with pytest.raises(OSError, match="No space left"):
        write_all(disk, handle, b"0123456789")
    assert (tmp_path / "x").read_bytes() == b"0123456"
    assert disk.free(tmp_path) == 0


def test_faults_come_after_so_many_and_so_often(tmp_path: Path) -> None:
    disk = FaultyDisk(1)
    handle = disk.create(tmp_path / "x")
    disk.fail("write", errno.EDQUOT, after=1, times=2)

    def outcome() -> int | None:
        try:
            disk.write(handle, b"x")
        except OSError as error:
            return error.errno
        return None

    assert [outcome() for _ in range(5)] == [None, errno.EDQUOT, errno.EDQUOT, None, None]
    disk.fail("write", times=None)
    assert [outcome() for _ in range(3)] == [errno.EIO] * 3
    disk.heal()
    assert outcome() is None


def test_without_power_nothing_works(tmp_path: Path) -> None:
    disk = FaultyDisk(1)
    handle = disk.create(tmp_path / "x")
    disk.cut_after(0)
    with pytest.raises(PowerCut):
        disk.write(handle, b"x")
    for use in (
        lambda: disk.sync(handle),
        lambda: disk.close(handle),
        lambda: disk.names(tmp_path),
        lambda: disk.create(tmp_path / "y"),
    ):
        with pytest.raises(PowerCut):
            use()
    disk.power_on()
    put(disk, tmp_path / "y", b"y")


def test_the_same_seed_gives_the_same_power_cut(tmp_path: Path) -> None:
    def run(folder: Path) -> dict[str, bytes]:
        disk = FaultyDisk(5, short_writes=0.5)
        disk.make_folder(folder)
        for name in "abc":
            handle = disk.create(folder / name)
            for _ in range(4):
                disk.write(handle, name.encode() * 700)
        files = after_power_cut(disk, folder)
        disk.dispose()
        return files

    assert run(tmp_path / "1") == run(tmp_path / "2")
