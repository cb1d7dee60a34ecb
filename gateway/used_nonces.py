"""Nonces of signed requests, known after a restart: what was answered for cannot be sent again by who overheard it.

    {folder}/nonces-{number}    a line for each, as it came: `{until_s} {key} {nonce}`

A file is begun every `WINDOW_S`, and goes when the timestamps of all that is in it would be refused anyway.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from backbone.errors import StorageFull, Transient
from gateway import reasons
from gateway.disk import Disk, RealDisk, write_all
from gateway.signed_requests import WINDOW_S, Nonce
from gateway.writer import Writer

_log = logging.getLogger("hybrid.gateway.http")

_NAME = re.compile(r"nonces-([0-9]{1,18})")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class UsedNonces:
    """Those of one door. `found` before `open`; then `keep`, on one event loop; `close` at the end.

    Args:
        folder: nobody else's; made if it is not there.
        now_s: since 1970, UTC.
    """

    def __init__(self, folder: Path, now_s: Callable[[], float], disk: Disk | None = None) -> None:
        self._folder, self._now_s, self._disk = folder, now_s, disk or RealDisk()
        self._untils: dict[int, int] = {}
        """Number of a file → second after which it may go."""
        self._handle: int | None = None
        self._number, self._began_s = 0, 0.0
        self._writer: Writer[asyncio.Future[str | None]] | None = None

    def found(self) -> list[Nonce]:
        """What was used before and would still do, by the time until it would. A torn last line was answered to nobody.

        Raises:
            OSError: it cannot be read.
        """
        self._disk.make_folder(self._folder)
        nonces: list[Nonce] = []
        for name in self._disk.names(self._folder):
            if (named := _NAME.fullmatch(name)) is None:
                continue
            path, number = self._folder / name, int(named[1])
            lines = self._disk.read(path, 0, self._disk.size(path)).split(b"\n")[:-1]
            read = [nonce for line in lines if (nonce := Nonce.from_line(line)) is not None]
            self._untils[number] = max((nonce.until_s for nonce in read), default=0)
            self._number = max(self._number, number)
            nonces += read
        now_s = self._now_s()
        return sorted((nonce for nonce in nonces if nonce.until_s >= now_s), key=lambda nonce: nonce.until_s)

    def open(self) -> None:
        """Have a thread write. To be called on the event loop."""
        self._writer = Writer(self, asyncio.get_running_loop(), _kept, _failed)

    def keep(self, nonce: Nonce) -> asyncio.Future[str | None]:
        """Done when the disk has it: None; or why it has not, of `gateway.reasons`. Never blocks."""
        assert self._writer is not None
        told: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._writer.write(nonce.to_line(), told)
        return told

    async def close(self) -> None:
        """Write what is waiting, and end."""
        if self._writer is not None:
            self._writer.close()
            await asyncio.to_thread(self._writer.join)
            self._writer = None
        if self._handle is not None:
            self._disk.close(self._handle)
            self._handle = None

    def append(self, records: Sequence[bytes]) -> int:
        """See `gateway.writer.Appends`; there are no positions."""
        try:
            if self._handle is None or abs(self._now_s() - self._began_s) >= WINDOW_S:
                self._begin()
            assert self._handle is not None
            write_all(self._disk, self._handle, b"".join(records))
            self._disk.sync(self._handle)
        except OSError as error:
            self._leave()  # what it holds nobody knows now; the next goes into another
            full = error.errno in _NO_ROOM
            made = StorageFull if full else Transient
            raise made(f"Used nonces cannot be written: {error}.", next_step="Mend the disk.") from error
        untils = (nonce.until_s for record in records if (nonce := Nonce.from_line(record.rstrip(b"\n"))) is not None)
        self._untils[self._number] = max(self._untils[self._number], *untils)
        return 0

    def _begin(self) -> None:
        self._leave()
        for number in [number for number, until_s in self._untils.items() if until_s < self._now_s()]:
            self._disk.unlink(self._path(number))
            del self._untils[number]
        self._number, self._began_s = self._number + 1, self._now_s()
        self._handle = self._disk.create(self._path(self._number))
        self._untils[self._number] = 0
        self._disk.sync_folder(self._folder)

    def _leave(self) -> None:
        if self._handle is not None:
            with suppress(OSError):
                self._disk.close(self._handle)
            self._handle = None

    def _path(self, number: int) -> Path:
        return self._folder / f"nonces-{number}"


def _kept(batch: Sequence[asyncio.Future[str | None]], _: int) -> None:
    _tell(batch, None)


def _failed(batch: Sequence[asyncio.Future[str | None]], error: Exception) -> None:
    reason = reasons.SPOOL_FULL if isinstance(error, StorageFull) else reasons.SPOOL_FAILED
    _log.error("nonces not kept", extra={"told": {"reason": reason, "why": str(error), "nonces": len(batch)}})
    _tell(batch, reason)


def _tell(batch: Sequence[asyncio.Future[str | None]], reason: str | None) -> None:
    for told in batch:
        if not told.done():
            told.set_result(reason)
