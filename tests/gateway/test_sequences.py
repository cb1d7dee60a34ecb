"""Ids that were kept: none is taken twice, whatever comes in whatever order, before and after a restart."""

import errno
import hashlib
import struct
import tracemalloc
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.errors import IntegrityError
from gateway.disk_faults import FaultyDisk, PowerCut
from gateway.sequences import FORGOTTEN, IDS, SESSIONS, Sequences, Verdict, read_snapshot, snapshot_of, write_snapshot
from tests.gateway.hasty_disk import HastyDisk

SPOOL = "0123456789abcdef"


def digest(content: object) -> bytes:
    return hashlib.blake2b(repr(content).encode(), digest_size=8).digest()


A, B = digest("a"), digest("b")


def keep(ids: Sequences, seq: int, session: str = "s", source: str = "P-1", content: bytes = A) -> None:
    ids.add(source, session, seq, content)
    ids.confirm(source, session, seq)


def test_an_id_is_new_then_a_duplicate_or_a_conflict() -> None:
    ids = Sequences()
    assert ids.check("P-1", "s", 7, A) is Verdict.NEW
    ids.add("P-1", "s", 7, A)
    for _ in ("pending", "kept"):
        assert ids.check("P-1", "s", 7, A) is Verdict.DUPLICATE
        assert ids.check("P-1", "s", 7, B) is Verdict.CONFLICT
        assert ids.is_pending("P-1", "s", 7) == (len(ids) == 0)
        if ids.is_pending("P-1", "s", 7):
            ids.confirm("P-1", "s", 7)
    assert ids.check("P-1", "s", 8, A) is Verdict.NEW
    assert ids.check("P-1", "t", 7, A) is Verdict.NEW
    assert ids.check("P-2", "s", 7, A) is Verdict.NEW


def test_an_id_that_the_disk_did_not_take_is_new_again() -> None:
    ids = Sequences()
    ids.add("P-1", "s", 7, A)
    ids.forget("P-1", "s", 7)
    assert ids.check("P-1", "s", 7, B) is Verdict.NEW
    assert ids.kept_up_to("P-1", "s") is None
    assert not ids.is_pending("P-1", "s", 7)


def test_older_than_the_newest_ids_it_is_too_old() -> None:
    ids = Sequences()
    for seq in range(5000):
        keep(ids, seq)
    remembered = [seq for seq in range(5000) if ids.check("P-1", "s", seq, A) is not Verdict.TOO_OLD]
    assert remembered == list(range(remembered[0], 5000))
    assert IDS <= len(remembered) == len(ids) < IDS + IDS // 8
    assert {ids.check("P-1", "s", seq, A) for seq in remembered} == {Verdict.DUPLICATE}
    keep(ids, 3)  # too late to be told from what was
    assert ids.check("P-1", "s", 3, A) is Verdict.TOO_OLD


def test_numbers_far_apart_are_remembered_as_well() -> None:
    ids = Sequences()
    numbers = [1_700_000_000_000_000 + n * 998_877 for n in range(900)]
    for seq in numbers:
        keep(ids, seq)
    assert {ids.check("P-1", "s", seq, A) for seq in numbers} == {Verdict.DUPLICATE}
    assert {ids.check("P-1", "s", seq + 1, A) for seq in numbers} == {Verdict.NEW}


def test_kept_up_to_is_the_end_of_what_is_kept_without_a_gap() -> None:
    ids, before = Sequences(), None
    for seq, up_to in ((5, 5), (6, 6), (9, 6), (8, 6), (3, 6), (7, 9), (10, 10), (12, 10), (2, 10), (11, 12)):
        ids.add("P-1", "s", seq, A)
        assert ids.kept_up_to("P-1", "s") == before, "what is pending is not kept"
        ids.confirm("P-1", "s", seq)
        assert ids.kept_up_to("P-1", "s") == up_to
        before = up_to


@given(
    st.lists(
        st.tuples(
            st.sampled_from("st"), st.integers(0, 30), st.integers(0, 1), st.sampled_from(["keep", "fail", "wait"])
        ),
        max_size=80,
    ),
    st.integers(0, 79),
)
def test_against_the_whole_history(events: list[tuple[str, int, int, str]], restart: int) -> None:
    """Few enough ids that none is forgotten: a plain dictionary knows the answers."""
    ids, kept, pending = Sequences(), {}, {}
    first: dict[str, int] = {}
    for number, (session, seq, content, fate) in enumerate(events):
        if number == restart:
            ids, spool, position = Sequences.from_bytes(snapshot_of(ids.to_parts(SPOOL, number)))
            assert (spool, position) == (SPOOL, number)
            pending.clear()
        key = (session, seq)
        known = kept.get(key, pending.get(key))
        verdict = ids.check("P-1", session, seq, digest(content))
        if known is not None:
            assert verdict is (Verdict.DUPLICATE if known == content else Verdict.CONFLICT)
            if key in pending and fate == "keep":
                ids.confirm("P-1", session, seq)
                kept[key] = pending.pop(key)
                first.setdefault(session, seq)
        else:
            assert verdict is Verdict.NEW
            ids.add("P-1", session, seq, digest(content))
            if fate == "keep":
                ids.confirm("P-1", session, seq)
                kept[key] = content
                first.setdefault(session, seq)
            elif fate == "fail":
                ids.forget("P-1", session, seq)
            else:
                pending[key] = content
        for of in "st":
            up_to = first.get(of)
            while up_to is not None and (of, up_to + 1) in kept:
                up_to += 1
            assert ids.kept_up_to("P-1", of) == up_to
    assert len(ids) == len(kept)


_RANDOM = st.lists(st.integers(0, 200), max_size=400)
_COUNTED = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 90)), max_size=8).map(
    lambda runs: [seq for first, count in runs for seq in range(first, first + count)]
)


@given(st.one_of(_RANDOM, _COUNTED), st.sampled_from([8, 64]), st.integers(0, 400))
def test_with_little_memory_nothing_is_taken_twice(numbers: list[int], most: int, restart: int) -> None:
    ids, taken = Sequences(ids=most), set()
    for place, seq in enumerate(numbers):
        if place == restart:
            ids, _, _ = Sequences.from_bytes(snapshot_of(ids.to_parts(SPOOL, 1)), ids=most)
        verdict = ids.check("P-1", "s", seq, A)
        if seq in taken:
            assert verdict in (Verdict.DUPLICATE, Verdict.TOO_OLD)
        elif verdict is Verdict.NEW:
            keep(ids, seq)
            taken.add(seq)
        else:
            assert verdict is Verdict.TOO_OLD
            assert sum(t > seq for t in taken) >= most, "no more is too old than must be"


def test_sessions_that_are_forgotten_are_known_to_be_old() -> None:
    ids = Sequences()
    sessions = [f"boot-{n}" for n in range(SESSIONS + FORGOTTEN)]
    for session in sessions:
        for seq in range(300):
            keep(ids, seq, session)
    for session in sessions[:FORGOTTEN]:
        assert ids.check("P-1", session, 299, A) is Verdict.TOO_OLD
        assert ids.check("P-1", session, 300, A) is Verdict.NEW, "what it had not sent yet"
    for session in sessions[FORGOTTEN:-1]:
        assert ids.check("P-1", session, 299 - 100, A) is Verdict.DUPLICATE
        assert ids.check("P-1", session, 0, A) is Verdict.TOO_OLD
    again, _, _ = Sequences.from_bytes(snapshot_of(ids.to_parts(SPOOL, 1)))
    for of in (ids, again):
        keep(of, 300, sessions[0])
        assert of.check("P-1", sessions[0], 300, A) is Verdict.DUPLICATE
        assert of.check("P-1", sessions[0], 299, A) is Verdict.TOO_OLD


def test_a_session_with_ids_on_their_way_to_the_disk_is_not_forgotten() -> None:
    ids = Sequences()
    for number in range(20):
        ids.add("P-1", f"boot-{number}", 1, A)
    for number in range(20):
        assert ids.check("P-1", f"boot-{number}", 1, A) is Verdict.DUPLICATE
        ids.confirm("P-1", f"boot-{number}", 1)


def test_several_sessions_at_once_do_not_push_each_other_out() -> None:
    ids = Sequences()
    for seq in range(400):
        for session in "abcd":
            keep(ids, seq, session)
            assert ids.check("P-1", session, max(seq - 100, 0), A) is Verdict.DUPLICATE
    assert {ids.kept_up_to("P-1", session) for session in "abcd"} == {399}


def test_what_is_read_from_the_spool_again_changes_nothing_that_is_known() -> None:
    ids = Sequences()
    for seq in range(3000):
        keep(ids, seq)
    before = snapshot_of(ids.to_parts(SPOOL, 3000))
    for seq in range(3000):
        ids.kept("P-1", "s", seq, A)
        ids.kept("P-1", "s", seq, B)
    assert snapshot_of(ids.to_parts(SPOOL, 3000)) == before
    ids.kept("P-1", "s", 3000, A)
    assert (ids.kept_up_to("P-1", "s"), ids.check("P-1", "s", 3000, B)) == (3000, Verdict.CONFLICT)


@pytest.mark.parametrize(("apart", "each"), [(1, 11_000), (2, 20_000)], ids=["counted", "with gaps"])
def test_a_thousand_sources_take_ten_megabytes_and_twenty_where_numbers_have_gaps(apart: int, each: int) -> None:
    tracemalloc.start()
    try:
        ids = Sequences()
        for number in range(10):
            keep(ids, -10 * IDS, source=f"P-{number}")
            for seq in range(0, IDS * 2 * apart, apart):
                keep(ids, seq, source=f"P-{number}")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ids) >= 10 * IDS
    assert taken < 10 * each


def test_while_a_snapshot_is_written_more_is_kept() -> None:
    ids, parts = Sequences(), []
    names = [f"P-{n}" for n in range(200)]
    for name in names:
        keep(ids, 1, source=name)
    for number, part in enumerate(ids.to_parts(SPOOL, 200)):
        parts.append(part)
        for name in names:
            keep(ids, 2 + number, source=name)
        keep(ids, 1, source=f"Q-{number}")
    assert len(parts) > 2
    assert max(map(len, parts)) < sum(map(len, parts)) / 2
    again, _, position = Sequences.from_bytes(snapshot_of(parts))
    assert position == 200
    for name in names:
        assert again.check(name, "s", 1, A) is Verdict.DUPLICATE
        highest = again.kept_up_to(name, "s")
        assert highest is not None
        assert again.check(name, "s", highest, B) is Verdict.CONFLICT
        assert again.check(name, "s", highest + 1, A) is Verdict.NEW


def test_a_snapshot_of_the_version_before_is_read() -> None:
    sessions = {"s": ([3, 4, 5, 6], 2, 3, 6), "t": ([7, 9], -(1 << 63), 7, 7)}
    data = struct.pack("<8sQ16sI", b"hyseqs\x00\x01", 4, SPOOL.encode(), 1) + struct.pack("<HHH", 3, 2, 1) + b"P-1"
    for name, (numbers, floor, first, up_to) in sessions.items():
        data += struct.pack("<Hqqq?I", 1, floor, first, up_to, True, len(numbers)) + name.encode()
        data += struct.pack(f"<{len(numbers)}q", *numbers) + A * len(numbers)
    data += struct.pack("<Hq", 1, 12) + b"r"
    ids, spool, position = Sequences.from_bytes(data + crc32(data).to_bytes(4, "little"))
    assert (spool, position, len(ids)) == (SPOOL, 4, 6)
    assert [ids.check("P-1", "s", seq, A) for seq in (2, 3, 6, 7)] == [
        Verdict.TOO_OLD,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
        Verdict.NEW,
    ]
    assert [ids.check("P-1", "t", seq, B) for seq in (7, 8, 9, 10)] == [
        Verdict.CONFLICT,
        Verdict.NEW,
        Verdict.CONFLICT,
        Verdict.NEW,
    ]
    assert [ids.check("P-1", "r", seq, A) for seq in (12, 13)] == [Verdict.TOO_OLD, Verdict.NEW]
    assert [ids.kept_up_to("P-1", session) for session in "str"] == [6, 7, None]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "grown"])
def test_a_damaged_snapshot_is_not_believed(damage: str) -> None:
    ids = Sequences()
    keep(ids, 1)
    data = snapshot_of(ids.to_parts(SPOOL, 1))
    for at in range(len(data)):
        bad = {
            "flip": data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
            "cut": data[:at],
            "empty": b"",
            "grown": data + bytes(at + 1),
        }[damage]
        with pytest.raises(IntegrityError):
            Sequences.from_bytes(bad)


def test_the_newest_snapshot_is_read_and_the_one_before_where_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    none = read_snapshot(path)
    assert (len(none.sequences), none.spool, none.position, none.damaged) == (0, None, 0, ())
    ids = Sequences()
    for position in (1, 2, 3):
        keep(ids, position)
        write_snapshot(path, ids.to_parts(SPOOL, position))
    found = read_snapshot(path)
    assert (len(found.sequences), found.spool, found.position, found.damaged) == (3, SPOOL, 3, ())
    path.write_bytes(path.read_bytes()[:-1])
    found = read_snapshot(path)
    assert (len(found.sequences), found.spool, found.position, found.damaged) == (2, SPOOL, 2, ("ids",))


def test_whenever_the_power_is_cut_one_of_the_two_newest_snapshots_is_there(tmp_path: Path) -> None:
    for seed in range(10):
        for operations in range(12):
            folder, disk = tmp_path / f"{seed}-{operations}", FaultyDisk(seed, HastyDisk())
            disk.make_folder(folder)
            ids = Sequences()
            for position in (1, 2):
                keep(ids, position)
                write_snapshot(folder / "ids", ids.to_parts(SPOOL, position), disk)
            keep(ids, 3)
            disk.cut_after(operations)
            confirmed = False
            try:
                write_snapshot(folder / "ids", ids.to_parts(SPOOL, 3), disk)
                confirmed = True
            except PowerCut:
                disk.power_on()
            disk.power_cut()
            disk.power_on()
            found = read_snapshot(folder / "ids", disk)
            assert found.position in ((3,) if confirmed else (2, 3))
            assert (len(found.sequences), found.damaged) == (found.position, ())
            disk.dispose()


def test_a_snapshot_that_finds_no_room_leaves_the_one_before(tmp_path: Path) -> None:
    disk = FaultyDisk(1)
    ids = Sequences()
    write_snapshot(tmp_path / "ids", ids.to_parts(SPOOL, 1), disk)
    disk.fail("write", errno.ENOSPC, times=None)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            write_snapshot(tmp_path / "ids", ids.to_parts(SPOOL, 2), disk)
        assert read_snapshot(tmp_path / "ids", disk).position == 1
    disk.heal()
    write_snapshot(tmp_path / "ids", ids.to_parts(SPOOL, 3), disk)
    assert read_snapshot(tmp_path / "ids", disk).position == 3
    disk.dispose()
