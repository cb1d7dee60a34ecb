"""Records of the spool as rows: a fleet's readings, column by column, and dead letters.

Records are decoded with the hot process's own code. They are not held against the contract again: they were when they
were acknowledged, and a record that turned out otherwise now would be there twice after a crash, or not at all.
Ingestion checks every row once more, and what a later contract refuses ends in quarantine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backbone.contracts import Contract
from gateway import reasons
from gateway.contract_check import Equipment
from gateway.decoding import Sent, decode, timestamp_us
from gateway.records import Record
from resources.dead_letters import LETTERS
from resources.landing import IS_HISTORICAL, OFFSET, READING_ID, RECEIVED_AT
from resources.stores.tables import DATE, SITE

UNREADABLE_RECORD = "unreadable_record"
"""The spool gave back bytes that are no record; not a sender's fault."""
_UTC_US = pa.timestamp("us", tz="UTC")
_CHUNK = 4096
"""Rows that are turned into arrays at a time: as Python's objects they take fifty times the memory."""
_IDENTITY = ("equipment_id", "ts")


@lru_cache(maxsize=1 << 16)
def _escaped(name: str) -> str:
    """A part of a reading's id: different ids have different texts."""
    return name.replace("%", "%25").replace("/", "%2F")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter at its position."""

    position: int
    record: Record
    reason: str


class FleetRows:
    """Readings of one fleet, as they are added."""

    def __init__(self, contract: Contract) -> None:
        self._columns = [c for c in contract.columns if c.name not in _IDENTITY]
        self._names = [c.name for c in self._columns]
        self._types = [c.arrow_type for c in self._columns]
        self._takes: list[Callable[[Any], Any] | None] = [_TAKES.get(c.logical_type) for c in self._columns]
        self._pending: list[tuple[int, Record, Sent, bool]] = []
        self._rows: list[pa.Table] = []
        self._told: list[pa.Table] = []
        self.refused: list[Letter] = []
        """Readings whose values are not of the types that the contract has by now."""
        self.sources: dict[str, None] = {}

    def add(self, position: int, record: Record, sent: Sent, historical: bool) -> None:
        self._pending.append((position, record, sent, historical))
        if len(self._pending) >= _CHUNK:
            self._settle()

    def tables(self, first: int, since: int) -> tuple[pa.Table, pa.Table]:
        """The rows from position `since` on, as sent, and what is told of them; offsets count from position `first`."""
        self._settle()
        if not self._rows:
            return pa.table({}), pa.table({})
        rows, told = pa.concat_tables(self._rows), pa.concat_tables(self._told)
        if since > first:
            wanted = pc.greater_equal(told["position"], since)
            rows, told = rows.filter(wanted), told.filter(wanted)
        offsets = pa.array(told["position"].to_numpy() - first)
        return rows, told.append_column(OFFSET, offsets).drop_columns(["position"])

    def _settle(self) -> None:
        pending, self._pending = self._pending, []
        columns = self._arrays([sent.values for _, _, sent, _ in pending])
        if columns is None:
            pending = [one for one in pending if not self._misfit(*one[:3])]
            columns = self._arrays([sent.values for _, _, sent, _ in pending])
            assert columns is not None
        if not pending:
            return
        positions, records, sent, historical = zip(*pending, strict=True)
        identity = {
            "equipment_id": pa.array([r.equipment for r in records], pa.string()),
            "ts": pa.array([s.ts_us for s in sent], pa.int64()).cast(_UTC_US),
        }
        self._rows.append(pa.table(identity | dict(zip(self._names, columns, strict=True))))
        ids = [f"{_escaped(r.source)}/{_escaped(s.session)}/{s.seq}" for r, s in zip(records, sent, strict=True)]
        self._told.append(
            pa.table(
                {
                    "position": pa.array(positions, pa.int64()),
                    READING_ID: pa.array(ids, pa.string()),
                    RECEIVED_AT: pa.array([r.received_us for r in records], pa.int64()).cast(_UTC_US),
                    IS_HISTORICAL: pa.array(historical, pa.bool_()),
                }
            )
        )
        self.sources |= dict.fromkeys(r.source for r in records)

    def _arrays(self, rows: Sequence[Mapping[str, Any]]) -> list[pa.Array] | None:
        """The values' columns; None where one does not fit its type."""
        arrays = []
        try:
            for name, kind, take in zip(self._names, self._types, self._takes, strict=True):
                values = [row.get(name) for row in rows]
                if take is not None:
                    values = [None if value is None else take(value) for value in values]
                arrays.append(pa.array(values, kind))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None
        return arrays

    def _misfit(self, position: int, record: Record, sent: Sent) -> bool:
        for name, kind, take in zip(self._names, self._types, self._takes, strict=True):
            value = sent.values.get(name)
            try:
                pa.array([take(value) if take is not None and value is not None else value], kind)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                self.refused.append(Letter(position, record, f"wrong_type:{name}"))
                return True
        return False


def _moment(value: Any) -> int:
    found = timestamp_us(value)
    if found is None:
        raise ValueError(value)
    return found


_TAKES: Mapping[str, Callable[[Any], Any]] = {"timestamp": _moment, "date": date.fromisoformat}


@dataclass(slots=True)
class Sorted:
    """Records, sorted by where they go.

    Attributes:
        newest_us: when the newest of them was received; 0: there is none.
    """

    equipment: Equipment
    contracts: Mapping[str, Contract]
    historical_us: int
    fleets: dict[str, FleetRows] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    newest_us: int = 0

    def add(self, position: int, data: bytes, now_us: int) -> None:
        """Take in what the spool holds at a position."""
        try:
            record = Record.from_bytes(data)
        except Exception:  # whatever bytes do: they are kept, with a reason
            self.letters.append(Letter(position, Record("", "", data, now_us), UNREADABLE_RECORD))
            return
        self.newest_us = max(self.newest_us, record.received_us)
        if record.reason is not None:
            self.letters.append(Letter(position, record, record.reason))
            return
        sent = decode(record.raw)
        if not isinstance(sent, Sent):
            self.letters.append(Letter(position, record, sent.reason))
            return
        fleet = self.equipment.fleet(record.equipment)
        if fleet is None or fleet not in self.contracts:
            self.letters.append(Letter(position, record, reasons.UNREGISTERED_EQUIPMENT))
            return
        if fleet not in self.fleets:
            self.fleets[fleet] = FleetRows(self.contracts[fleet])
        kept_long = now_us - record.received_us > self.historical_us
        self.fleets[fleet].add(position, record, sent, kept_long or sent.is_historical)


def letters_table(
    site: str, gateway: str, spool: str, letters: Sequence[Letter], fleet: Callable[[str], str | None]
) -> pa.Table:
    """Dead letters in `LETTERS`; `fleet` says which one a machine is of."""
    received = [datetime.fromtimestamp(letter.record.received_us / 1e6, UTC) for letter in letters]
    raws = [letter.record.raw for letter in letters]
    columns = {
        SITE: [site] * len(letters),
        DATE: [when.date() for when in received],
        "gateway": [gateway] * len(letters),
        "spool": [spool] * len(letters),
        "position": [letter.position for letter in letters],
        "source": [letter.record.source for letter in letters],
        "equipment": [letter.record.equipment for letter in letters],
        "equipment_class": [fleet(letter.record.equipment) for letter in letters],
        "reason": [letter.reason for letter in letters],
        "digest": [f"sha256:{hashlib.sha256(raw).hexdigest()}" for raw in raws],
        "raw": raws,
        "received_at": pa.array([letter.record.received_us for letter in letters], pa.int64()).cast(_UTC_US),
        "traceparent": [letter.record.traceparent for letter in letters],
    }
    return pa.table(columns, schema=LETTERS)
