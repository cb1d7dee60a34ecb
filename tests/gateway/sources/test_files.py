"""Source `files` on a real folder, its reader a real process: whose rows are taken, once, and what is put aside."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import io
import json
import os
import pickle
import tarfile
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backbone.errors import ConfigurationError
from gateway import reasons
from gateway.drop_folder import DropFolder, Found, Snapshot
from gateway.file_rows import Bounds, Unreadable, checked
from gateway.ports import Fate, GatewaySource, Intake, Message, Settled
from gateway.sources import files
from gateway.sources.files import SPEC, FilesSource
from tests.gateway.durable_intake import durable_intake, records
from tests.gateway.held_intake import HeldIntake, Settle, context, serving, told, until

TS = "2026-01-02T12:00:00Z"
CSV = f"equipment_id,ts,flow,note\nP-1,{TS},1.5,fine\nP-2,1767355200000,,\n"
VALUES = [{"flow": 1.5, "note": "fine"}, {"flow": None, "note": None}]
NDJSON = (
    json.dumps({"equipment_id": "P-1", "ts": TS, "flow": 1.5, "note": "fine"})
    + "\n\n"
    + json.dumps({"equipment_id": "P-2", "ts": 1767355200000, "values": {"flow": None, "note": None}, "x": 1})
    + "\n"
)


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd", write_page_checksum=True)
    return out.getvalue()


def two_rows() -> bytes:
    return parquet(
        equipment_id=["P-1", "P-2"],
        ts=pa.array([1767355200123456789, 1767355200000000000], pa.timestamp("ns", "UTC")),
        flow=[1.5, float("nan")],
        note=["fine", None],
    )


def drop(folder: Path, name: str | bytes, content: bytes | str = CSV) -> Path:
    """Move a file into the folder that was finished a while ago."""
    folder.mkdir(exist_ok=True)
    path = folder / os.fsdecode(name)
    before = folder.parent / "before"
    before.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(before, (time.time() - 7200,) * 2)
    before.rename(path)
    return path


@contextlib.asynccontextmanager
async def watching(base: Path, intake: Intake, **settings: object) -> AsyncIterator[FilesSource]:
    """The folder `in` is watched."""
    given = context(base / "own", {"folder": str(base / "in"), "look_s": 0.01, "settle_s": 60, **settings})
    async with serving(SPEC, intake, given) as source:  # type: ignore[arg-type]
        assert isinstance(source, FilesSource)
        yield source


def keeping() -> HeldIntake:
    intake = HeldIntake()
    intake.answer = told
    return intake


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left(base: Path) -> list[str]:
    return [name for name in names(base / "in") if name not in ("done", "quarantine")]


async def empty(base: Path, source: GatewaySource) -> None:
    await until(lambda: not left(base), lambda: f"{left(base)} stayed: {source.health()}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.CSV", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()),
        ("a.ndjson", NDJSON),
        ("Ä 2026-01-02T12:00:00.csv.gz", gzip.compress(CSV.encode())),
        ("a.jsonl.gz", gzip.compress(NDJSON.encode()[:50]) + gzip.compress(NDJSON.encode()[50:])),
        ("a.parquet", two_rows()),
    ],
    ids=["csv", "csv of a spreadsheet", "ndjson", "csv.gz", "jsonl.gz", "parquet"],
)
def test_every_row_becomes_a_reading_and_the_file_is_done(tmp_path: Path, name: str, content: bytes | str) -> None:
    async def scenario() -> None:
        intake = keeping()
        path = drop(tmp_path / "in", name, content)
        digest = sha256(path.read_bytes()).hexdigest()
        async with watching(tmp_path, intake) as source:
            await empty(tmp_path, source)
            assert source.health()["rows"] == 2
        assert [(m.source, m.equipment) for m in intake.offered] == [("file:files", "P-1"), ("file:files", "P-2")]
        read = [json.loads(m.payload) for m in intake.offered]
        assert [(r["session"], r["seq"]) for r in read] == [(digest, 1), (digest, 2)]
        assert [r["values"] for r in read] == VALUES
        assert names(tmp_path / "in" / "done") == [f"{digest[:32]}-{name}"]
        assert [each for each in names(tmp_path / "own") if each != "done"] == []

    asyncio.run(scenario())


def test_a_file_lies_there_until_all_its_rows_are_settled(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        drop(tmp_path / "in", "a.csv")
        async with watching(tmp_path, intake) as source:
            await intake.has(2)
            intake.settle(lambda seq: seq == 1)
            assert left(tmp_path) == ["a.csv"]
            intake.settle(lambda _: True, Fate.DEAD_LETTER)
            await empty(tmp_path, source)

    asyncio.run(scenario())


def test_rows_that_are_refused_are_offered_again_in_order(tmp_path: Path) -> None:
    asked = 0

    def answer(message: Message) -> Settled:
        nonlocal asked
        asked += 1
        return told(message, Fate.REFUSED, reasons.SPOOL_FULL, 0.01) if asked % 3 == 0 else told(message)

    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = answer
        rows = "".join(f"P-1,{TS},{n}\n" for n in range(8))
        drop(tmp_path / "in", "a.csv", f"equipment_id,ts,flow\n{rows}")
        async with watching(tmp_path, intake) as source:
            await empty(tmp_path, source)
        assert intake.seqs == [1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8]

    asyncio.run(scenario())


class BreaksOff:
    """An intake that keeps some, and then says nothing any more."""

    def __init__(self, inner: Intake, after: int) -> None:
        self._inner, self.left = inner, after
        self.settled = 0

    def offer(self, message: Message, settled: Settle) -> None:
        def counted(told: Settled) -> None:
            self.settled += 1
            settled(told)

        if self.left > 0:
            self.left -= 1
            self._inner.offer(message, counted)

    def dead_letter(self, *letter: object) -> None:
        raise AssertionError(letter)

    def refused(self, *refusal: object) -> None:
        raise AssertionError(refusal)


@pytest.mark.parametrize("after", [600, 1600])
def test_a_crash_in_the_middle_of_a_long_file_takes_no_row_twice_nor_leaves_one_out(tmp_path: Path, after: int) -> None:
    rows = "".join(f"P-{n % 3},{TS},{n % 90}\n" for n in range(2000))

    async def scenario() -> None:
        drop(tmp_path / "in", "a.csv", f"equipment_id,ts,flow\n{rows}")
        async with durable_intake(tmp_path / "spool") as intake:
            breaking = BreaksOff(intake, after)
            async with watching(tmp_path, breaking):
                await until(lambda: breaking.settled == after)
        async with durable_intake(tmp_path / "spool") as intake, watching(tmp_path, intake) as source:
            drop(tmp_path / "in", "b.csv", f"equipment_id,ts,flow\n{rows}")
            await empty(tmp_path, source)
        kept = list(records(tmp_path / "spool"))
        assert [json.loads(record.raw)["seq"] for record in kept] == list(range(1, 2001))
        assert {record.reason for record in kept} == {None}

    asyncio.run(scenario())


def test_how_far_a_file_is_settled_is_noted_until_the_disk_has_it_among_those_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    synced = os.fsync

    def fsync(handle: int) -> None:
        where = Path(f"/proc/self/fd/{handle}").resolve()
        if where == tmp_path / "in" / "done":
            seen.append([note.name for note in (tmp_path / "own").glob("*.settled")])
        synced(handle)

    monkeypatch.setattr("gateway.drop_folder.os.fsync", fsync)

    async def scenario() -> None:
        rows = "".join(f"P-1,{TS},{n % 90}\n" for n in range(1100))
        drop(tmp_path / "in", "a.csv", f"equipment_id,ts,flow\n{rows}")
        async with watching(tmp_path, keeping()) as source:
            await until(lambda: source.health()["files"] == 1 and not list((tmp_path / "own").glob("*.settled")))
        assert [len(notes) for notes in seen] == [1]

    asyncio.run(scenario())


def test_content_that_was_done_has_no_effect_under_another_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        drop(tmp_path / "in", "a.csv")
        async with watching(tmp_path, intake) as source:
            await empty(tmp_path, source)
            drop(tmp_path / "in", "b.csv")
            await empty(tmp_path, source)
            assert source.health()["known_again"] == 1
        assert len(intake.offered) == 2
        assert len(names(tmp_path / "in" / "done")) == 2

    asyncio.run(scenario())


def test_lines_that_are_no_rows_are_dead_letters_and_the_others_count(tmp_path: Path) -> None:
    lines = [
        b"equipment_id,ts,flow",
        f"P-1,{TS},007".encode(),
        f"P-1,{TS},1e999".encode(),
        f"P-1,{TS},+1e999".encode(),
        f'P-1,{TS},"1,5"'.encode(),
        f"P-1,{TS},NaN".encode(),
        f"P-1,{TS},1,5".encode(),
        f'P-1,{TS},"1'.encode(),
        b"P-1,\xff\xfe,1",
        b",,",
        f"X-9,{TS},1".encode(),
    ]

    async def scenario() -> None:
        drop(tmp_path / "in", "a.csv", b"\n".join(lines))
        async with durable_intake(tmp_path / "spool") as intake, watching(tmp_path, intake) as source:
            await empty(tmp_path, source)
        kept = list(records(tmp_path / "spool"))
        assert [record.reason for record in kept] == [
            None,
            "not_finite",
            "not_finite",
            "wrong_type:flow",
            "wrong_type:flow",
            "not_a_reading",
            "not_a_reading",
            "invalid_utf8",
            "not_a_reading",
            "unregistered_equipment",
        ]
        assert [record.raw for record in kept if record.reason == "not_a_reading"][:2] == lines[6:8]

    asyncio.run(scenario())


def test_lines_of_json_are_held_to_what_readings_are_held_to(tmp_path: Path) -> None:
    line = json.dumps({"equipment_id": "P-1", "ts": TS, "flow": 1})
    bad = {
        '{"equipment_id": "P-1", "ts": 1, "flow": 1, "flow": 2}': "duplicate_key",
        line.replace("1}", "NaN}"): "not_finite",
        line.replace("1}", "1e999}"): "not_finite",
        line.replace("1}", "9" * 5000 + "}"): "too_long_number",
        line.replace("1}", "[" * 20 + "]" * 20 + "}"): "too_deep",
        line[:-1]: "invalid_json",
        "[]": "not_a_reading",
        "null": "not_a_reading",
        '{"ts": 1}': "not_a_reading",
    }

    async def scenario() -> None:
        intake = keeping()
        drop(tmp_path / "in", "a.ndjson", "\n".join([line, *bad]))
        async with watching(tmp_path, intake) as source:
            await empty(tmp_path, source)
        assert intake.seqs == [1]
        assert [(raw.decode(), reason) for _, _, raw, reason in intake.letters] == list(bad.items())

    asyncio.run(scenario())


def test_a_file_that_somebody_writes_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        path = drop(tmp_path / "in", "a.csv", CSV[:40])
        with path.open("a") as writer:
            os.utime(path, (time.time() - 7200,) * 2)
            async with watching(tmp_path, intake) as source:
                drop(tmp_path / "in", "b.csv", CSV.replace("P-", "P-1"))
                await until(lambda: left(tmp_path) == ["a.csv"])
                assert {m.equipment for m in intake.offered} == {"P-11", "P-12"}
                writer.write(CSV[40:])
                writer.close()
                os.utime(path, (time.time() - 7200,) * 2)
                await empty(tmp_path, source)
        assert len(intake.offered) == 4
        assert intake.refusals == []

    asyncio.run(scenario())


def test_a_file_that_changed_just_now_or_has_an_unfinished_name_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        folder = tmp_path / "in"
        os.utime(drop(folder, "new.csv"), None)
        for name in (".hidden.csv", "a.csv.part", "b.tmp"):
            drop(folder, name)
        async with watching(tmp_path, intake) as source:
            drop(folder, "c.csv", CSV.replace("P-", "P-1"))
            await until(lambda: "c.csv" not in left(tmp_path))
            assert left(tmp_path) == [".hidden.csv", "a.csv.part", "b.tmp", "new.csv"]
            (folder / "a.csv.part").rename(folder / "a.csv")
            await until(lambda: source.health()["files"] == 2)
        assert len(intake.offered) == 4

    asyncio.run(scenario())


def test_a_file_dated_ahead_of_the_clock_is_taken_when_it_has_been_still(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        os.utime(drop(tmp_path / "in", "a.csv"), (time.time() + 7200,) * 2)
        async with watching(tmp_path, intake, settle_s=0.05) as source:
            await empty(tmp_path, source)
        assert len(intake.offered) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["growing", "open", "unfinished"])
def test_a_file_that_never_becomes_whole_is_put_aside(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        path = drop(tmp_path / "in", "a.part" if how == "unfinished" else "a.csv")
        with path.open("a") as writer:

            async def grow() -> None:
                while how == "growing":
                    writer.write("\n")
                    writer.flush()
                    await asyncio.sleep(0.01)

            os.utime(path, (time.time() - 7200,) * 2)
            growing = asyncio.create_task(grow())
            assert (await put_aside(tmp_path, settle_s=0.2, give_up_s=0.3))["reason"] == reasons.STILL_WRITTEN
            growing.cancel()

    asyncio.run(scenario())


async def put_aside(base: Path, **settings: object) -> dict[str, Any]:
    """The note beside the only file, which was put aside and counted, and of which no row was offered."""
    intake = keeping()
    async with watching(base, intake, **settings) as source:
        await until(lambda: source.health()["put_aside"] == 1, lambda: f"{left(base)} stayed: {source.health()}")
        assert left(base) == []
    aside = base / "in" / "quarantine"
    (named,) = [path for path in aside.iterdir() if path.suffix == ".json"]
    assert named.with_suffix("").is_symlink() or named.with_suffix("").exists()
    assert len(names(aside)) == 2
    assert names(base / "in" / "done") == []
    note: dict[str, Any] = json.loads(named.read_text())
    assert note["detail"]
    assert note["source"] == "file:files"
    if note["reason"] != reasons.STILL_WRITTEN:  # of which it is what it held at some time
        assert note["sha256"] == _digest_of(named.with_suffix(""))
    assert [refusal[:2] for refusal in intake.refusals] == [("file:files", note["reason"])]
    assert (intake.offered, intake.letters) == ([], [])
    return note


def _digest_of(path: Path) -> str | None:
    if path.is_symlink():
        return sha256(os.fsencode(path.readlink())).hexdigest()
    return sha256(path.read_bytes()[: 2 << 20]).hexdigest() if path.is_file() else None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    secret = drop(tmp_path / "elsewhere", "secret.csv")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").symlink_to(secret)
    note = asyncio.run(put_aside(tmp_path))
    assert note["reason"] == reasons.SYMBOLIC_LINK
    assert secret.exists()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_what_is_no_file_is_put_aside(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "a.csv")
    assert asyncio.run(put_aside(tmp_path, settle_s=0.05))["reason"] == reasons.UNREADABLE_FILE


@pytest.mark.parametrize(
    "name", ["..\\..\\a.csv", "C:\\a.csv", "a\n.csv", "a\x1b[2J.csv", "a" * 200 + ".csv", b"\xff.csv", "\u202evsc.a"]
)
def test_an_odd_or_overlong_name_is_put_aside(tmp_path: Path, name: str | bytes) -> None:
    drop(tmp_path / "in", name)
    note = asyncio.run(put_aside(tmp_path))
    assert note["reason"] == reasons.BAD_NAME
    assert note["file"].isprintable()


def zipped(*members: str, link: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for member in members:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = member
            info.external_attr = (0o120777 if link else 0o100644) << 16
            packed.writestr(info, CSV)
    return out.getvalue()


def tarred(member: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        info = tarfile.TarInfo(member)
        info.type, info.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
        packed.addfile(info)
    return out.getvalue()


def bomb() -> bytes:
    header = b"equipment_id,ts,flow\n"
    return gzip.compress(header + f"P-1,{TS},1{' ' * 10_000}\n".encode() * 5_000)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def many_rows_in_little() -> bytes:
    rows = 300_000
    return parquet(equipment_id=pa.array(["P-1"] * rows).dictionary_encode(), ts=pa.nulls(rows), flow=pa.nulls(rows))


def wide() -> bytes:
    """Few rows, and few columns, but more values than there may be."""
    rows = 9000
    many = {f"c{n}": pa.nulls(rows, pa.float64()) for n in range(90)}
    return parquet(equipment_id=pa.array(["P-1"] * rows).dictionary_encode(), ts=pa.nulls(rows), **many)


def a_lying_footer() -> bytes:
    """2,000 rows, and a footer that says there is one."""
    content = parquet(equipment_id=["P-1"] * 2000, ts=[TS] * 2000, flow=[1.0] * 2000)
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8]
    true, false = b"\x16\xa0\x1f", b"\x16\x82\x00"  # 64-bit fields: 2000 and 1
    assert true in footer
    return content[: -8 - length] + footer.replace(true, false, 1) + content[-8:]


def a_column_that_inflates() -> bytes:
    """1 GiB of text in a few KiB, of which the footer knows nothing: a dictionary holds it once."""
    note = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), ["x" * (1 << 20)])
    return parquet(equipment_id=["P-1"] * 1000, ts=[TS] * 1000, note=note)


PICKLED = pickle.dumps({"equipment_id": ["P-1"]})


@pytest.mark.parametrize(
    ("reason", "name", "content"),
    [
        pytest.param(reasons.UNREADABLE_FILE, "a.csv", b"", id="empty"),
        pytest.param(reasons.TOO_LARGE, "a.csv", CSV * 30_000, id="too large"),
        pytest.param(reasons.COMPRESSION_BOMB, "a.csv.gz", bomb(), id="gzip bomb"),
        pytest.param(reasons.BAD_NAME, "a.zip", zipped("a.csv", "../../etc/cron.d/x"), id="zip with ../"),
        pytest.param(reasons.EXECUTABLE_FORMAT, "a.csv", PICKLED, id="pickle by another name"),
        pytest.param(reasons.UNREADABLE_FILE, "a.parquet", two_rows()[:-100], id="torn Parquet"),
        pytest.param(reasons.UNREADABLE_FILE, "a.parquet", two_rows()[:100] + two_rows()[110:], id="gap in Parquet"),
        pytest.param(reasons.UNREADABLE_FILE, "a.parquet", b"PAR1\xff\xff\xff\x7fPAR1", id="footer of 2 GB"),
        pytest.param(reasons.TOO_MANY_ROWS, "a.parquet", many_rows_in_little(), id="Parquet bomb of rows"),
        pytest.param(reasons.UNREADABLE_FILE, "a.parquet", a_lying_footer(), id="lying footer"),
        pytest.param(reasons.COMPRESSION_BOMB, "a.parquet", a_column_that_inflates(), id="Parquet bomb of memory"),
    ],
)
def test_a_file_that_is_not_to_be_read_is_put_aside(tmp_path: Path, reason: str, name: str, content: bytes) -> None:
    drop(tmp_path / "in", name, content)
    small = {"max_mib": 2, "max_inflated_mib": 4, "max_rows": 10_000, "memory_mib": 256}
    assert asyncio.run(put_aside(tmp_path, **small))["reason"] == reason


@pytest.mark.parametrize(
    ("reason", "name", "content"),
    [
        pytest.param(reasons.UNREADABLE_FILE, "a.csv", b"equipment_id,ts,flow\n", id="no rows"),
        pytest.param(reasons.UNREADABLE_FILE, "a.csv", CSV.replace(",", ";"), id="semicolons"),
        pytest.param(reasons.UNREADABLE_FILE, "a.csv", CSV.replace("flow", "note"), id="a column twice"),
        pytest.param(reasons.UNREADABLE_FILE, "a.csv", os.urandom(4096).replace(b"\x80", b"\x81"), id="noise"),
        pytest.param(reasons.UNREADABLE_FILE, "a.ndjson", "nothing\n" * 5, id="no line of JSON"),
        pytest.param(reasons.UNREADABLE_FILE, "a.csv", CSV + "P-1\n" * 1001, id="too many bad lines"),
        pytest.param(reasons.UNREADABLE_FILE, "a.xlsx", CSV, id="another format"),
        pytest.param(reasons.TOO_LARGE, "a.csv", CSV + "x" * 300_000, id="an endless line"),
        pytest.param(reasons.TOO_MANY_ROWS, "a.csv", CSV + f"P-1,{TS},1,\n" * 10_000, id="too many rows"),
        pytest.param(reasons.TOO_MANY_ROWS, "a.parquet", wide(), id="Parquet bomb of columns"),
        pytest.param(reasons.UNREADABLE_FILE, "a.csv.gz", gzip.compress(CSV.encode())[:-6], id="torn gzip"),
        pytest.param(reasons.UNREADABLE_FILE, "a.csv.gz", flipped(gzip.compress(CSV.encode()), 60), id="flipped gzip"),
        pytest.param(reasons.UNREADABLE_FILE, "a.csv.gz", CSV, id="no gzip"),
        pytest.param(reasons.NESTED_ARCHIVE, "a.csv.gz", gzip.compress(gzip.compress(CSV.encode())), id="gzip in gzip"),
        pytest.param(reasons.NESTED_ARCHIVE, "a.tar.gz", gzip.compress(tarred("a.csv")), id="tar.gz"),
        pytest.param(reasons.NESTED_ARCHIVE, "a.csv", gzip.compress(zipped("a.csv")), id="zip in gzip"),
        pytest.param(reasons.NESTED_ARCHIVE, "a.zip", zipped("a.csv", "b.zip"), id="zip in zip"),
        pytest.param(reasons.UNREADABLE_FILE, "a.zip", zipped("a.csv"), id="zip"),
        pytest.param(reasons.UNREADABLE_FILE, "a.csv", tarred("a.csv"), id="tar by another name"),
        pytest.param(reasons.BAD_NAME, "a.zip", zipped("/etc/passwd"), id="zip with an absolute name"),
        pytest.param(reasons.BAD_NAME, "a.zip", zipped("C:\\x.csv"), id="zip with a drive"),
        pytest.param(reasons.BAD_NAME, "a.zip", zipped("a\0.csv"), id="zip with NUL"),
        pytest.param(reasons.BAD_NAME, "a.zip", zipped("a" * 300), id="zip with an overlong name"),
        pytest.param(reasons.BAD_NAME, "a.tar", tarred("../x"), id="tar with ../"),
        pytest.param(reasons.SYMBOLIC_LINK, "a.tar", tarred("x", tarfile.SYMTYPE), id="tar with a link"),
        pytest.param(reasons.SYMBOLIC_LINK, "a.zip", zipped("x", link=True), id="zip with a link"),
        pytest.param(reasons.EXECUTABLE_FORMAT, "a.pkl", pickle.dumps([1], protocol=0), id="pickle"),
        pytest.param(reasons.EXECUTABLE_FORMAT, "a.csv.gz", gzip.compress(PICKLED), id="pickle in gzip"),
        pytest.param(reasons.EXECUTABLE_FORMAT, "a.csv", b"#!/bin/sh\n", id="script"),
        pytest.param(reasons.UNREADABLE_FILE, "a.parquet", flipped(two_rows(), 90), id="flipped Parquet"),
        pytest.param(reasons.UNREADABLE_FILE, "a.parquet", parquet(equipment_id=["P-1"], ts=[[1]]), id="nested column"),
    ],
)
def test_a_file_that_is_not_to_be_read_is_told_why(reason: str, name: str, content: bytes | str) -> None:
    bounds = Bounds("s", inflated=4 << 20, rows=10_000, columns=100, cells=5 * 10**5, memory=0, cpu_s=0)
    with pytest.raises(Unreadable) as refused:
        checked(name, io.BytesIO(content.encode() if isinstance(content, str) else content), bounds)
    assert (refused.value.reason, bool(refused.value.detail)) == (reason, True)


def test_what_takes_too_long_to_read_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_START_S", 0.0)
    drop(tmp_path / "in", "a.csv")
    assert "0.01 s" in asyncio.run(put_aside(tmp_path, read_s=0.01))["detail"]


def test_a_file_exchanged_while_it_is_read_is_another_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        drop(tmp_path / "in", "a.csv")
        async with watching(tmp_path, intake) as source:
            await intake.has(2)
            drop(tmp_path / "in", "a.csv", CSV.replace("P-", "P-1"))
            intake.answer = told
            intake.settle(lambda _: True)
            await empty(tmp_path, source)
        assert [m.equipment for m in intake.offered] == ["P-1", "P-2", "P-11", "P-12"]
        assert len(names(tmp_path / "in" / "done")) == 1

    asyncio.run(scenario())


def test_a_file_that_cannot_be_copied_just_now_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    copied = DropFolder.snapshot

    def snapshot(self: DropFolder, found: Found) -> Snapshot | None:
        if full and found.name == "a.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        return copied(self, found)

    monkeypatch.setattr(DropFolder, "snapshot", snapshot)

    async def scenario() -> None:
        nonlocal full
        intake = keeping()
        drop(tmp_path / "in", "a.csv")
        drop(tmp_path / "in", "b.csv", CSV.replace("P-", "P-1"))
        async with watching(tmp_path, intake) as source:
            await until(lambda: left(tmp_path) == ["a.csv"])
            await until(lambda: "No space left" in str(source.health()["trouble"]))
            full = False
            await empty(tmp_path, source)
            await until(lambda: source.health()["trouble"] is None)

    asyncio.run(scenario())


def test_done_files_go_after_a_while(tmp_path: Path) -> None:
    async def scenario() -> None:
        done = tmp_path / "in" / "done"
        done.mkdir(parents=True)
        (done / "old").write_text("old")
        await asyncio.sleep(0.02)
        async with watching(tmp_path, keeping(), keep_days=0.01 / 86_400):
            await until(lambda: names(done) == [])

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_used_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "in").write_text("a file in its place")
        intake = keeping()
        given = context(tmp_path / "own", {"folder": str(tmp_path / "in"), "look_s": 0.01})
        source = SPEC.open(given)
        ready = asyncio.Event()
        task = asyncio.create_task(source.serve(intake, ready))  # type: ignore[arg-type]
        await until(lambda: source.health()["trouble"] is not None)
        assert not source.health()["connected"]
        (tmp_path / "in").unlink()
        await until(ready.is_set)
        drop(tmp_path / "in", "a.csv")
        await empty(tmp_path, source)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(intake.offered) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({}, "folder"), ({"folder": "in", "setle_s": 1}, "settle_s"), ({"folder": "in", "give_up_s": 1}, "give_up_s")],
)
def test_settings_that_can_never_work_are_refused_at_once(tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        SPEC.open(context(tmp_path, wrong))
