"""Lands what a spool holds: readings into the landing tables of their fleets, dead letters into a table of their own.

Effectively once. A range of positions is noted, then landed, table by table, then confirmed by the disk, then noted as
landed. Each table remembers up to which position the spool has landed in it (a Delta transaction of its own, in the
commit that adds the rows), so that the same range, landed again after a crash, adds only what is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import filelock

from backbone.clock import Clock
from backbone.contracts import Contract
from backbone.errors import ConfigurationError, IntegrityError, Transient
from backbone.sources import Batch
from gateway.contract_check import Equipment
from gateway.exchange import Folders
from gateway.frames import Gap
from gateway.porter.landing_note import Absence, LandingNote, OpenRange, Why
from gateway.porter.rows import Letter, Sorted, letters_table
from gateway.set_aside import remove_old
from gateway.settings import GatewaySettings
from resources.dead_letters import NAME as LETTERS
from resources.dead_letters import DeadLetters
from resources.landing import CLOCKS_DIFFER, Landing
from resources.stores.durable import confirm, take_back_torn
from resources.stores.tables import storage_errors

_log = logging.getLogger("hybrid.porter")

MOST_RECORDS = 25_000
MOST_BYTES = 32 << 20
"""Of one range: memory stays bounded, however much is waiting."""
_PACED = 500
"""Records after which it is seen whether the rate is kept."""
_WAIT_S = 5.0
"""For a porter before this one to end: it finishes a range when its gateway is gone."""


class Reader(Protocol):
    """What is needed of a spool: `gateway.spool.SpoolReader`."""

    @property
    def id(self) -> str | None: ...

    @property
    def gaps(self) -> tuple[Gap, ...]: ...

    def read(self, position: int, until: int) -> Iterator[tuple[int, bytes]]: ...


@dataclass(frozen=True, slots=True)
class Landed:
    """What a range became.

    Attributes:
        position: everything before it has landed, and the disk has confirmed it.
        readings: by fleet; those that had landed before a crash are not counted again.
        absent: positions that could not be read any more.
    """

    position: int
    readings: Mapping[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    absent: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As the gateway is told."""
        told = {"landed": self.position, "readings": sum(self.readings.values()), "dead_letters": self.dead_letters}
        return {**told, "fleets": dict(self.readings), "absent": self.absent}


class Porter:
    """The porter of one gateway. One at a time: the lock on the gateway's folder is held until `close`.

    Args:
        site: name of the plant.
        landings: by fleet, of those in `settings`.
        letters: of all gateways of the site.
        reached: told each step that is done, for those who want to see what happens when the next one is not.

    Raises:
        ConfigurationError: another porter has this gateway's folder.
        IntegrityError: the note of how far it has come is damaged.
    """

    def __init__(
        self,
        site: str,
        settings: GatewaySettings,
        folders: Folders,
        spool: Reader,
        landings: Mapping[str, Landing],
        contracts: Mapping[str, Contract],
        letters: DeadLetters,
        clock: Clock,
        *,
        wait_s: float = _WAIT_S,
        reached: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._site, self._settings, self._folders, self._spool = site, settings, folders, spool
        self._landings, self._contracts, self._letters, self._clock = landings, contracts, letters, clock
        self._reached = reached
        self._note = LandingNote()
        self._landed_before = 0
        """Without a note, positions that are not there below this one have landed, as far as anybody can tell."""
        folders.root.mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(folders.porter_lock)
        try:
            self._lock.acquire(timeout=wait_s)
        except filelock.Timeout as error:
            raise ConfigurationError(
                f"Another porter lands what gateway {settings.name} has spooled.",
                next_step="One is enough: wait until it has ended, or give this gateway another name.",
            ) from error
        try:
            self._note = LandingNote.read(folders.landing)
            self._recover()
        except BaseException:
            self._lock.release()
            raise

    @property
    def position(self) -> int:
        """Everything before it has landed."""
        return self._note.landed

    def close(self) -> None:
        """Let another porter have the folder."""
        self._lock.release()

    def land(self, up_to: int) -> Landed:
        """Land the next range of what comes before a position: as much as fits into memory.

        Raises:
            StorageFull, StoreBusy, Transient: nothing is lost; to be called again later.
        """
        spool = self._spool_id()
        if spool is None:
            return Landed(self.position)
        with storage_errors(self._folders.root):
            self._note = self._note.of(spool)
            if up_to <= self.position:
                return Landed(self.position)
            return self._land(spool, up_to)

    def tidy(self) -> dict[str, list[date]]:
        """Have what has landed lie in few files; table → the days for which it did not. Today's are among them: the
        graph reads a day as a whole, as often as something of it has landed. What the spool set aside long ago goes.

        Raises:
            StorageFull, StoreBusy, Transient: to be called again later.
        """
        tomorrow = self._clock.now().date() + timedelta(days=1)
        with storage_errors(self._folders.root):
            remove_old(self._folders.spool, self._clock.now().timestamp())
            merged = {name: landing.compact("telemetry", tomorrow) for name, landing in self._landings.items()}
            merged[LETTERS] = self._letters.compact(self._site, tomorrow)
        return {name: days for name, days in merged.items() if days}

    def _land(self, spool: str, up_to: int) -> Landed:
        under_way = self._note.open
        if under_way is None:
            fleets = {name: fleet.equipment for name, fleet in self._settings.fleets.items()}
            found, last, absent = self._read(self.position, up_to, fleets)
            under_way = OpenRange(self.position, last, fleets)
            self._keep(replace(self._note, open=under_way))
            self._reached("noted")
        else:
            found, _, absent = self._read(under_way.first, under_way.last, under_way.fleets, whole=True)
        holds: dict[str, int] = {}
        readings = self._take_up(spool, under_way, found, holds)
        letters = self._add_letters(spool, under_way, found, holds)
        self._confirm(spool, holds)
        self._reached("confirmed")
        note = replace(self._note, landed=under_way.last, open=None)
        for absence in absent:
            note = note.without(absence)
        self._keep(note)
        self._reached("told")
        return Landed(self.position, readings, letters, sum(a.end - a.begin for a in absent))

    def _read(
        self, first: int, up_to: int, fleets: Mapping[str, tuple[str, ...]], *, whole: bool = False
    ) -> tuple[Sorted, int, list[Absence]]:
        """Records from a position on, where the next range begins, and what could not be read."""
        now_us = round(self._clock.now().timestamp() * 1e6)
        found = Sorted(Equipment(fleets), self._contracts, round(self._settings.historical_s * 1e6))
        began, count, size, expected, absent = self._clock.monotonic(), 0, 0, first, list[Absence]()
        for position, data in self._spool.read(first, up_to):
            if position > expected:
                absent += self._absences(expected, position)
            found.add(position, data, now_us)
            expected, count, size = position + 1, count + 1, size + len(data)
            if not whole and (count >= MOST_RECORDS or size >= MOST_BYTES):
                return found, expected, absent
            if count % _PACED == 0:
                self._pace(began, count)
        if expected < up_to:
            absent += self._absences(expected, up_to)
        return found, up_to, absent

    def _pace(self, began: float, count: int) -> None:
        ahead = count / self._settings.spool.drain_per_s - (self._clock.monotonic() - began)
        if ahead > 0:
            self._clock.sleep(ahead)

    def _absences(self, begin: int, end: int) -> list[Absence]:
        """Why positions could not be read: the spool tells of damage; what else is missing it may have let go of."""
        otherwise: Why = "dropped" if self._settings.spool.on_full == "drop_oldest" else "lost"
        begin, parts = max(begin, self._landed_before), list[Absence]()
        for gap in sorted(self._spool.gaps, key=lambda gap: gap.begin):
            lost, until = max(gap.begin, begin), min(gap.end, end)
            if lost < until:
                if begin < lost:
                    parts.append(Absence(begin, lost, otherwise))
                parts.append(Absence(lost, until, "lost"))
                begin = until
        return [*parts, Absence(begin, end, otherwise)] if begin < end else parts

    def _due_by(self, came: datetime) -> datetime:
        """Up to when readings that came then are due: landing and gateway bear clocks that are as much ahead."""
        return came + max(timedelta(seconds=self._settings.ahead_s) - CLOCKS_DIFFER, timedelta())

    def _take_up(self, spool: str, span: OpenRange, found: Sorted, holds: dict[str, int]) -> dict[str, int]:
        readings: dict[str, int] = {}
        for name, rows in sorted(found.fleets.items()):
            landing, series = self._landings[name], self._series(spool, name)
            holds[name] = self._taken_up_to(spool, name)
            table, told = rows.tables(span.first, holds[name])
            if not table.num_rows:
                continue
            until = datetime.fromtimestamp(found.newest_us / 1e6, UTC)
            batch = Batch(
                txn=f"{self._prefix(spool)}:{span.first}-{span.last}:{name}",
                stream="telemetry",
                day=until.date(),
                rows=table,
                origin=self._origin(list(rows.sources)),
                position=str(span.last),
                series=series,
                serial=span.last,
                provenance=told,
            )
            # By what clocks said when the readings came: landing them later, or again, makes no other rows of them.
            (receipt,) = landing.take_up([batch], until=self._due_by(until))
            readings[name], holds[name] = receipt.rows, span.last
            self._reached(f"landed {name}")
        return readings

    def _add_letters(self, spool: str, span: OpenRange, found: Sorted, holds: dict[str, int]) -> int:
        late = [letter for rows in found.fleets.values() for letter in rows.refused]
        series = self._series(spool, LETTERS)
        holds[LETTERS] = self._taken_up_to(spool, LETTERS)
        every = sorted((*found.letters, *late), key=_position)
        letters = [letter for letter in every if letter.position >= holds[LETTERS]]
        if letters:
            table = letters_table(self._site, self._settings.name, spool, letters, found.equipment.fleet)
            self._letters.add(table, series, span.last)
            holds[LETTERS] = span.last
            self._reached("landed dead letters")
        return len(letters)

    def _confirm(self, spool: str, holds: Mapping[str, int]) -> None:
        """Have the disk confirm the tables, and see that each still holds up to where it did."""
        again = "It is tried again; look at the disk."
        try:
            for path in self._tables().values():
                confirm(path)
        except OSError as error:
            raise Transient(f"The disk does not confirm what has landed: {error}.", next_step=again) from error
        gone = [name for name, up_to in holds.items() if self._taken_up_to(spool, name) < up_to]
        if gone:
            raise Transient(
                f"Another porter, which the disk told of an error, took back what had landed in {', '.join(gone)}.",
                next_step=again,
            )

    def _recover(self) -> None:
        """Mend what a power failure tore, and find out how far a gateway is that has lost its note."""
        with storage_errors(self._folders.root):
            for name, path in self._tables().items():
                try:
                    take_back_torn(path)
                except IntegrityError as error:  # of the others, and of what comes, nothing is lost for that
                    _log.error("table damaged", extra={"told": {"table": name, "why": str(error)}})
                confirm(path)
            if (spool := self._spool_id()) is not None:
                if self._note.spool is None:
                    self._landed_before = max(self._taken_up_to(spool, name) for name in self._tables())
                self._note = self._note.of(spool)

    def _taken_up_to(self, spool: str, table: str) -> int:
        series = self._series(spool, table)
        if table == LETTERS:
            return self._letters.taken_up_to(series) or 0
        return self._landings[table].taken_up_to("telemetry", series) or 0

    def _spool_id(self) -> str | None:
        try:
            return self._spool.id
        except FileNotFoundError:
            return None

    def _tables(self) -> dict[str, Path]:
        return {name: landing.path("telemetry") for name, landing in self._landings.items()} | {
            LETTERS: self._letters.path
        }

    def _keep(self, note: LandingNote) -> None:
        note.write(self._folders.landing)
        self._note = note

    def _prefix(self, spool: str) -> str:
        return f"gateway:{self._site}:{self._settings.name}:{spool}"

    def _series(self, spool: str, table: str) -> str:
        return f"{self._prefix(spool)}:{table}"

    def _origin(self, sources: list[str]) -> str:
        shown = ", ".join(sources[:3])
        more = f" and {len(sources) - 3} more" if len(sources) > 3 else ""
        return f"gateway {self._settings.name}, source{'s' if len(sources) > 1 else ''} {shown}{more}"


def _position(letter: Letter) -> int:
    return letter.position
