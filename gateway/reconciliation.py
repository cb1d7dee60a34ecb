"""Accepted = stored + dead-lettered + spooled, by id: what became of every position that a spool ever gave out.

A reading's position in its spool is its name from its acknowledgement on. A landed row tells it (its batch's first
position, and its offset), and the reading's id at its sender beside it; a dead letter tells it; the spool's files do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backbone.row_checks import DEFECT
from gateway.disk import RealDisk
from gateway.exchange import Folders
from gateway.frames import Frame, SegmentName, frames
from gateway.porter.landing_note import LandingNote
from gateway.set_aside import SetAside, set_aside
from resources.landing import BATCH, OFFSET, READING_ID
from resources.plant import Plant
from resources.stores.followed import latest
from resources.stores.tables import DATE, SITE, WindowTable, scan_batches

_BATCH = re.compile(r"gateway:(?P<site>[^:]+):(?P<gateway>[^:]+):(?P<spool>[^:]+):(?P<first>\d+)-\d+:[^:]+")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """Of one fleet: rows that have landed, and those of them that end in quarantine for what was found on landing."""

    stored: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What became of what one gateway, or all of a site, has accepted.

    Attributes:
        accepted: positions that were given out; what has been acknowledged is among them.
        stored, dead_lettered: in the landing tables, and in the table of dead letters; each position once.
        spooled: not landed yet.
        dropped: let go of by a full spool that was told to (`on_full = "drop_oldest"`).
        missing: nowhere.
        twice: rows and letters that are there besides another of the same position or the same reading.
        quarantined: of those stored.
        missing_positions: the first of them, as ranges.
        twice_ids: readings' ids, or `position n`, of the first of them.
        set_aside: bytes that are no records any more; where something is missing, it may have been among them.
    """

    accepted: int = 0
    stored: int = 0
    dead_lettered: int = 0
    spooled: int = 0
    dropped: int = 0
    missing: int = 0
    twice: int = 0
    quarantined: int = 0
    fleets: Mapping[str, FleetCounts] = field(default_factory=dict)
    missing_positions: tuple[str, ...] = ()
    twice_ids: tuple[str, ...] = ()
    set_aside: SetAside = field(default_factory=SetAside)

    @property
    def holds(self) -> bool:
        """Nothing is missing, nothing is there twice."""
        return not self.missing and not self.twice

    def plus(self, other: Reconciliation) -> Reconciliation:
        """Of both together."""
        numbers = {name: getattr(self, name) + getattr(other, name) for name in _NUMBERS}
        fleets = {
            name: FleetCounts(
                *(getattr(self.fleets.get(name, _NONE), n) + getattr(other.fleets.get(name, _NONE), n) for n in _COUNTS)
            )
            for name in sorted({*self.fleets, *other.fleets})
        }
        return Reconciliation(
            **numbers,
            fleets=fleets,
            missing_positions=(*self.missing_positions, *other.missing_positions)[:_SHOWN],
            twice_ids=(*self.twice_ids, *other.twice_ids)[:_SHOWN],
            set_aside=self.set_aside.plus(other.set_aside),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            "fleets": {name: {n: getattr(counts, n) for n in _COUNTS} for name, counts in self.fleets.items()},
            "missing_positions": list(self.missing_positions),
            "twice_ids": list(self.twice_ids),
            "set_aside": self.set_aside.to_dict(),
        }


_NUMBERS = ("accepted", "stored", "dead_lettered", "spooled", "dropped", "missing", "twice", "quarantined")
_COUNTS = ("stored", "quarantined")
_NONE = FleetCounts()


def reconcile_site(plant: Plant) -> dict[str, Reconciliation]:
    """Gateway → what became of what it accepted, for every gateway that has a folder in the site's edge store.

    May be asked while they work: what is accepted, or lands, meanwhile is as it was when asking began.
    """
    root = plant.root("edge") / "gateway" / plant.site.name
    found = sorted(path for path in root.glob("*") if Folders(path).spool.is_dir() or Folders(path).landing.exists())
    # The spools first: what has left one since is in a table by now.
    spools = {path.name: _Spools.read(Folders(path)) for path in found}
    landings = {fleet: plant.landing(fleet).path("telemetry") for fleet in plant.site.classes}
    for fleet, path in landings.items():
        for day in _days(path, plant.site.name, [BATCH, OFFSET, READING_ID, DEFECT]):
            ids = _Ids()
            for rows in day:
                _add_rows(spools, fleet, rows, plant.site.name, ids)
            ids.count_twice()
    for day in _days(plant.dead_letters().path, plant.site.name, ["gateway", "spool", "position"]):
        for rows in day:
            _add_letters(spools, rows)
    return {name: own.told() for name, own in spools.items()}


class _Positions:
    """Which positions, from 0 up to but without `end`, are where.

    Attributes:
        spooled, stored, lettered: (end,) bool.
    """

    def __init__(self, end: int, note: LandingNote | None = None) -> None:
        self.end = end
        self.spooled, self.stored, self.lettered, self.dropped = (np.zeros(end, bool) for _ in range(4))
        for absence in note.absent if note is not None else ():
            if absence.why == "dropped":
                self.dropped[absence.begin : absence.end] = True
        self.fleets: dict[str, FleetCounts] = {}
        self.twice = 0
        self.twice_ids: list[str] = []

    def take(self, positions: np.ndarray, into: np.ndarray, ids: pa.Array) -> np.ndarray:
        """Note that positions are there; (n,) bool, those that were not, here or elsewhere, nor twice among these."""
        new = np.zeros(len(positions), bool)
        new[np.unique(positions, return_index=True)[1]] = True
        new &= ~(self.stored[positions] | self.lettered[positions])
        into[positions] = True
        self.found_twice(int((~new).sum()), ids.filter(pa.array(~new)).slice(0, _SHOWN).to_pylist())
        return new

    def found_twice(self, count: int, names: list[str]) -> None:
        """Count what is there besides another."""
        self.twice += count
        self.twice_ids += names[: _SHOWN - len(self.twice_ids)]

    def told(self) -> Reconciliation:
        there = self.stored | self.lettered
        spooled = self.spooled & ~there
        dropped = self.dropped & ~there & ~self.spooled
        missing = np.flatnonzero(~(there | self.spooled | dropped))
        return Reconciliation(
            accepted=self.end,
            stored=int(self.stored.sum()),
            dead_lettered=int(self.lettered.sum()),
            spooled=int(spooled.sum()),
            dropped=int(dropped.sum()),
            missing=len(missing),
            twice=self.twice,
            quarantined=sum(counts.quarantined for counts in self.fleets.values()),
            fleets=dict(self.fleets),
            missing_positions=tuple(_ranges(missing)),
            twice_ids=tuple(self.twice_ids),
        )


@dataclass(slots=True)
class _Spools:
    """The spools that a gateway has had, by their ids."""

    by_id: dict[str, _Positions]
    set_aside: SetAside

    @classmethod
    def read(cls, folders: Folders) -> _Spools:
        """What a gateway's folder tells of positions. What was landed is noted, or is in the spool's files, or both."""
        note = LandingNote.read(folders.landing)
        by_id = {spool: _Positions(landed) for spool, landed in note.before.items()}
        spool, end, held = _spooled(folders.spool)
        if spool is None:
            spool, end = note.spool, note.landed
        if spool is not None:
            own = note if note.spool == spool else None
            positions = _Positions(max(end, own.landed if own is not None else 0), own)
            positions.spooled[held] = True
            by_id[spool] = positions
        return cls(by_id, set_aside(folders.spool))

    def told(self) -> Reconciliation:
        total = Reconciliation(set_aside=self.set_aside)
        for positions in self.by_id.values():
            total = total.plus(positions.told())
        return total


def _spooled(folder: Path) -> tuple[str | None, int, np.ndarray]:
    """The spool's id, the position after its newest record, and the positions in its files."""
    disk = RealDisk()
    names = sorted(
        (name for text in (disk.names(folder) if folder.is_dir() else []) if (name := SegmentName.parse(text))),
        key=lambda name: name.number,
    )
    if not names:
        return None, 0, np.array([], np.int64)
    held: list[np.ndarray] = []
    end = names[-1].first
    for name, after in zip(names, [*names[1:], None], strict=True):
        try:
            items = frames(partial(disk.read, folder / str(name)), name, end=None if after is None else after.first)
            found = np.fromiter((item.position for item in items if isinstance(item, Frame)), np.int64)
        except FileNotFoundError:
            continue  # it has been let go of since: its records have landed
        held.append(found)
        end = max(end, int(found[-1]) + 1 if len(found) else 0)
    return names[-1].spool, end, np.concatenate([np.array([], np.int64), *held])


def _days(path: Path, site: str, columns: list[str]) -> Iterator[Iterator[pa.Table]]:
    """A table's rows by day, and of each day some at a time: it may hold months, and a day of seconds is long."""
    table = WindowTable(path)
    if not table.exists or not set(columns) <= {field.name for field in latest(path).schema().fields}:
        return  # of before a gateway landed anything there
    for day in sorted(table.rows_by_day(site)):
        wanted = (pc.field(SITE) == site) & (pc.field(DATE) == pa.scalar(day))
        yield (pa.Table.from_batches([batch]) for batch in scan_batches(path, wanted, columns))


class _Ids:
    """The ids of a day's readings, of all gateways: a sender that went over from one to another takes its count along.
    A reading that stands under two positions says the same time in both."""

    def __init__(self) -> None:
        self._seqs: dict[str, list[tuple[_Positions, np.ndarray]]] = {}

    def add(self, own: _Positions, ids: pa.Array) -> None:
        ids = ids.drop_null()
        if not len(ids):  # of a file whose rows are all there again, say
            return
        parts = pc.split_pattern(ids, "/", max_splits=1, reverse=True)
        senders = pc.list_element(parts, 0).dictionary_encode()
        seqs = pc.list_element(parts, 1).cast(pa.int64()).to_numpy(zero_copy_only=False)
        codes = senders.indices.to_numpy()
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(1, len(senders.dictionary)))
        for sender, some in zip(senders.dictionary.to_pylist(), np.split(seqs[order], bounds), strict=True):
            self._seqs.setdefault(sender, []).append((own, some))

    def count_twice(self) -> None:
        for sender, parts in self._seqs.items():
            seqs, counts = np.unique(np.concatenate([some for _, some in parts]), return_counts=True)
            again = seqs[counts > 1]
            if len(again):
                names = [f"{sender}/{seq}" for seq in again[:_SHOWN].tolist()]
                owner, _ = parts[-1]
                owner.found_twice(int((counts - 1).sum()), names)


def _add_rows(spools: Mapping[str, _Spools], fleet: str, rows: pa.Table, site: str, found: _Ids) -> None:
    batches = rows[BATCH].combine_chunks().dictionary_encode()
    codes = pc.fill_null(batches.indices, len(batches.dictionary)).to_numpy(zero_copy_only=False)
    owners: dict[int, _Positions] = {}
    owner, first = np.full(len(batches.dictionary) + 1, -1), np.zeros(len(batches.dictionary) + 1, np.int64)
    for code, name in enumerate(batches.dictionary.to_pylist()):
        told = _BATCH.fullmatch(name)
        own = spools[told["gateway"]].by_id.get(told["spool"]) if told and told["gateway"] in spools else None
        if told is not None and own is not None and told["site"] == site:
            owners[id(own)] = own
            owner[code], first[code] = list(owners).index(id(own)), int(told["first"])
    positions = rows[OFFSET].to_numpy() + first[codes]
    for number, own in enumerate(owners.values()):
        # What has come since asking began is not asked about.
        mine = (owner[codes] == number) & (positions < own.end)
        ids = rows[READING_ID].combine_chunks().filter(pa.array(mine))
        new = own.take(positions[mine], own.stored, ids)
        found.add(own, ids.filter(pa.array(new)))
        refused = int((pc.is_valid(rows[DEFECT]).to_numpy()[mine] & new).sum())
        counts = own.fleets.get(fleet, _NONE)
        own.fleets[fleet] = FleetCounts(counts.stored + int(new.sum()), counts.quarantined + refused)


def _add_letters(spools: Mapping[str, _Spools], rows: pa.Table) -> None:
    for gateway, own in spools.items():
        for spool, there in own.by_id.items():
            mine = rows.filter(pc.and_(pc.equal(rows["gateway"], gateway), pc.equal(rows["spool"], spool)))
            mine = mine.filter(pc.less(mine["position"], there.end))
            names = pc.binary_join_element_wise("position", mine["position"].cast(pa.string()), " ")
            there.take(mine["position"].to_numpy(), there.lettered, names.combine_chunks())


def _ranges(positions: np.ndarray) -> list[str]:
    """`a-b` for runs of positions, the first of them."""
    if not len(positions):
        return []
    runs = np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1)[:_SHOWN]
    return [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
