"""Features against another baseline are brought up to date from the spool while readings are answered."""

import asyncio
import itertools
from pathlib import Path

import orjson
import pytest
from msgspec.structs import replace

from backbone.fallback import DEADLINE
from chaos.floor.machines import FLOWING
from gateway.answering import Answering
from gateway.contract_check import ContractJudge, Equipment
from gateway.counters import Counters
from gateway.edge_features import EdgeFeatures
from gateway.exchange import read_state
from gateway.records import Record
from gateway.recovery import SpoolHistory
from gateway.scoring_jobs import EdgeAdvisory
from gateway.settings import SpoolSettings
from gateway.spool import Spool
from tests.gateway.test_edge_scoring import AFTER, Edge

RECORDS, MACHINES, DEADLINE_S = 100_000, 50, 0.05
LATER = 10**15
"""Microseconds that live readings lie after those of the spool."""


def _record(number: int) -> bytes:
    equipment, ts_ms = f"P-{number % MACHINES}", int(AFTER.timestamp()) * 1000 + number
    sent = {"ts": ts_ms, "seq": number, "session": "s", "values": FLOWING}
    return Record(equipment, equipment, orjson.dumps(sent), ts_ms * 1000, None, None).to_bytes()


@pytest.mark.slow
@pytest.mark.alone
def test_a_spool_of_a_hundred_thousand_records_makes_no_answer_late(tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    edge.made.release()
    edge.look()
    fleet, counters = edge.fleet, Counters()
    state = read_state(edge.made.folders.state("pump"))
    assert state is not None
    fresh = EdgeFeatures(fleet.cls, state, fleet.check.columns)
    judge = ContractJudge(Equipment({"pump": ("P-*",)}), {"pump": fleet.check}, {})
    published: list[EdgeAdvisory] = []

    async def run(spool: Spool) -> int:
        answering = Answering(
            {"pump": fleet.scoring}, lambda _: "pump", published.extend, deadline_s=DEADLINE_S, counters=counters
        )
        history = SpoolHistory(spool, judge, lambda _: "pump")
        whole = asyncio.create_task(history.bring_up_to_date(fresh, "pump", lambda: spool.end))
        for sent in itertools.count():
            if whole.done():
                break
            reading = edge.reading(1, f"P-{sent % MACHINES}")
            answering.take([replace(reading, seq=sent, ts_us=reading.ts_us + LATER + sent)])
            await asyncio.sleep(0.002)
        await whole
        await answering.close()
        return sent

    with Spool(tmp_path / "spool", SpoolSettings()) as spool:
        for first in range(0, RECORDS, 4000):
            spool.append([_record(number) for number in range(first, first + 4000)])
        sent = asyncio.run(run(spool))
    assert sent > 100
    assert len(published) == sent
    # Of a machine that has other things to do as well, one in a hundred may be told nothing of this.
    assert (counters.answered_after.quantile(0.99) or 0.0) <= DEADLINE_S
    assert sum(answer.fallback_reason == DEADLINE for answer in published) <= sent // 100
    (left,) = fresh.checkpoint("pump")
    assert left.checkpoint is not None
    newest = dict(zip(left.checkpoint["equipment"].tolist(), left.checkpoint["readings"].tolist(), strict=True))
    assert newest["P-49"] == RECORDS // MACHINES
