"""The gateway's own intake on a spool of its own, for pumps P-* with a flow, as a source's other side."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from backbone.contracts import Column, Contract
from gateway.contract_check import ContractJudge, Equipment, ReadingCheck
from gateway.counters import Counters
from gateway.decoding import Reading, digest_of
from gateway.intake import DurableIntake
from gateway.known_letters import KnownLetters
from gateway.ports import Message
from gateway.rates import Rates
from gateway.records import Record
from gateway.sequences import Sequences
from gateway.settings import SpoolSettings
from gateway.spool import Spool
from tests.gateway.hasty_disk import HastyDisk

PUMP = Contract(
    "pump",
    "1.0.0",
    "",
    "reliability",
    (
        Column("equipment_id", "string", role="key", required=True, key=True),
        Column("ts", "timestamp", role="key", required=True, key=True),
        Column("flow", "number", role="input", unit="m3/h", minimum=0, maximum=100),
        Column("note", "string"),
    ),
)


def judge() -> ContractJudge:
    return ContractJudge(Equipment({"pump": ("P-*",)}), {"pump": ReadingCheck(PUMP, ahead_s=600.0)}, {})


@contextlib.asynccontextmanager
async def durable_intake(
    folder: Path,
    *,
    per_source_per_s: float | None = None,
    pending: int = 50_000,
    settings: SpoolSettings | None = None,
    counters: Counters | None = None,
    letters: KnownLetters | None = None,
) -> AsyncIterator[DurableIntake]:
    """An intake that knows again what its spool holds, as the process does after a restart."""
    with Spool(folder, settings or SpoolSettings(), disk=HastyDisk()) as spool:
        sequences, known = Sequences(), KnownLetters() if letters is None else letters
        for record in (Record.from_bytes(data) for _, data in spool.read(spool.begin, spool.end)):
            judged = judge().judge(Message(record.source, record.equipment, record.raw, record.received_us))
            if record.reason is not None:
                known.keep(record.source, record.digest or digest_of(record.raw))
            elif isinstance(judged, Reading):
                sequences.kept(judged.source, judged.session, judged.seq, judged.digest)
        intake = DurableIntake(
            spool,
            judge(),
            sequences,
            known,
            pending=pending,
            rates=Rates(per_source_per_s, time.monotonic),
            counters=counters or Counters(),
            kept=lambda *_: None,
            now_us=lambda: time.time_ns() // 1000,
        )
        try:
            yield intake
        finally:
            await intake.drain()


def records(folder: Path) -> Iterator[Record]:
    """What a spool holds that nobody has open."""
    with Spool(folder, SpoolSettings(), disk=HastyDisk()) as spool:
        yield from [Record.from_bytes(data) for _, data in spool.read(spool.begin, spool.end)]
