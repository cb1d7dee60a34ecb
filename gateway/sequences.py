"""Who sent what: the ids that were kept, so that none is taken twice.

An id is a source, a session of it, and a number that the sender counts up. Of each session the newest ids are
remembered with a digest of what was sent; what is older than those can only be told to be old.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from zlib import crc32

from backbone.errors import IntegrityError
from gateway.disk import Disk, RealDisk, replace_file_with

IDS = 1024
"""Of a session, remembered with their digests."""
SESSIONS = 4
"""Of a source, remembered with their ids."""
FORGOTTEN = 64
"""Of a source: sessions of which only the newest number is known."""
_IDS_BEFORE = IDS // 8  # of a session that another of its source came after
_TRIM = 64  # ids that are forgotten at once

_A_PART = 64
"""Sources that are written at once: a millisecond."""

_MAGIC, _MAGIC_BEFORE = b"hyseqs\x00\x02", b"hyseqs\x00\x01"
_HEAD = struct.Struct("<8sQ16sI")
_SESSION, _SESSION_BEFORE = struct.Struct("<Hqqq??qI"), struct.Struct("<Hqqq?I")
_SOURCE, _FORGOTTEN = struct.Struct("<HHH"), struct.Struct("<Hq")
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
    """Digests of numbers in ascending order.

    Attributes:
        floor: the highest number that was forgotten.
        first, up_to: every number from `first` to `up_to` was kept; None: none was so far.
        start: the number of the first digest, where each is one more than that before it, as senders count.
        numbers: of each digest, where they are not.
        last: the highest number that was kept or forgotten.
        pending: number → digest of what the disk has not confirmed.
    """

    floor: int = _NONE
    first: int | None = None
    up_to: int = _NONE
    digests: array[int] = field(default_factory=lambda: array("Q"))
    start: int = 0
    numbers: array[int] | None = None
    last: int = _NONE
    pending: dict[int, int] = field(default_factory=dict)

    def find(self, seq: int) -> int | None:
        """The digest of a number that is remembered."""
        if not self.digests or seq > self.last:
            return None
        if (numbers := self.numbers) is None:
            return self.digests[seq - self.start] if seq >= self.start else None
        at = bisect_left(numbers, seq)
        return self.digests[at] if numbers[at] == seq else None

    def keep(self, seq: int, digest: int, most: int) -> None:
        if seq <= self.floor:
            return
        if seq > self.last or not self.digests:
            self.append(seq, digest)
            if seq == self.up_to + 1:
                self.up_to = seq
        elif not self._insert(seq, digest):
            return
        if self.first is None:
            self.first = self.up_to = seq
        if len(self.digests) >= most + _TRIM:
            self.trim(most)

    def append(self, seq: int, digest: int) -> None:
        if not self.digests:
            self.start = seq
        elif self.numbers is not None:
            self.numbers.append(seq)
        elif seq != self.last + 1:
            self._number().append(seq)
        self.digests.append(digest)
        self.last = seq

    def _insert(self, seq: int, digest: int) -> bool:
        """A number that later ones were kept before; whether it was not known."""
        if self.numbers is None and seq >= self.start:
            return False
        numbers = self._number() if self.numbers is None else self.numbers
        at = bisect_left(numbers, seq)
        if numbers[at] == seq:
            return False
        numbers.insert(at, seq)
        self.digests.insert(at, digest)
        if seq == self.up_to + 1:
            self._advance(numbers, at + 1)
        return True

    def _number(self) -> array[int]:
        numbers = self.numbers = array("q", range(self.start, self.start + len(self.digests)))
        return numbers

    def _advance(self, numbers: array[int], at: int) -> None:
        """Up to and over what came before the number that has just filled a gap."""
        up_to = self.up_to + 1
        while at < len(numbers) and numbers[at] == up_to + 1:
            up_to, at = up_to + 1, at + 1
        self.up_to = up_to

    def trim(self, most: int) -> None:
        """Forget all but the newest."""
        if (excess := len(self.digests) - most) <= 0:
            return
        # Slices, as arrays keep the room of what is deleted from them.
        self.digests = self.digests[excess:]
        if (numbers := self.numbers) is None:
            self.start += excess
            self.floor = self.start - 1
            return
        self.floor, numbers = numbers[excess - 1], numbers[excess:]
        dense = self.last - numbers[0] == len(numbers) - 1
        self.start, self.numbers = numbers[0], None if dense else numbers


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
        return sum(len(s.digests) for source in self._sources.values() for s in source.sessions.values())

    def sources(self) -> Iterable[str]:
        """Of which anything is remembered."""
        return self._sources

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
            if seq > of.last and seq not in of.pending:
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
            floor = known.forgotten.pop(session, _NONE)
            of = known.sessions[session] = _Session(floor, last=floor)
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
            known.forgotten[name] = of.last
        while len(known.forgotten) > FORGOTTEN:
            del known.forgotten[next(iter(known.forgotten))]

    def to_parts(self, spool: str, position: int) -> Iterator[bytes]:
        """All that is kept, a millisecond's worth at a time; between two parts more may be added.

        Args:
            spool: its id.
            position: every record before it is in here; some after it may be.
        """
        names = list(self._sources)  # who comes meanwhile is of records after the position
        yield _HEAD.pack(_MAGIC, position, spool.encode(), len(names))
        for at in range(0, len(names), _A_PART):
            yield b"".join(piece for name in names[at : at + _A_PART] for piece in _pieces(name, self._sources[name]))

    @classmethod
    def from_bytes(cls, data: bytes, ids: int = IDS) -> tuple[Sequences, str, int]:
        """What `snapshot_of` its parts was made of: ids, of which spool, and as of which position.

        Raises:
            IntegrityError: these bytes are damaged, or of another version.
        """
        if len(data) < _HEAD.size + 4 or crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "little"):
            raise IntegrityError("A snapshot of ids is damaged.", next_step="Take the one before it.")
        magic, position, spool, sources = _HEAD.unpack_from(data)
        if magic not in (_MAGIC, _MAGIC_BEFORE):
            raise IntegrityError("A snapshot of ids is of another version.", next_step="Read the spool again.")
        read = _Parts(data, _HEAD.size)
        known = cls(ids)
        for _ in range(sources):
            length, sessions, forgotten = read.fields(_SOURCE)
            source = known._sources[read.text(length)] = _Source()
            for _ in range(sessions):
                source.newest, session = read.session() if magic == _MAGIC else read.session_before()
                source.sessions[source.newest] = session
            for _ in range(forgotten):
                length, highest = read.fields(_FORGOTTEN)
                source.forgotten[read.text(length)] = highest
        return known, spool.decode(), position


def _pieces(name: str, source: _Source) -> Iterator[bytes]:
    text = name.encode()
    yield _SOURCE.pack(len(text), len(source.sessions), len(source.forgotten))
    yield text
    for session, of in source.sessions.items():
        text, began, spread = session.encode(), of.first is not None, of.numbers is not None
        told = (len(text), of.floor, of.first or 0, of.up_to, began, spread, of.start, len(of.digests))
        yield _SESSION.pack(*told)
        yield text
        yield of.digests.tobytes()
        if of.numbers is not None:
            yield of.numbers.tobytes()
    for session, highest in source.forgotten.items():
        text = session.encode()
        yield _FORGOTTEN.pack(len(text), highest)
        yield text


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

    def session(self) -> tuple[str, _Session]:
        """And its name."""
        length, floor, first, up_to, began, spread, start, count = self.fields(_SESSION)
        name, digests = self.text(length), array("Q", self.raw(8 * count))
        numbers = array("q", self.raw(8 * count)) if spread else None
        last = floor if not count else start + count - 1 if numbers is None else numbers[-1]
        return name, _Session(floor, first if began else None, up_to, digests, start, numbers, last)

    def session_before(self) -> tuple[str, _Session]:
        """As the version before wrote it."""
        length, floor, first, up_to, began, count = self.fields(_SESSION_BEFORE)
        name, numbers, digests = self.text(length), array("q", self.raw(8 * count)), array("Q", self.raw(8 * count))
        session = _Session(floor, first if began else None, up_to, last=floor)
        for number, digest in zip(numbers, digests, strict=True):
            session.append(number, digest)
        return name, session


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
    return b"".join(_checked(parts))


def _checked(parts: Iterable[bytes]) -> Iterator[bytes]:
    checksum = 0
    for part in parts:
        checksum = crc32(part, checksum)
        yield part
    yield checksum.to_bytes(4, "little")


def write_snapshot(path: Path, parts: Iterable[bytes], disk: Disk | None = None) -> None:
    """Keep what `Sequences.to_parts` gave, for good; the one before stays beside it. For a thread of its own.

    After it the spool may let go of what is before the snapshot's position; or only of what is before that of the
    snapshot before, so that one that the disk damages later costs no ids.

    Raises:
        OSError: the disk failed; one of the two snapshots before is there.
    """
    disk = disk or RealDisk()
    before = path.with_name(f"{path.name}.before")
    try:
        disk.rename(path, before)
    except FileNotFoundError:
        pass
    else:
        disk.sync_folder(path.parent)
    replace_file_with(disk, path, _checked(parts))


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
