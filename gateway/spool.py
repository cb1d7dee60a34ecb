"""The spool: what was taken in, kept on the disk until it has landed.

An append-only log in files of a few megabytes. `append` returns when the disk has confirmed all it was given; a
record's position, the count of records before it, is its name from then on. Whole files go once everything in them is
released.

What a disk can do, and what is done about it:

- *Power cut.* The last append may be on the disk in part. Opening keeps each of its records that verifies and writes
  them anew into a new file: what a process that died has left in the system's memory proves nothing, as the disk may
  have refused it already. Bytes that are no records any more are kept beside the file as `*.torn`, see
  `gateway.set_aside`.
- *A failed fsync.* The system may count what it could not write as written, so that asking again would succeed. The
  file ends at its last confirmed record, for good: the next one begins there, and says so in its name.
- *Full.* Nothing of the append stays, and the file goes on.
- *Damage.* Frames that verify are read, the bytes between them are copied to `damaged/`, and the gap is told.
"""

from __future__ import annotations

import errno
import secrets
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Self

from backbone.errors import ConfigurationError, IntegrityError, StorageFull, Transient
from gateway.disk import Disk, RealDisk, replace_file, write_all
from gateway.frames import FILE_HEAD, FRAME_HEAD, LONGEST, Frame, Gap, SegmentName, framed, frames
from gateway.set_aside import DAMAGED
from gateway.settings import SpoolSettings

_FULL = (errno.ENOSPC, errno.EDQUOT)
_GAPS_TOLD = 1000
# Within `Spool`, `bytes` is how many it holds.
Payload = bytes
Positioned = tuple[int, Payload]
_FEWEST_SEGMENTS = 4


class SpoolFull(StorageFull):
    """The spool's bound, or the disk's, is reached; nothing of the append was kept."""


class SpoolFailed(Transient):
    """The disk failed; nothing of the append is confirmed. The next one begins a new file."""


@dataclass(slots=True)
class _Segment:
    name: SegmentName
    path: Path
    size: int


class _Gaps:
    """What was found missing, each gap once."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk, self._folder = disk, folder
        self._told: dict[tuple[object, int], Gap] = {}
        self._lock = threading.Lock()

    def tell(self, gap: Gap) -> None:
        with self._lock:
            key = (gap.begin, gap.end) if gap.begin < gap.end else (gap.segment, gap.at)
            if key in self._told or len(self._told) >= _GAPS_TOLD:
                return
            self._told[key] = gap
        if gap.size:
            with suppress(OSError):  # the gap is told all the same
                data = self._disk.read(self._folder / gap.segment, gap.at, gap.size)
                self._disk.make_folder(self._folder / DAMAGED)
                replace_file(self._disk, self._folder / DAMAGED / f"{gap.segment}.{gap.at}", data)

    def all(self) -> tuple[Gap, ...]:
        with self._lock:
            return tuple(self._told.values())


class _Reading:
    """Records of files that somebody else may add to, begin and remove meanwhile.

    Args:
        segments: the files there are now, in order.
    """

    def __init__(self, disk: Disk, folder: Path, segments: Callable[[], Sequence[SegmentName]], gaps: _Gaps) -> None:
        self._disk, self._folder, self._segments, self._gaps = disk, folder, segments, gaps
        self._stopped: tuple[SegmentName, int, int] | None = None

    def records(self, position: int, until: int) -> Iterator[Positioned]:
        while position < until:
            found = _holder(self._segments(), position, until)
            if found is None:
                return
            name, position, end = found
            try:
                for item in self._of_segment(name, position, end):
                    if isinstance(item, Frame):
                        yield item.position, item.payload
                        position = item.position + 1
                        self._stopped = (name, position, item.after)
                        continue
                    now = _holder(self._segments(), position, until)
                    if now is None or now[0] != name or now[2] < end:
                        break  # the rest of this file stands in a newer one by now, or was let go of
                    self._gaps.tell(item)
                    position = max(position, item.end)
            except FileNotFoundError:
                if name in self._segments():
                    raise

    def _of_segment(self, name: SegmentName, position: int, end: int) -> Iterator[Frame | Gap]:
        read = partial(self._disk.read, self._folder / str(name))
        if self._stopped is not None and self._stopped[:2] == (name, position):
            yield from frames(read, name, at=self._stopped[2], position=position, end=end)
            return
        for item in frames(read, name, end=end):
            if (item.position >= position) if isinstance(item, Frame) else (item.end > position):
                yield item


def _holder(segments: Sequence[SegmentName], position: int, until: int) -> tuple[SegmentName, int, int] | None:
    """The file to read on in, from which position and up to which; None where there is none."""
    if not segments:
        return None
    position = max(position, segments[0].first)
    index = bisect_right(segments, position, key=lambda s: s.first) - 1
    end = min(until, segments[index + 1].first) if index + 1 < len(segments) else until
    return (segments[index], position, end) if position < end else None


def _named(disk: Disk, folder: Path) -> list[SegmentName]:
    found = [name for text in disk.names(folder) if (name := SegmentName.parse(text)) is not None]
    return sorted(found, key=lambda name: name.number)


class SpoolReader:
    """A spool as another process reads it: it holds no lock, changes no file of records, and may be told anything new.

    Raises:
        FileNotFoundError: by `read` and `id`: there is no such folder.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        disk = disk or RealDisk()
        self._disk, self._folder = disk, folder
        self._gaps = _Gaps(disk, folder)
        self._reading = _Reading(disk, folder, lambda: _named(disk, folder), self._gaps)

    @property
    def id(self) -> str | None:
        """Of the spool; None before it was first opened."""
        names = _named(self._disk, self._folder)
        return names[-1].spool if names else None

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What was missing where it was read so far; the first 1,000."""
        return self._gaps.all()

    def read(self, position: int, until: int) -> Iterator[Positioned]:
        """Records with their positions, as `Spool.read`; `until` is an `end` that the spool's owner told."""
        return self._reading.records(position, until)


class Spool:
    """A spool, opened by the one process that adds to it.

    `append` is for one thread; everything else may be called from any. All but the properties wait for the disk.

    Args:
        folder: made if it is not there.
        at_least: positions below it are known, elsewhere, to have been confirmed. Where the disk has lost them none of
            them is given out again, and the gap is told.
        on_dropped: told the positions that `drop_oldest` let go of before they were released: from, and up to but
            without. By the thread that appends.

    Raises:
        ConfigurationError: another process has this spool open, files of two spools are in the folder, or of another
                version.
        SpoolFailed: the disk refuses to confirm what the last append left.
        OSError: the folder cannot be made or listed.
    """

    def __init__(
        self,
        folder: Path,
        settings: SpoolSettings,
        disk: Disk | None = None,
        *,
        at_least: int = 0,
        on_dropped: Callable[[int, int], None] | None = None,
    ) -> None:
        self._disk = disk or RealDisk()
        self._folder, self._settings, self._on_dropped = folder, settings, on_dropped
        # The newest file is never let go of, so it must be a small part of the whole.
        self._segment_bytes = min(settings.segment_bytes, settings.max_bytes // _FEWEST_SEGMENTS)
        self._gaps = _Gaps(self._disk, folder)
        self._reading = _Reading(self._disk, folder, self._names, self._gaps)
        self._changing = threading.Lock()
        self._segments: tuple[_Segment, ...] = ()  # another tuple when one comes or goes
        self._handle: int | None = None  # of the newest segment; None: the next append begins a new one
        self._carried: list[Frame] = []  # records of the last append found, to be written anew
        self._id, self._seed, self._number, self._end = "", 0, 0, 0
        self._released = self._dropped = 0
        self._torn: Gap | None = None
        self._unsynced = self._closed = False
        self._torn_kept = True
        self._disk.make_folder(folder)
        self._held = self._take(folder / "lock")
        try:
            self._open(at_least)
        except BaseException:
            self._disk.close(self._held)
            raise

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits, drawn when the folder was first opened."""
        return self._id

    @property
    def begin(self) -> int:
        """Position of the oldest record there is."""
        segments = self._segments
        return segments[0].name.first if segments else self._end

    @property
    def end(self) -> int:
        """The position after the newest record that the disk has confirmed."""
        return self._end

    @property
    def bytes(self) -> int:
        """Of the files of records."""
        return sum([s.size for s in self._segments])

    @property
    def dropped(self) -> int:
        """Records that `drop_oldest` let go of before they were released, since the spool was opened.

        Of those that the process was letting go of when it died only `begin` tells.
        """
        return self._dropped

    @property
    def torn_bytes(self) -> int:
        """Bytes at the end of the newest file that were no records when the spool was opened."""
        return self._torn.size if self._torn is not None else 0

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What was missing when the spool was opened, and where it was read since; the first 1,000."""
        return self._gaps.all()

    def append(self, records: Sequence[Payload]) -> int:
        """Keep records, in one write, and return when the disk has confirmed them: the position after the last.

        Args:
            records: of 16 MiB each at most.

        Raises:
            SpoolFull: nothing was kept.
            SpoolFailed: nothing is confirmed; opened again, the spool may hold some of it as records all the same.
            IntegrityError: one of them is too long.
        """
        if not records:
            return self._end
        if max(map(len, records)) > LONGEST:
            raise IntegrityError(
                f"A record has more than {LONGEST:,} bytes.", next_step="Refuse such a message where it arrives."
            )
        if self._closed:
            raise SpoolFailed(f"The spool {self._folder} is closed.", next_step="Open it again.")
        first = self._end
        data = framed(zip(count(first), count(), records, strict=False), self._seed)
        newest = self._segments[-1] if self._segments else None
        if newest is not None and newest.size > FILE_HEAD and newest.size + len(data) > self._segment_bytes:
            self._seal()
        self._make_room(len(data))
        while True:
            try:
                if self._handle is None:
                    self._begin_segment(data)
                else:
                    self._extend(data)
                break
            except OSError as error:
                if error.errno not in _FULL:
                    raise SpoolFailed(
                        f"The disk of the spool {self._folder} failed: {error}.",
                        next_step="Nothing was acknowledged; senders try again. Look at the disk.",
                    ) from error
                if not (self._settings.on_full == "drop_oldest" and self._drop_oldest()):
                    raise SpoolFull(
                        f"The disk of the spool {self._folder} has no room: {error}.",
                        next_step="Free some, or let what is spooled land; senders try again.",
                    ) from error
        self._end = first + len(records)
        return self._end

    def release(self, position: int) -> None:
        """Let go of whole files of records before a position, which are somewhere else for good by now."""
        with self._changing:
            self._released = max(self._released, min(position, self._end))
            with suppress(OSError):  # they go with the next release
                self._remove_released()

    def read(self, position: int, until: int) -> Iterator[Positioned]:
        """Records with their positions, from one position up to but without another, or up to the end.

        What was released, dropped or damaged is left out: then positions jump.
        """
        return self._reading.records(position, min(until, self._end))

    def close(self) -> None:
        """Let another process have it. Everything appended is on the disk already."""
        if not self._closed:
            self._closed = True
            self._seal()
            self._disk.close(self._held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, path: Path) -> int:
        try:
            return self._disk.lock(path)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"Another process has the spool {self._folder} open.",
                next_step="Stop that gateway, or give this one a folder of its own.",
            ) from error

    def _names(self) -> Sequence[SegmentName]:
        return [s.name for s in self._segments]

    # Opening.

    def _open(self, at_least: int) -> None:
        for text in self._disk.names(self._folder):
            if text.startswith("."):
                with suppress(OSError):
                    self._disk.unlink(self._folder / text)
        names = _named(self._disk, self._folder)
        ids = {name.spool for name in names}
        if len(ids) > 1:
            raise ConfigurationError(
                f"{self._folder} holds files of {len(ids)} spools: {', '.join(sorted(ids))}.",
                next_step="Move those of all but one elsewhere.",
            )
        self._id = ids.pop() if ids else secrets.token_hex(8)
        self._seed = SegmentName(0, 0, self._id).seed
        self._number = names[-1].number if names else 0
        paths = [self._folder / str(name) for name in names]
        self._segments = tuple(_Segment(n, p, self._disk.size(p)) for n, p in zip(names, paths, strict=True))
        for name in names:
            self._check_head(name)
        self._end = self._recover_newest(names[-1]) if names else 0
        if at_least > self._end:
            torn = self._torn or Gap(0, 0, "", 0, 0, certain=True)  # what stood there is what is missing
            self._gaps.tell(Gap(self._end, at_least, torn.segment, torn.at, torn.size, certain=True))
            self._end = at_least
        try:
            self._begin_segment(b"")
        except OSError as error:
            if self._carried:
                self._confirm_where_it_is(names[-1], error)

    def _check_head(self, name: SegmentName) -> None:
        if not name.verify(self._disk.read(self._folder / str(name), 0, FILE_HEAD)):
            self._gaps.tell(Gap(name.first, name.first, str(name), 0, FILE_HEAD, certain=True))

    def _recover_newest(self, name: SegmentName) -> int:
        """Read it whole; what its last append left is carried over into the next file. The position after."""
        path, end = self._folder / str(name), name.first
        carried: list[Frame] = []
        gaps: list[Gap] = []
        for item in frames(partial(self._disk.read, path), name):
            if isinstance(item, Frame):
                if carried and item.position - item.nth != carried[0].position - carried[0].nth:
                    carried.clear()
                carried.append(item)
                end = item.position + 1
            elif item.begin == item.end:
                self._keep_torn(path, item)
            else:
                gaps.append(item)
        last = carried[0].position - carried[0].nth if carried else name.first
        for gap in gaps:
            self._gaps.tell(replace(gap, certain=gap.begin < last))
        self._carried = carried
        return end

    def _keep_torn(self, path: Path, torn: Gap) -> None:
        self._torn = torn
        try:
            data = self._disk.read(path, torn.at, torn.size)
            replace_file(self._disk, path.with_name(f"{path.name}.{torn.at}.torn"), data)
        except OSError:
            self._torn_kept = False  # they stay where they are, in front of the next file

    def _confirm_where_it_is(self, name: SegmentName, error: OSError) -> None:
        """A full disk must not keep what is on it from being read and released, which is what makes room."""
        try:
            if error.errno not in _FULL:
                raise error
            self._disk.sync_file(self._folder / str(name))
        except OSError as failed:
            raise SpoolFailed(
                f"The disk of the spool {self._folder} does not confirm what it holds: {failed}.",
                next_step="Look at the disk; start again.",
            ) from failed

    # Writing. What raises OSError here has left the spool as it was before, or without a newest file to add to.

    def _begin_segment(self, data: Payload) -> None:
        """Begin a file with what is carried over and `data`, for good."""
        first = self._carried[0].position if self._carried else self._end
        name = SegmentName(self._number + 1, first, self._id)
        path, partly = self._folder / str(name), self._folder / f".{name}"
        self._number += 1
        again = framed(((f.position, f.nth, f.payload) for f in self._carried), self._seed)
        whole = name.head() + again + data
        handle = self._disk.create(partly)
        try:
            write_all(self._disk, handle, whole)
            self._disk.sync(handle)
            # Its name says where the file before it ends: it may not have it before it holds what that one had.
            self._disk.rename(partly, path)
            self._disk.sync_folder(self._folder)
        except OSError:
            for undo in (partial(self._disk.close, handle), *(partial(self._disk.unlink, p) for p in (partly, path))):
                with suppress(OSError):
                    undo()
            raise
        with self._changing:
            self._handle = handle
            self._segments = (*self._segments, _Segment(name, path, len(whole)))
            if self._torn_kept:
                with suppress(OSError):
                    self._end_before()
        self._carried, self._torn_kept = [], True

    def _end_before(self) -> None:
        """Cut off the file before the newest what the newest holds, and let go of files that hold nothing else."""
        if self._carried:
            before, at = self._segments[-2], self._carried[0].at
            self._disk.truncate(before.path, at)
            before.size = at
        for index in range(len(self._segments) - 2, -1, -1):
            if self._segments[index].name.first >= self._segments[index + 1].name.first:
                self._remove(index)

    def _extend(self, data: Payload) -> None:
        newest, handle = self._segments[-1], self._handle
        assert handle is not None
        try:
            write_all(self._disk, handle, data)
        except OSError:
            try:
                self._disk.truncate(newest.path, newest.size)
            except OSError:
                self._seal()
            raise
        try:
            self._disk.sync(handle)
        except OSError:
            self._seal()
            with suppress(OSError):
                self._disk.truncate(newest.path, newest.size)
            raise
        newest.size += len(data)

    def _seal(self) -> None:
        """Add nothing to the newest file any more."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError):
                self._disk.close(handle)

    # Making room. The newest file stays: its name holds the spool's id and position.

    def _make_room(self, size: int) -> None:
        size += sum(FRAME_HEAD + len(f.payload) for f in self._carried)
        size += FILE_HEAD if self._handle is None else 0
        limit = self._settings.max_bytes
        if self.bytes + size > limit and self._released == self._end:
            with suppress(OSError):  # then there is no room
                self._seal()
                self._begin_segment(b"")
                with self._changing:
                    self._remove_released()
        while self.bytes + size > limit:
            if self._settings.on_full == "drop_oldest" and self._drop_oldest():
                continue
            raise SpoolFull(
                f"The spool {self._folder} holds {self.bytes:,} bytes of {limit:,}.",
                next_step="Let what is spooled land, or give it more room ([gateway.spool] max_mib).",
            )

    def _drop_oldest(self) -> bool:
        """Whether a file could be let go of."""
        with self._changing:
            if len(self._segments) < 2:
                return False
            oldest = self._segments[0]
            begin, end = max(oldest.name.first, self._released), self._segments[1].name.first
            with suppress(OSError):
                self._remove(0)
            if self._segments[0] is oldest:
                return False
        if begin < end:
            self._dropped += end - begin
            if self._on_dropped is not None:
                self._on_dropped(begin, end)
        return True

    def _remove_released(self) -> None:
        while len(self._segments) > 1 and self._segments[1].name.first <= self._released:
            self._remove(0)

    def _remove(self, index: int) -> None:
        """One file at a time, each for good: after a power cut none is missing between two that are there."""
        if self._unsynced:
            self._disk.sync_folder(self._folder)
            self._unsynced = False
        self._disk.unlink(self._segments[index].path)
        self._segments = self._segments[:index] + self._segments[index + 1 :]
        self._unsynced = True
        self._disk.sync_folder(self._folder)
        self._unsynced = False
