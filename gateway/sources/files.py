"""Source `files`: CSV, JSON lines (either compressed with gzip, too) and Parquet that others drop into a folder.

    {folder}/readings.csv           columns `equipment_id` and `ts`; all others are values
    {folder}/done/…                 once all of its rows are settled; for `keep_days`
    {folder}/quarantine/…           what is not to be read, and beside it `….json`: reason, detail, digest

*Whole files only.* A file is taken up when it has not changed for `settle_s` and nobody on this machine has it open to
write to it. Whoever writes under another name (`.name`, `name.part`, `name.tmp`) and renames is never misunderstood.

*Once.* A row's id is the digest of the file's content and the row's number. A file lies in its place until all of its
rows are settled; taken up again after a crash it goes on from what was noted, and what had been settled since is known
for that. Content that was done before has no effect, under whatever name.

*Read elsewhere.* Files are read by a process of their own, with bounds to its memory and time (`gateway.file_rows`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field

from backbone.errors import ConfigurationError
from backbone.settings import settings_from
from backbone.sites import FolderName
from gateway import reasons
from gateway.disk import RealDisk, replace_file
from gateway.drop_folder import DropFolder, Found, Obstacle, Snapshot
from gateway.ports import Fate, GatewaySourceSpec, Intake, Message, Settled, SourceContext
from gateway.sequences import IDS

_log = logging.getLogger("hybrid.gateway.files")

_MIB = 1 << 20
ROWS_AT_ONCE = IDS // 2
"""Offered before it is noted how far a file is settled: what is offered again after a crash must still be known."""
_TURN = 64
"""Rows offered before others on the event loop have their turn."""
_LONGEST_LINE = 4 * _MIB
_PRUNE_S = 600.0
_AGAIN_S = 1.0
_START_S = 10.0
"""For a process to begin, beside what it may take to read."""
_TRIES = 3
"""Of a file whose reader dies: the machine may have been short of something."""


@dataclass(frozen=True, slots=True)
class FilesSettings:
    """The source's table in a site file.

    Attributes:
        folder: relative to the home folder; made if it is not there.
        name: of the source, in ids and counters.
        look_s: between two looks at the folder.
        settle_s: a file that has not changed for this long is whole.
        give_up_s: one that is still written after this is put aside.
        keep_days: how long files stay in `done/`, and their content is known again.
        max_mib: of a file as it lies.
        max_inflated_mib: of what is in it.
        max_rows, max_columns: of a file.
        max_values: rows × columns of a Parquet file.
        memory_mib, read_s: of the process that reads it; seconds of a processor, for reading it once.
    """

    folder: str
    name: FolderName = "files"
    look_s: Annotated[float, Field(gt=0)] = 1.0
    settle_s: Annotated[float, Field(ge=0, le=86_400)] = 2.0
    give_up_s: Annotated[float, Field(gt=0)] = 3600.0
    keep_days: Annotated[float, Field(gt=0)] = 30.0
    max_mib: Annotated[float, Field(gt=0)] = 256.0
    max_inflated_mib: Annotated[float, Field(gt=0)] = 1024.0
    max_rows: Annotated[int, Field(ge=1)] = 2_000_000
    max_columns: Annotated[int, Field(ge=2)] = 2000
    max_values: Annotated[int, Field(ge=1)] = 100_000_000
    memory_mib: Annotated[int, Field(ge=64)] = 512
    read_s: Annotated[float, Field(gt=0)] = 300.0


class ReaderDied(Exception):
    """The process that reads a file ended without a word, or took too long."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a file, or with a `reason` a line that is none."""

    equipment: str
    payload: bytes
    reason: str | None = None


class FilesSource:
    """One drop folder."""

    def __init__(self, context: SourceContext, settings: FilesSettings) -> None:
        self._settings, self._now_us = settings, context.now_us
        self._root, self._own = context.base / settings.folder, context.folder
        self.name = f"file:{settings.name}"
        self._intake: Intake | None = None
        self._counts = {"files": 0, "rows": 0, "put_aside": 0, "known_again": 0}
        self._reading: str | None = None
        self._trouble: str | None = None
        self._connected = False
        self._died: dict[str, int] = {}

    async def serve(self, intake: Intake, ready: asyncio.Event) -> None:
        """See `gateway.ports.GatewaySource.serve`. A folder that is not there, or not ours to list, is waited for."""
        self._intake = intake
        while True:
            try:
                await self._watch(ready)
            except OSError as error:
                self._connected = False
                if self._trouble != str(error):
                    _log.warning("no folder", extra={"told": {"folder": str(self._root), "why": str(error)}})
                self._trouble = str(error)
            await asyncio.sleep(self._settings.look_s)

    def health(self) -> Mapping[str, Any]:
        """See `gateway.ports.GatewaySource.health`."""
        return {
            "connected": self._connected,
            "folder": str(self._root),
            "reading": self._reading,
            "trouble": self._trouble,
            **self._counts,
        }

    async def _watch(self, ready: asyncio.Event) -> None:
        s = self._settings
        folder = DropFolder(
            self._root,
            self._own,
            settle_s=s.settle_s,
            give_up_s=s.give_up_s,
            max_bytes=int(s.max_mib * _MIB),
        )
        pruned = -inf  # the clock may have begun a minute ago, with the machine
        try:
            while True:
                due = await asyncio.to_thread(folder.look)
                self._connected = True
                ready.set()
                troubles = [why for found in due if (why := await self._try(folder, found)) is not None]
                self._trouble = troubles[0] if troubles else None
                if time.monotonic() - pruned > _PRUNE_S:
                    pruned = time.monotonic()
                    await asyncio.to_thread(self._prune, folder)
                await asyncio.sleep(s.look_s)
        finally:
            self._reading = None
            folder.close()

    def _prune(self, folder: DropFolder) -> None:
        keep_s = self._settings.keep_days * 86_400
        folder.prune(keep_s)
        for note in self._own.glob("*.settled"):
            if time.time() - note.stat().st_mtime > keep_s:
                note.unlink()

    async def _try(self, folder: DropFolder, found: Found) -> str | None:
        """Take a file up; why that failed for a reason that lies not in it, such as a full disk. It is tried again."""
        try:
            await self._take_up(folder, found)
        except OSError as error:
            why = f"{found.name!a}: {error.strerror or error}"
            if why != self._trouble:
                _log.warning("file not taken up", extra={"told": {"folder": str(self._root), "why": why}})
            return why
        return None

    async def _take_up(self, folder: DropFolder, found: Found) -> None:
        copy: Snapshot | None = None
        try:
            if found.obstacle is not None:
                raise found.obstacle
            copy = await asyncio.to_thread(folder.snapshot, found)
            if copy is None:
                return
            self._reading = found.name
            if await asyncio.to_thread(folder.was_done, copy.digest):
                self._counts["known_again"] += 1
            else:
                self._counts["rows"] += await self._read(found.name, copy)
                self._counts["files"] += 1
            await asyncio.to_thread(folder.put_away, found, copy.digest)
            await asyncio.to_thread(self._note(copy).unlink, missing_ok=True)
            self._died.pop(copy.digest, None)
        except Obstacle as obstacle:
            await self._put_aside(folder, found, obstacle, copy)
        except ReaderDied as error:
            assert copy is not None
            died = self._died[copy.digest] = self._died.get(copy.digest, 0) + 1
            _log.warning("reader died", extra={"told": {"file": found.name, "why": str(error), "times": died}})
            if died >= _TRIES:
                del self._died[copy.digest]
                await self._put_aside(folder, found, Obstacle(reasons.UNREADABLE_FILE, str(error)), copy)
        finally:
            self._reading = None
            if copy is not None:
                copy.content.close()

    async def _put_aside(self, folder: DropFolder, found: Found, obstacle: Obstacle, copy: Snapshot | None) -> None:
        digest = copy.digest if copy is not None else await asyncio.to_thread(folder.digest, found)
        at = datetime.fromtimestamp(self._now_us() / 1e6, UTC).isoformat(timespec="seconds")
        if not await asyncio.to_thread(folder.put_aside, found, obstacle, digest, {"source": self.name, "at": at}):
            return
        self._counts["put_aside"] += 1
        told = {"file": ascii(found.name), "reason": obstacle.reason, "detail": obstacle.detail, "sha256": digest}
        _log.warning("file put aside", extra={"told": told})
        assert self._intake is not None
        self._intake.refused(self.name, obstacle.reason, (digest or found.name).encode(errors="surrogateescape"))

    async def _read(self, name: str, copy: Snapshot) -> int:
        """Have a file's rows settled; how many there are.

        Raises:
            Obstacle: the file as a whole is not to be read; none of its rows was offered.
            ReaderDied: try again.
        """
        s, note = self._settings, self._note(copy)
        asked = {
            "name": name,
            "session": copy.digest,
            "inflated": int(s.max_inflated_mib * _MIB),
            "rows": s.max_rows,
            "columns": s.max_columns,
            "cells": s.max_values,
            "memory": s.memory_mib * _MIB,
            "cpu_s": int(2 * s.read_s) + 1,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.file_rows",
            orjson.dumps(asked).decode(),
            stdin=copy.content,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            limit=_LONGEST_LINE,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            try:
                async with asyncio.timeout(s.read_s + _START_S):
                    told = orjson.loads(await process.stdout.readline() or b"{}")
            except TimeoutError:
                raise Obstacle(reasons.UNREADABLE_FILE, f"reading it takes more than {s.read_s:g} s") from None
            if "reason" in told:
                raise Obstacle(told["reason"], told["detail"])
            if "rows" not in told:
                raise ReaderDied(f"the process that read it ended with code {await process.wait()}")
            await self._settle_rows(process.stdout, told["rows"], note)
            return int(told["rows"])
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _settle_rows(self, stream: asyncio.StreamReader, count: int, note: Path) -> None:
        settled_before, number, rows = _settled(note), 0, []
        while (line := await stream.readline()) not in (b"", b"E\n"):
            number += 1
            if number <= settled_before:
                continue
            rows.append(_row(line))
            if len(rows) == ROWS_AT_ONCE:
                await self._settle(rows)
                # Noted for good before anything else is offered: what is older than the newest ids is not known again.
                await asyncio.to_thread(replace_file, RealDisk(), note, str(number).encode())
                rows = []
        if line != b"E\n" or number != count:
            raise ReaderDied(f"the process that read it ended after {number} of {count} rows")
        await self._settle(rows)

    async def _settle(self, rows: Sequence[_Row]) -> None:
        """Offer rows until none is refused."""
        assert self._intake is not None
        due = list(range(len(rows)))
        while due:
            refused: list[int] = []
            done, waiting, wait_s = asyncio.Event(), 0, 0.0

            def settled(at: int, told: Settled, *, done: asyncio.Event = done, refused: list[int] = refused) -> None:
                nonlocal waiting, wait_s
                waiting -= 1
                if told.fate is Fate.REFUSED:
                    refused.append(at)
                    wait_s = max(wait_s, told.retry_after_s or _AGAIN_S)
                if waiting == 0:
                    done.set()

            for offered, at in enumerate(due, 1):
                if refused:
                    refused += due[offered - 1 :]
                    break
                row, waiting = rows[at], waiting + 1
                done.clear()
                if row.reason is None:
                    message = Message(self.name, row.equipment, row.payload, self._now_us())
                    self._intake.offer(message, partial(settled, at))
                else:
                    self._intake.dead_letter(self.name, row.equipment, row.payload, row.reason, partial(settled, at))
                if offered % _TURN == 0:
                    await asyncio.sleep(0)
            if waiting:
                await done.wait()
            due = sorted(refused)
            if due:
                self._trouble = "the gateway cannot keep more just now"
                await asyncio.sleep(wait_s)
                self._trouble = None

    def _note(self, copy: Snapshot) -> Path:
        """How many rows of a content are settled."""
        return self._own / f"{copy.digest}.settled"


def _settled(note: Path) -> int:
    try:
        return int(note.read_bytes())
    except (OSError, ValueError):
        return 0


def _row(line: bytes) -> _Row:
    first, _, second = line[1:-1].partition(b"\t")
    if line[:1] == b"R":
        return _Row(orjson.loads(first), second)
    return _Row("", base64.b64decode(second), first.decode())


def _open(context: SourceContext) -> FilesSource:
    where = f"source files of gateway {context.gateway}"
    settings = settings_from(FilesSettings, context.settings, where=where)
    if settings.give_up_s < settings.settle_s:
        raise ConfigurationError(
            f"{where}: give_up_s is less than settle_s, so that no file would ever be taken up.",
            next_step="Give it hours rather than seconds.",
        )
    return FilesSource(context, settings)


SPEC = GatewaySourceSpec(
    name="files",
    summary="CSV, JSON lines and Parquet dropped into a folder, whole files only, each content once",
    cannot=(
        "see that a text file was cut off between two lines, or that who writes it over a network only pauses",
        "see a flipped bit in Parquet whose pages were written without checksums, as many writers do",
        "tell numbers from texts in CSV: what looks like a number is one",
        "unpack archives; drop the files themselves",
        "know content again that has been removed from done/ and was followed by others",
    ),
    open=_open,
)
