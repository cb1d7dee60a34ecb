"""Who sent what: the ids that were kept, so that none is taken twice.

An id is a source, a session of it, and a number that the sender counts up. Of each session the newest ids are
remembered with a digest of what was sent; what is older than those can only be told to be old.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from zlib import crc32

from backbone.errors import IntegrityError
from gateway.disk import Disk, RealDisk, replace_file

IDS = 1024
"""Of a session, remembered with their digests."""
SESSIONS = 4
"""Of a source, remembered with their ids."""
FORGOTTEN = 64
"""Of a source: sessions of which only the newest number is known."""
_IDS_BEFORE = IDS // 8  # of a session that another of its source came after
_TRIM = 64  # ids that are forgotten at once

_MAGIC = b"hyseqs\x00\x01"
_HEAD = struct.Struct("<8sQ16sI")
_SESSION = struct.Struct("<Hqqq?I")
_SOURCE = struct.Struct("<HHH")
_NONE = -(1 << 63)


class Verdict(Enum):
    NEW = "new"
    DUPLICATE = "duplicate"
    """The same id with the same content, kept or on its way to the disk (`is_pending` tells which)."""
    CONFLICT = "conflict"
    """The same id with another content."""
    TOO_OLD = "too_old"
    """Older than what is remembered: whether it was kept cannot be told."""


@dataclass(slots=True)
class _Session:
    """Numbers in ascending order, and their digests.

    Attributes:
        floor: the highest number that was forgotten.
        first, up_to: every number from `first` to `up_to` was kept; None: none was so far.
        pending: number → digest of what the disk has not confirmed.
    """

    numbers: array[int] = field(default_factory=lambda: array("q"))
    digests: array[int] = field(default_factory=lambda: array("Q"))
    floor: int = _NONE
    first: int | None = None
    up_to: int = _NONE
    pending: dict[int, int] = field(default_factory=dict)

    def find(self, seq: int) -> int | None:
        """The digest of a number that is remembered."""
        numbers = self.numbers
        if not numbers or seq > numbers[-1]:
            return None
        at = bisect_left(numbers, seq)
        return self.digests[at] if numbers[at] == seq else None

    def keep(self, seq: int, digest: int, most: int) -> None:
        numbers, digests = self.numbers, self.digests
        if seq <= self.floor:
            return
        if not numbers or seq > numbers[-1]:
            numbers.append(seq)
            digests.append(digest)
            if seq == self.up_to + 1:
                self.up_to = seq
        else:
            at = bisect_left(numbers, seq)
            if numbers[at] == seq:
                return
            numbers.insert(at, seq)
            digests.insert(at, digest)
            if seq == self.up_to + 1:
                self._advance(at + 1)
        if self.first is None:
            self.first = self.up_to = seq
        if len(numbers) >= most + _TRIM:
            self.trim(most)

    def _advance(self, at: int) -> None:
        """Up to and over what came before the number that has just filled a gap."""
        numbers, up_to = self.numbers, self.up_to + 1
        while at < len(numbers) and numbers[at] == up_to + 1:
            up_to, at = up_to + 1, at + 1
        self.up_to = up_to

    def trim(self, most: int) -> None:
        """Forget all but the newest."""
        if (excess := len(self.numbers) - most) > 0:
            self.floor = self.numbers[excess - 1]
            # Slices, as arrays keep the room of what is deleted from them.
            self.numbers, self.digests = self.numbers[excess:], self.digests[excess:]


@dataclass(slots=True)
class _Source:
    """Sessions in the order in which they were last added to; and of those before, the digest of the name and the
    newest number."""

    sessions: dict[str, _Session] = field(default_factory=dict)
    newest: str | None = None
    forgotten: dict[str, int] = field(default_factory=dict)


class Sequences:
    """Ids that were kept, or are on their way to the disk. For one thread.

    Of the newest session of a source `ids` are remembered, of three before it 128 each. Of 64 sessions before those it
    is known which number was the highest: up to it a number is too old. A session that even more have followed is taken
    for a new one.

    Args:
        ids: of a session, remembered with their digests.
    """

    def __init__(self, ids: int = IDS) -> None:
        self._ids = ids
        self._before = min(_IDS_BEFORE, ids)
        self._sources: dict[str, _Source] = {}

    def __len__(self) -> int:
        """Ids that are remembered and kept."""
        return sum(len(s.numbers) for source in self._sources.values() for s in source.sessions.values())

    def check(self, source: str, session: str, seq: int, digest: bytes) -> Verdict:
        """What an id is, before it is added.

        Args:
            seq: within 64 bits, signed.
            digest: of the payload, eight bytes.
        """
        if (known := self._sources.get(source)) is None:
            return Verdict.NEW
        if (of := known.sessions.get(session)) is None:
            return Verdict.TOO_OLD if seq <= known.forgotten.get(session, _NONE) else Verdict.NEW
        found = of.pending.get(seq)
        if found is None and (found := of.find(seq)) is None:
            return Verdict.TOO_OLD if seq <= of.floor else Verdict.NEW
        return Verdict.DUPLICATE if found == int.from_bytes(digest, "little") else Verdict.CONFLICT

    def add(self, source: str, session: str, seq: int, digest: bytes) -> None:
        """A new id goes to the disk. `confirm` or `forget` follows."""
        self._session(source, session).pending[seq] = int.from_bytes(digest, "little")

    def admit(self, source: str, session: str, seq: int, digest: bytes) -> Verdict:
        """`check`, and `add` what is new."""
        known = self._sources.get(source)
        if known is not None and known.newest == session:
            of = known.sessions[session]
            if seq not in of.pending and (not of.numbers or seq > of.numbers[-1]) and seq > of.floor:
                of.pending[seq] = int.from_bytes(digest, "little")
                return Verdict.NEW
        if (verdict := self.check(source, session, seq, digest)) is Verdict.NEW:
            self.add(source, session, seq, digest)
        return verdict

    def is_pending(self, source: str, session: str, seq: int) -> bool:
        """Whether the disk has not confirmed an id yet that was added."""
        known = self._sources.get(source)
        of = known.sessions.get(session) if known else None
        return of is not None and seq in of.pending

    def confirm(self, source: str, session: str, seq: int) -> None:
        """The disk has an id that was added."""
        known = self._sources[source]
        of = known.sessions[session]
        of.keep(seq, of.pending.pop(seq), self._ids if known.newest == session else self._before)

    def forget(self, source: str, session: str, seq: int) -> None:
        """The disk did not take an id that was added: sent again, it is new."""
        self._sources[source].sessions[session].pending.pop(seq)

    def kept(self, source: str, session: str, seq: int, digest: bytes) -> None:
        """An id that stands in the spool, as it is read again at start. One that is known stays as it is."""
        if self.check(source, session, seq, digest) is Verdict.NEW:
            self.add(source, session, seq, digest)
            self.confirm(source, session, seq)

    def kept_up_to(self, source: str, session: str) -> int | None:
        """The highest number such that all from the session's first to arrive up to it were kept; None: none was.

        It stands still at a number that never comes.
        """
        known = self._sources.get(source)
        of = known.sessions.get(session) if known else None
        return None if of is None or of.first is None else of.up_to

    def _session(self, source: str, session: str) -> _Session:
        if (known := self._sources.get(source)) is None:
            known = self._sources[source] = _Source()
        of = known.sessions.get(session)
        if of is None:
            of = known.sessions[session] = _Session(floor=known.forgotten.pop(session, _NONE))
        if known.newest != session:
            self._turn_to(known, session)
        return of

    def _turn_to(self, known: _Source, session: str) -> None:
        """Make a session the newest; forget what is too much of the others. What waits for the disk stays."""
        if known.newest is not None:
            known.sessions[known.newest].trim(self._before)
        known.sessions[session] = known.sessions.pop(session)
        known.newest = session
        settled = [name for name, of in known.sessions.items() if not of.pending and name != session]
        for name in settled[: max(len(known.sessions) - SESSIONS, 0)]:
            of = known.sessions.pop(name)
            known.forgotten[name] = of.numbers[-1] if of.numbers else of.floor
        while len(known.forgotten) > FORGOTTEN:
            del known.forgotten[next(iter(known.forgotten))]

    def to_parts(self, spool: str, position: int) -> list[bytes]:
        """All that is kept, to be joined by whoever writes it: this much is done while nothing may be added.

        Args:
            spool: its id.
            position: every record before it is in here; some after it may be.
        """
        parts = [_HEAD.pack(_MAGIC, position, spool.encode(), len(self._sources))]
        for name, source in self._sources.items():
            text = name.encode()
            parts += _SOURCE.pack(len(text), len(source.sessions), len(source.forgotten)), text
            for session, of in source.sessions.items():
                text, count = session.encode(), len(of.numbers)
                began = of.first is not None
                parts += _SESSION.pack(len(text), of.floor, of.first or 0, of.up_to, began, count), text
                parts += of.numbers.tobytes(), of.digests.tobytes()
            for session, highest in source.forgotten.items():
                text = session.encode()
                parts += struct.pack("<Hq", len(text), highest), text
        return parts

    @classmethod
    def from_bytes(cls, data: bytes, ids: int = IDS) -> tuple[Sequences, str, int]:
        """What `snapshot_of` its parts was made of: ids, of which spool, and as of which position.

        Raises:
            IntegrityError: these bytes are damaged, or of another version.
        """
        if len(data) < _HEAD.size + 4 or crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise IntegrityError("A snapshot of ids is damaged.", next_step="Take the one before it.")
        magic, position, spool, sources = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            raise IntegrityError("A snapshot of ids is of another version.", next_step="Read the spool again.")
        read = _Parts(data, _HEAD.size)
        known = cls(ids)
        for _ in range(sources):
            length, sessions, forgotten = read.fields(_SOURCE)
            source = known._sources[read.text(length)] = _Source()
            for _ in range(sessions):
                length, floor, first, up_to, began, count = read.fields(_SESSION)
                source.newest = read.text(length)
                numbers, digests = array("q", read.raw(8 * count)), array("Q", read.raw(8 * count))
                source.sessions[source.newest] = _Session(numbers, digests, floor, first if began else None, up_to)
            for _ in range(forgotten):
                length, highest = read.fields(struct.Struct("<Hq"))
                source.forgotten[read.text(length)] = highest
        return known, spool.decode(), position


class _Parts:
    """Reads one thing after another."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def raw(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def text(self, size: int) -> str:
        return self.raw(size).decode()

    def fields(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.raw(form.size))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Ids as they were read.

    Attributes:
        spool: the id of the spool that `position` is of; None: there was no snapshot that could be read.
        position: the spool is to be read again from here on.
        damaged: files that could not be read.
    """

    sequences: Sequences
    spool: str | None
    position: int
    damaged: tuple[str, ...]


def snapshot_of(parts: Iterable[bytes]) -> bytes:
    """The parts with a checksum."""
    whole = b"".join(parts)
    return whole + crc32(whole).to_bytes(4, "little")


def write_snapshot(path: Path, parts: Iterable[bytes], disk: Disk | None = None) -> None:
    """Keep what `Sequences.to_parts` gave, for good; the one before stays beside it. For a thread of its own.

    After it the spool may let go of what is before the snapshot's position; or only of what is before that of the
    snapshot before, so that one that the disk damages later costs no ids.

    Raises:
        OSError: the disk failed; one of the two snapshots before is there.
    """
    disk, data = disk or RealDisk(), snapshot_of(parts)
    before = path.with_name(f"{path.name}.before")
    try:
        disk.rename(path, before)
    except FileNotFoundError:
        pass
    else:
        disk.sync_folder(path.parent)
    replace_file(disk, path, data)


def read_snapshot(path: Path, disk: Disk | None = None) -> Snapshot:
    """The newest snapshot that can be read; none: nothing is known, as of position 0."""
    disk = disk or RealDisk()
    damaged: list[str] = []
    for file in (path, path.with_name(f"{path.name}.before")):
        try:
            data = disk.read(file, 0, disk.size(file))
            return Snapshot(*Sequences.from_bytes(data), tuple(damaged))
        except FileNotFoundError:
            continue
        except IntegrityError:
            damaged.append(file.name)
    return Snapshot(Sequences(), None, 0, tuple(damaged))
