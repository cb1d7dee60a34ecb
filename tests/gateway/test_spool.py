"""The spool: what was confirmed is read back exactly, whatever the disk does; nothing else is made up."""

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backbone.errors import ConfigurationError, IntegrityError, StorageFull
from gateway.disk import RealDisk
from gateway.disk_faults import FaultyDisk, PowerCut
from gateway.frames import FILE_HEAD, FRAME_HEAD, LONGEST
from gateway.settings import SpoolSettings
from gateway.spool import Spool, SpoolFailed, SpoolFull, SpoolReader
from tests.gateway.hasty_disk import HastyDisk

_MIB = 1 << 20


def bounded(max_bytes: int, segment_bytes: int, on_full: str = "reject") -> SpoolSettings:
    return SpoolSettings(max_bytes / _MIB, segment_bytes / _MIB, on_full)  # type: ignore[arg-type]


WIDE = bounded(_MIB, 64 << 10)
NARROW = bounded(8000, 1000)


def numbered(count: int, *, size: int = 100, first: int = 0) -> list[bytes]:
    return [f"{n:06d}".encode().ljust(size, b".") for n in range(first, first + count)]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def content(spool: Spool | SpoolReader, begin: int, end: int) -> dict[int, bytes]:
    return dict(spool.read(begin, end))


def everything(spool: Spool) -> dict[int, bytes]:
    return content(spool, spool.begin, spool.end)


# What is asked of it on a good day.


def test_records_are_read_back_at_the_positions_that_append_told(tmp_path: Path) -> None:
    with Spool(tmp_path, WIDE) as spool:
        assert (spool.begin, spool.end) == (0, 0)
        assert spool.append([b"a", b"", b"c"]) == 3
        assert spool.append([b"d"]) == 4
        assert spool.append([]) == 4
        assert list(spool.read(0, 4)) == [(0, b"a"), (1, b""), (2, b"c"), (3, b"d")]
        assert list(spool.read(1, 3)) == [(1, b""), (2, b"c")]
        assert list(spool.read(2, 99)) == [(2, b"c"), (3, b"d")]


def test_opened_again_it_has_the_same_id_and_goes_on_counting(tmp_path: Path) -> None:
    with Spool(tmp_path, WIDE) as spool:
        first = spool.id
        spool.append(numbered(5))
    with Spool(tmp_path, WIDE) as spool:
        assert (spool.id, spool.begin, spool.end) == (first, 0, 5)
        assert spool.append([b"x"]) == 6
        assert list(everything(spool).values()) == [*numbered(5), b"x"]
        assert spool.gaps == ()
    with Spool(tmp_path / "another", WIDE) as other:
        assert other.id != first


def test_opening_again_and_again_leaves_no_files_behind(tmp_path: Path) -> None:
    for number in range(10):
        with Spool(tmp_path, WIDE) as spool:
            spool.append(numbered(1, first=number))
    with Spool(tmp_path, WIDE) as spool:
        assert list(everything(spool).values()) == numbered(10)
        for _ in range(5):
            spool.close()
            spool = Spool(tmp_path, WIDE)
        held = len(segments(tmp_path))
        spool.close()
    for _ in range(10):
        Spool(tmp_path, WIDE).close()
    assert len(segments(tmp_path)) == held


def test_a_second_gateway_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    with Spool(tmp_path, WIDE), pytest.raises(ConfigurationError, match="Another process has the spool"):
        Spool(tmp_path, WIDE)
    Spool(tmp_path, WIDE).close()


def test_files_of_another_spool_are_not_taken_for_its_own(tmp_path: Path) -> None:
    Spool(tmp_path / "one", WIDE).close()
    Spool(tmp_path / "two", WIDE).close()
    stray = segments(tmp_path / "two")[0]
    stray.rename(tmp_path / "one" / stray.name)
    with pytest.raises(ConfigurationError, match="2 spools"):
        Spool(tmp_path / "one", WIDE)
    stray = tmp_path / "one" / stray.name
    stray.unlink()
    Spool(tmp_path / "one", WIDE).close()


def test_a_file_of_another_version_is_not_guessed_at(tmp_path: Path) -> None:
    from zlib import crc32

    Spool(tmp_path, WIDE).close()
    path = segments(tmp_path)[0]
    head = bytearray(path.read_bytes())
    head[8] += 1
    head[-4:] = crc32(head[:-4]).to_bytes(4, "little")
    path.write_bytes(head)
    with pytest.raises(ConfigurationError, match="format 2"):
        Spool(tmp_path, WIDE)


def test_whole_files_before_a_released_position_go(tmp_path: Path) -> None:
    with Spool(tmp_path, NARROW) as spool:
        for number in range(0, 40, 4):
            spool.append(numbered(4, first=number))
        held = spool.bytes
        assert held == sum(p.stat().st_size for p in segments(tmp_path))
        spool.release(17)
        assert 0 < spool.begin <= 17
        assert spool.bytes < held
        assert content(spool, 0, 40) == {n: numbered(1, first=n)[0] for n in range(spool.begin, 40)}
        spool.release(40)
        assert (spool.end, len(segments(tmp_path))) == (40, 1)
    with Spool(tmp_path, NARROW) as spool:
        assert spool.end == 40
        assert spool.append([b"x"]) == 41


def test_at_its_bound_it_rejects_and_takes_again_after_a_release(tmp_path: Path) -> None:
    with Spool(tmp_path, NARROW) as spool:
        while spool.bytes + 100 + FRAME_HEAD + FILE_HEAD <= NARROW.max_bytes:
            spool.append(numbered(1, first=spool.end))
        full = spool.end
        with pytest.raises(StorageFull, match="8,000"):
            spool.append(numbered(2, first=full))
        assert spool.bytes <= NARROW.max_bytes
        assert list(everything(spool).values()) == numbered(full)
        spool.release(full)
        assert spool.append(numbered(1, first=full)) == full + 1


def test_an_append_nearly_as_large_as_the_bound_does_not_stop_it_for_ever(tmp_path: Path) -> None:
    with Spool(tmp_path, NARROW) as spool:
        spool.append([bytes(7500)])
        with pytest.raises(SpoolFull):
            spool.append([bytes(7000)])
        spool.release(1)
        assert spool.append([bytes(7000)]) == 2
        with pytest.raises(SpoolFull):
            spool.append([bytes(9000)])
        assert spool.append([b"small"]) == 3


def test_drop_oldest_lets_go_of_whole_files_and_tells_which_positions(tmp_path: Path) -> None:
    dropped: list[tuple[int, int]] = []
    settings = bounded(8000, 1000, "drop_oldest")
    with Spool(tmp_path, settings, HastyDisk(), on_dropped=lambda a, b: dropped.append((a, b))) as spool:
        spool.append(numbered(3))
        spool.release(2)
        for number in range(3, 200):
            spool.append(numbered(1, first=number))
        assert spool.bytes <= 8000
        assert dropped[0][0] == 2, "what was released was not lost"
        assert [b for b, _ in dropped[1:]] == [e for _, e in dropped[:-1]]
        assert (dropped[-1][1], spool.dropped) == (spool.begin, spool.begin - 2)
        assert everything(spool) == {n: numbered(1, first=n)[0] for n in range(spool.begin, 200)}


def test_a_record_that_is_too_long_is_refused_and_harms_none(tmp_path: Path) -> None:
    with Spool(tmp_path, WIDE) as spool:
        with pytest.raises(IntegrityError):
            spool.append([b"a", bytes(LONGEST + 1)])
        assert spool.append([b"a"]) == 1


def test_closed_it_takes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, WIDE)
    spool.close()
    with pytest.raises(SpoolFailed, match="closed"):
        spool.append([b"a"])


def test_positions_confirmed_elsewhere_are_not_given_out_again(tmp_path: Path) -> None:
    with Spool(tmp_path, WIDE) as spool:
        spool.append(numbered(5))
    with Spool(tmp_path, WIDE, at_least=9) as spool:
        assert spool.end == 9
        assert [(g.begin, g.end, g.certain) for g in spool.gaps] == [(5, 9, True)]
        assert spool.append([b"x"]) == 10
        assert sorted(everything(spool)) == [0, 1, 2, 3, 4, 9]


# Another process reads.


def test_a_reader_follows_through_files_that_come_and_go(tmp_path: Path) -> None:
    reader = SpoolReader(tmp_path)
    with Spool(tmp_path, NARROW) as spool:
        assert reader.id == spool.id
        seen: list[bytes] = []
        for number in range(0, 120, 3):
            end = spool.append(numbered(3, first=number))
            seen += [record for _, record in reader.read(len(seen), end)]
            spool.release(end)
        assert seen == numbered(120)
        assert reader.gaps == ()
        assert [p for p, _ in reader.read(0, 120)] == list(range(spool.begin, 120))


def test_a_reader_reads_no_further_than_it_may(tmp_path: Path) -> None:
    with Spool(tmp_path, WIDE) as spool:
        spool.append(numbered(10))
        assert [p for p, _ in SpoolReader(tmp_path).read(0, 7)] == list(range(7))


def test_a_reader_that_is_in_a_file_goes_on_in_the_one_that_opening_again_begins(tmp_path: Path) -> None:
    with Spool(tmp_path, WIDE) as spool:
        spool.append(numbered(3))
        spool.append(numbered(20_000, first=3, size=20))  # more than is read at once
        end = spool.end
    reader = SpoolReader(tmp_path)
    reading = reader.read(0, end)
    before = [next(reading) for _ in range(5)]
    with Spool(tmp_path, WIDE):
        after = list(reading)
        assert [p for p, _ in before + after] == list(range(end))
        assert reader.gaps == ()


def test_reading_on_begins_where_reading_stopped(tmp_path: Path) -> None:
    class Counting(RealDisk):
        read_bytes = 0

        def read(self, path: Path, at: int, size: int) -> bytes:
            data = super().read(path, at, size)
            self.read_bytes += len(data)
            return data

    disk = Counting()
    with Spool(tmp_path, bounded(64 * _MIB, 16 * _MIB)) as spool:
        spool.append([bytes(1000)] * 10_000)
        reader = SpoolReader(tmp_path, disk)
        for begin in range(0, 10_000, 100):
            assert len(list(reader.read(begin, begin + 100))) == 100
    held = 10_000 * (1000 + FRAME_HEAD)
    assert disk.read_bytes < 15 * held, "each of 100 reads takes one chunk, not the file from its beginning"


def test_reading_and_releasing_from_other_threads_while_one_appends(tmp_path: Path) -> None:
    with Spool(tmp_path, NARROW, HastyDisk()) as spool:
        problems: list[object] = []
        seen: list[bytes] = []
        done = threading.Event()

        def follow() -> None:
            while not (done.is_set() and len(seen) == spool.end):
                for position, record in spool.read(len(seen), spool.end):
                    if position != len(seen):
                        problems.append((position, len(seen)))
                    seen.append(record)
                spool.release(len(seen))

        thread = threading.Thread(target=follow)
        thread.start()
        taken = 0
        while taken < 600:
            try:
                taken = spool.append(numbered(3, first=taken))
            except SpoolFull:
                continue
        done.set()
        thread.join(timeout=30)
        assert (problems, seen) == ([], numbered(taken))


# The disk fails.


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    faulty = FaultyDisk(seed=1)
    yield faulty
    faulty.dispose()


def reopened(folder: Path, disk: FaultyDisk, settings: SpoolSettings = WIDE) -> Spool:
    disk.power_cut()
    disk.power_on()
    disk.heal()
    return Spool(folder, settings, disk)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_nothing_of_the_append_and_goes_on_in_the_same_file(
    tmp_path: Path, disk: FaultyDisk, error: int
) -> None:
    spool = Spool(tmp_path, WIDE, disk)
    spool.append(numbered(3))
    disk.room = 250
    disk.fail("write", error, after=1)
    with pytest.raises(SpoolFull):
        spool.append(numbered(5, first=3))
    assert segments(tmp_path)[-1].stat().st_size == FILE_HEAD + 3 * (100 + FRAME_HEAD) == spool.bytes
    disk.heal()
    assert spool.append(numbered(2, first=3)) == 5
    assert len(segments(tmp_path)) == 1
    assert list(everything(reopened(tmp_path, disk)).values()) == numbered(5)


def test_a_full_disk_drops_the_oldest_where_that_is_wanted(tmp_path: Path, disk: FaultyDisk) -> None:
    spool = Spool(tmp_path, bounded(8000, 1000, "drop_oldest"), disk)
    for number in range(0, 30, 3):
        spool.append(numbered(3, first=number))
    disk.fail("write", errno.ENOSPC, times=2)
    assert spool.append(numbered(3, first=30)) == 33
    assert spool.dropped == spool.begin > 0
    disk.fail("write", errno.ENOSPC, times=None)
    with pytest.raises(SpoolFull):
        spool.append(numbered(3, first=33))
    disk.heal()
    assert spool.append(numbered(3, first=33)) == 36


@pytest.mark.parametrize("operation", ["unlink", "sync_folder"])
def test_what_is_dropped_is_told_though_the_disk_does_not_confirm_that_it_is_gone(
    tmp_path: Path, disk: FaultyDisk, operation: str
) -> None:
    dropped: list[tuple[int, int]] = []
    settings = bounded(8000, 1000, "drop_oldest")
    spool = Spool(tmp_path, settings, disk, on_dropped=lambda a, b: dropped.append((a, b)))
    for number in range(0, 30, 3):
        spool.append(numbered(3, first=number))
    disk.fail("write", errno.ENOSPC)
    disk.fail(operation, errno.EIO, times=None)  # type: ignore[arg-type]
    if operation == "unlink":
        with pytest.raises(SpoolFull):
            spool.append(numbered(3, first=30))
        assert (dropped, spool.dropped, spool.begin) == ([], 0, 0)
    else:
        with pytest.raises(SpoolFailed):  # the new file is not confirmed either
            spool.append(numbered(3, first=30))
        assert (dropped, spool.dropped) == ([(0, spool.begin)], spool.begin)
        assert spool.begin > 0


@pytest.mark.parametrize(
    ("operation", "appends"),
    [("write", 1), ("sync", 1), ("write", 2), ("sync", 2), ("create", 2), ("rename", 2), ("sync_folder", 2)],
)
@pytest.mark.parametrize("also", ["truncate", "unlink"])
def test_after_an_input_output_error_the_next_append_begins_a_new_file(
    tmp_path: Path, disk: FaultyDisk, operation: str, appends: int, also: str
) -> None:
    """After one append there is room in the file, after two there is not."""
    spool = Spool(tmp_path, NARROW, disk)
    for _ in range(appends):
        kept = spool.append(numbered(3, first=spool.end))
    disk.fail(operation, errno.EIO)  # type: ignore[arg-type]
    disk.fail(also, errno.EIO, times=None)  # type: ignore[arg-type]
    if (operation, also) == ("write", "unlink"):
        disk.fail("truncate", errno.EIO)
    with pytest.raises(SpoolFailed):
        spool.append(numbered(3, first=kept))
    assert (spool.end, everything(spool)) == (kept, dict(enumerate(numbered(kept))))
    assert spool.append(numbered(3, first=kept)) == kept + 3
    assert kept + 3 == len(segments(tmp_path)[-1].read_bytes()) // (100 + FRAME_HEAD) + kept, "a file of its own"
    assert everything(spool) == dict(enumerate(numbered(kept + 3)))
    spool = reopened(tmp_path, disk, NARROW)
    assert everything(spool) == dict(enumerate(numbered(kept + 3)))
    assert spool.gaps == ()


def test_what_a_failed_fsync_left_in_memory_is_not_taken_for_kept_by_the_next_process(tmp_path: Path) -> None:
    """The system shows it as written: asked again, it would say yes, and the next power cut would take it."""
    for seed in range(20):
        folder, disk = tmp_path / str(seed), FaultyDisk(seed)
        spool = Spool(folder, WIDE, disk)
        spool.append(numbered(3))
        disk.fail("sync")
        disk.fail("truncate", times=None)
        with pytest.raises(SpoolFailed):
            spool.append(numbered(3, first=3))
        disk.heal()
        disk.close_all()  # killed
        spool = Spool(folder, WIDE, disk)
        believed = everything(spool)
        assert len(believed) >= 3
        assert everything(reopened(folder, disk)) == believed
        disk.dispose()


def test_a_disk_that_is_full_when_the_gateway_starts_can_be_drained(tmp_path: Path, disk: FaultyDisk) -> None:
    spool = Spool(tmp_path, WIDE, disk)
    spool.append(numbered(3))
    disk.close_all()
    disk.room = 0
    spool = Spool(tmp_path, WIDE, disk)
    assert everything(spool) == dict(enumerate(numbered(3)))
    with pytest.raises(SpoolFull):
        spool.append([b"x"])
    disk.heal()
    assert spool.append(numbered(1, first=3)) == 4
    assert everything(reopened(tmp_path, disk)) == dict(enumerate(numbered(4)))


def test_a_file_that_could_not_be_removed_hides_none_behind_it(tmp_path: Path, disk: FaultyDisk) -> None:
    spool = Spool(tmp_path, WIDE, disk)
    spool.append(numbered(3))
    spool.append(numbered(3, first=3))
    spool.close()
    spool = Spool(tmp_path, WIDE, disk)  # begins a file with the last append
    spool.release(3)
    spool.close()
    disk.fail("unlink", times=None)
    spool = Spool(tmp_path, WIDE, disk)
    assert len(segments(tmp_path)) == 2
    assert content(spool, 0, 6) == content(SpoolReader(tmp_path), 0, 6) == {n: numbered(6)[n] for n in (3, 4, 5)}


def test_a_disk_that_fails_when_the_gateway_starts_is_not_believed(tmp_path: Path, disk: FaultyDisk) -> None:
    Spool(tmp_path, WIDE, disk).append(numbered(3))
    disk.close_all()
    disk.fail("sync")
    with pytest.raises(SpoolFailed):
        Spool(tmp_path, WIDE, disk)
    assert everything(Spool(tmp_path, WIDE, disk)) == dict(enumerate(numbered(3)))


def test_on_a_real_disk_that_is_full(full_disk: Path) -> None:
    with Spool(full_disk / "spool", bounded(8 * _MIB, 128 << 10)) as spool:
        batch, taken = [os.urandom(1000) for _ in range(50)], 0
        for _ in range(15):
            taken = spool.append(batch)
        with pytest.raises(SpoolFull, match="No space left on device"):
            _append_until_refused(spool, batch)
        taken = spool.end
        assert [r for _, r in spool.read(0, taken)] == batch * (taken // 50)
        spool.release(taken)
        assert spool.append(batch) == taken + 50


def _append_until_refused(spool: Spool, batch: list[bytes]) -> None:
    for _ in range(100):
        spool.append(batch)


def test_a_power_cut_while_files_are_let_go_of_leaves_no_hole(tmp_path: Path) -> None:
    """A file missing between two that are there would be taken for damage."""
    for seed in range(30):
        folder, disk = tmp_path / str(seed), FaultyDisk(seed, HastyDisk())
        spool = Spool(folder, NARROW, disk)
        for number in range(0, 30, 3):
            spool.append(numbered(3, first=number))
        disk.cut_after(5)
        with pytest.raises(PowerCut):
            spool.release(30)
        spool = reopened(folder, disk, NARROW)
        assert (spool.gaps, spool.end) == ((), 30)
        assert everything(spool) == {n: numbered(1, first=n)[0] for n in range(spool.begin, 30)}
        assert spool.gaps == ()
        disk.dispose()


def test_killed_before_the_disk_confirmed_and_started_on_a_full_one_it_has_the_rest_confirmed(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    for seed in range(20):
        folder, disk = tmp_path / str(seed), FaultyDisk(seed, HastyDisk())
        spool = Spool(folder, WIDE, disk)
        spool.append(numbered(3))

        def killed(handle: int) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(disk, "sync", killed)
            with pytest.raises(Killed):
                spool.append(numbered(3, first=3))
        disk.close_all()
        disk.room = 0
        believed = everything(Spool(folder, WIDE, disk))
        assert believed == dict(enumerate(numbered(6)))
        assert everything(reopened(folder, disk)) == believed
        disk.dispose()


# Bytes change.


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def test_a_page_torn_at_every_byte_of_the_last_frame(tmp_path: Path) -> None:
    Spool(tmp_path / "whole", WIDE).close()
    with Spool(tmp_path / "whole", WIDE) as spool:
        spool.append([b"first", b"second"])
        spool.append([b"the last"])
    (path,) = segments(tmp_path / "whole")
    whole = path.read_bytes()
    begins = len(whole) - FRAME_HEAD - len(b"the last")
    for size in range(begins, len(whole)):
        flipped = bytes(byte ^ 0xFF for byte in whole[size:])
        for kind, rest in {"cut": b"", "zeros": bytes(len(whole) - size), "others": flipped}.items():
            folder = tmp_path / f"{size}-{kind}"
            folder.mkdir()
            (folder / path.name).write_bytes(whole[:size] + rest)
            with Spool(folder, WIDE, HastyDisk()) as spool:
                torn = size - begins + len(rest)
                assert (everything(spool), spool.torn_bytes) == ({0: b"first", 1: b"second"}, torn)
                assert spool.append([b"again"]) == 3
                assert everything(spool) == {0: b"first", 1: b"second", 2: b"again"}
                kept = [p.read_bytes() for p in folder.glob("*.torn")]
                assert kept == ([(whole[:size] + rest)[begins:]] if torn else [])
                assert spool.gaps == ()


def test_any_flipped_byte_costs_one_record_at_most_and_is_told(tmp_path: Path) -> None:
    with Spool(tmp_path / "whole", WIDE) as spool:
        for number in range(5):
            spool.append(numbered(2, first=2 * number, size=20))
    (path,) = segments(tmp_path / "whole")
    whole, each = path.read_bytes(), 20 + FRAME_HEAD
    truth = dict(enumerate(numbered(10, size=20)))
    for at in range(len(whole)):
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / path.name).write_bytes(whole)
        flip(folder / path.name, at)
        hit = (at - FILE_HEAD) // each if at >= FILE_HEAD else None
        with Spool(folder, WIDE, HastyDisk()) as spool:
            assert everything(spool) == {p: r for p, r in truth.items() if p != hit}
            if hit == 9:  # nothing tells it from a record that was being written
                assert (spool.end, spool.torn_bytes, len(list(folder.glob("*.torn")))) == (9, each, 1)
                assert not (folder / "damaged").exists()
                continue
            assert spool.end == 10
            (gap,) = spool.gaps
            assert (gap.begin, gap.end) == ((0, 0) if hit is None else (hit, hit + 1))
            assert gap.certain == (hit != 8), "of the last append nobody knows whether it was confirmed"
            (kept,) = (folder / "damaged").iterdir()
            wanted = (folder / path.name).read_bytes() if hit != 8 else None
            assert len(kept.read_bytes()) == (FILE_HEAD if hit is None else each)
            assert wanted is None or kept.read_bytes() in wanted


def test_damage_in_an_older_file_is_found_by_whoever_reads_it(tmp_path: Path) -> None:
    with Spool(tmp_path, NARROW) as spool:
        for number in range(0, 40, 2):
            spool.append(numbered(2, first=number))
        oldest = segments(tmp_path)[0]
        for at in (FILE_HEAD + 10, FILE_HEAD + 3 * (100 + FRAME_HEAD) + 90):
            flip(oldest, at)
        reader = SpoolReader(tmp_path)
        for of in (spool, reader):
            assert sorted(content(of, 0, 40)) == [p for p in range(40) if p not in (0, 3)]
            assert sorted(content(of, 0, 40)) == [p for p in range(40) if p not in (0, 3)]
            assert [(g.begin, g.end, g.certain) for g in of.gaps] == [(0, 1, True), (3, 4, True)]
        assert len(list((tmp_path / "damaged").iterdir())) == 2


@pytest.mark.parametrize("size", [0, 10, FILE_HEAD, FILE_HEAD + 50, FILE_HEAD + 2 * (100 + FRAME_HEAD)])
def test_an_older_file_that_was_cut_short_is_a_gap_up_to_the_next(tmp_path: Path, size: int) -> None:
    with Spool(tmp_path, NARROW) as spool:
        for number in range(0, 40, 2):
            spool.append(numbered(2, first=number))
    os.truncate(segments(tmp_path)[0], size)
    with Spool(tmp_path, NARROW) as spool:
        second = int(segments(tmp_path)[1].name.split("-")[1])
        left = max(size - FILE_HEAD, 0) // (100 + FRAME_HEAD)
        assert sorted(everything(spool)) == [*range(left), *range(second, 40)]
        assert (left, second, True) in [(g.begin, g.end, g.certain) for g in spool.gaps]


def test_a_file_that_is_missing_is_a_gap(tmp_path: Path) -> None:
    with Spool(tmp_path, NARROW) as spool:
        for number in range(0, 40, 2):
            spool.append(numbered(2, first=number))
    gone = segments(tmp_path)[1]
    begin, end = (int(p.name.split("-")[1]) for p in segments(tmp_path)[1:3])
    gone.unlink()
    with Spool(tmp_path, NARROW) as spool:
        assert sorted(everything(spool)) == [*range(begin), *range(end, 40)]
        assert [(g.begin, g.end, g.certain) for g in spool.gaps] == [(begin, end, True)]


def test_a_payload_cannot_pass_for_a_frame(tmp_path: Path) -> None:
    """A sender sends what it thinks frames look like, and the disk damages the one that holds them."""
    with Spool(tmp_path / "theirs", WIDE) as theirs:
        theirs.append(numbered(20))
    forged = segments(tmp_path / "theirs")[0].read_bytes()
    with Spool(tmp_path / "ours", WIDE) as spool:
        spool.append([b"a"])
        spool.append([forged, b"b"])
        spool.append([b"c"])
        flip(segments(tmp_path / "ours")[0], FILE_HEAD + FRAME_HEAD + 1 + 6)
        assert everything(spool) == {0: b"a", 2: b"b", 3: b"c"}


def test_many_marks_in_damaged_bytes_do_not_cost_the_square_of_their_number(tmp_path: Path) -> None:
    marks = b"\xf3\x5a" * 200_000
    with Spool(tmp_path, bounded(64 * _MIB, 16 * _MIB)) as spool:
        spool.append([marks, b"b"])
        flip(segments(tmp_path)[0], FILE_HEAD + 9)
        calls: list[int] = []

        class Counting(RealDisk):
            def read(self, path: Path, at: int, size: int) -> bytes:
                calls.append(size)
                return super().read(path, at, size)

        assert content(SpoolReader(tmp_path, Counting()), 0, 2) == {1: b"b"}
        assert len(calls) < 20


# Anything, in any order.


class Plant(RuleBasedStateMachine):
    """A gateway's life. What `append` has confirmed stays until it is released, or dropped where that is wanted."""

    disk: FaultyDisk
    spool: Spool

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self._temporary.name) / "spool"
        self.written: set[bytes] = set()
        self.truth: dict[int, bytes] = {}
        self.floor = 0
        self.count = 0

    @initialize(seed=st.integers(0, 2**32), on_full=st.sampled_from(["reject", "drop_oldest"]))
    def open(self, seed: int, on_full: str) -> None:
        self.disk = FaultyDisk(seed, HastyDisk())
        self.settings = bounded(6000, 1200, on_full)
        self._open()

    def _open(self) -> None:
        while True:
            try:
                self.spool = Spool(self.folder, self.settings, self.disk, on_dropped=self._dropped)
                self._believe()
                return
            except PowerCut:
                self.disk.power_on()
            except (SpoolFailed, SpoolFull, OSError):
                self.disk.close_all()
                self.disk.heal()

    def _believe(self) -> None:
        """What it shows when it was opened stays, whether its append was confirmed or not."""
        for position, record in everything(self.spool).items():
            assert self.truth.setdefault(position, record) == record, "a position has changed hands"
            assert record in self.written, "nobody wrote this"

    def _dropped(self, begin: int, end: int) -> None:
        assert self.settings.on_full == "drop_oldest"
        assert begin < end
        self.floor = max(self.floor, end)

    @rule(sizes=st.lists(st.integers(0, 700), min_size=1, max_size=8))
    def append(self, sizes: list[int]) -> None:
        records = [f"{self.count + n}:".encode().ljust(size, b"x") for n, size in enumerate(sizes)]
        self.count += len(records)
        self.written.update(records)
        before = self.spool.end
        try:
            end = self.spool.append(records)
        except (SpoolFull, SpoolFailed):
            assert self.spool.end == before
        except PowerCut:
            self.disk.power_on()
            self._open()
            if self.settings.on_full == "drop_oldest":  # it may have been cut off before it could tell
                self.floor = max(self.floor, self.spool.begin)
        else:
            assert (end, self.spool.end) == (before + len(records), end)
            assert not any(before + n in self.truth for n in range(len(records))), "a position was given out twice"
            self.truth.update(zip(range(before, end), records, strict=True))

    @rule(share=st.floats(0, 1))
    def release(self, share: float) -> None:
        position = self.spool.begin + int(share * (self.spool.end - self.spool.begin))
        self.floor = max(self.floor, position)
        try:
            self.spool.release(position)
        except PowerCut:
            self.disk.power_on()
            self._open()

    @rule(
        operation=st.sampled_from(["create", "write", "sync", "truncate", "rename", "unlink", "sync_folder"]),
        error=st.sampled_from([errno.EIO, errno.ENOSPC]),
        after=st.integers(0, 3),
        times=st.integers(1, 3),
    )
    def fault(self, operation: str, error: int, after: int, times: int) -> None:
        self.disk.fail(operation, error, after=after, times=times)  # type: ignore[arg-type]

    @rule(room=st.integers(0, 3000), short=st.floats(0, 1))
    def little_room(self, room: int, short: float) -> None:
        self.disk.room, self.disk.short_writes = room, short

    @rule()
    def heal(self) -> None:
        self.disk.heal()

    @rule(operations=st.integers(0, 12))
    def power_cut_soon(self, operations: int) -> None:
        self.disk.cut_after(operations)

    @rule()
    def power_cut(self) -> None:
        self.disk.power_cut()
        self.disk.power_on()
        self._open()

    @rule()
    def killed(self) -> None:
        self.disk.close_all()
        self._open()

    @rule()
    def stopped(self) -> None:
        self.spool.close()
        self._open()

    @invariant()
    def all_is_there(self) -> None:
        end = self.spool.end
        wanted = {p: r for p, r in self.truth.items() if self.floor <= p < end}
        assert end >= max(self.truth, default=-1) + 1
        for of in (self.spool, SpoolReader(self.folder)):
            found = content(of, 0, end)
            assert list(found) == sorted(found)
            assert {p: r for p, r in found.items() if p >= self.floor} == wanted
            assert all(self.truth[p] == r for p, r in found.items())
            assert not any(gap.certain for gap in of.gaps if gap.end > self.floor)
        open_files = len(self.disk._handles)
        assert open_files <= 2, "the lock, and the newest file"

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            self.disk.close_all()
            self.disk.dispose()
        self._temporary.cleanup()


TestPlant = Plant.TestCase
TestPlant.settings = hypothesis_settings(max_examples=40, stateful_step_count=30)


@pytest.mark.slow
class TestPlantForLonger(Plant.TestCase):
    settings = hypothesis_settings(max_examples=400, stateful_step_count=60)


# Real processes.

_WRITER = """
import os, sys
from pathlib import Path
from gateway.settings import SpoolSettings
from gateway.spool import Spool
spool = Spool(Path(sys.argv[1]), SpoolSettings(64, 4 / 1024))
size = int(sys.argv[2])
while True:
    first = spool.end
    end = spool.append([b"%d:" % (first + n) + bytes(first % 300) for n in range(size)])
    os.write(1, b"%d\\n" % end)
"""


def test_killed_again_and_again_a_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311 - when to kill
    acknowledged = 0
    for _ in range(4):
        size, acknowledgements = chance.choice([1, 7, 200]), chance.randrange(1, 30)
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, tmp_path, str(size)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        ) as process:
            assert process.stdout is not None
            for _ in range(acknowledgements):
                acknowledged = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            acknowledged = int(([b"0", *process.stdout.read().split(b"\n")[:-1]])[-1]) or acknowledged
        with Spool(tmp_path, bounded(64 * _MIB, 4096)) as spool:
            assert spool.end >= acknowledged
            found = everything(spool)
            assert list(found) == list(range(spool.end))
            assert all(record.startswith(b"%d:" % position) for position, record in found.items())
            assert spool.gaps == ()
