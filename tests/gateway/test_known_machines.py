"""Of machines whose names senders choose, there are as many as the site file has room for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chaos.floor.machines import FLOWING
from gateway import reasons
from gateway.contract_check import ContractJudge, Equipment, ReadingCheck
from gateway.decoding import Reading, Refusal
from gateway.known_letters import KnownLetters
from gateway.known_machines import SENDERS, KnownMachines
from gateway.ports import Message
from gateway.records import Record
from gateway.recovery import SpoolHistory
from gateway.sequences import Sequences, Snapshot
from gateway.settings import SpoolSettings
from gateway.spool import Spool
from tests.gateway.durable_intake import PUMP
from tests.gateway.floor import SITE, Floor, floor
from tests.gateway.hasty_disk import HastyDisk
from tests.gateway.mosquitto import Listener, Mosquitto, needs_mosquitto

EQUIPMENT = Equipment({"pump": ("P-*",)})


def judge(machines: KnownMachines) -> ContractJudge:
    return ContractJudge(EQUIPMENT, {"pump": ReadingCheck(PUMP, ahead_s=600.0)}, {}, machines)


def message(equipment: str, *, source: str | None = None, flow: float = 1.0) -> Message:
    payload = {"ts": "2026-01-02T00:00:00Z", "seq": 1, "session": "s", "values": {"flow": flow}}
    return Message(source or equipment, equipment, json.dumps(payload).encode(), time.time_ns() // 1000)


def why(judged: Reading | Refusal) -> str | None:
    return judged.reason if isinstance(judged, Refusal) else None


def test_beyond_the_bound_a_reading_of_yet_another_machine_is_refused_with_its_id() -> None:
    machines = KnownMachines({"pump": 2})
    plant = judge(machines)
    assert why(plant.judge(message("P-bad", flow=1e9))) == "out_of_range:flow", "it takes nobody's place"
    assert [why(plant.judge(message(f"P-{n}"))) for n in (1, 2, 1, 2)] == [None] * 4
    refused = plant.judge(message("P-3"))
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.session, refused.seq) == (reasons.TOO_MANY_MACHINES, "s", 1)
    assert why(plant.judge(message("P-1"))) is None
    assert machines.told("pump") == {"machines": 2, "machines_at_most": 2}


def test_so_is_one_from_yet_another_sender() -> None:
    plant = judge(KnownMachines({"pump": 2}))
    senders = [f"group/node-{n}" for n in range(2 * SENDERS + 1)]
    told = [why(plant.judge(message("P-1", source=sender))) for sender in senders]
    assert told == [None] * (2 * SENDERS) + [reasons.TOO_MANY_SENDERS]
    assert why(plant.judge(message("P-1", source=senders[0]))) is None


def test_what_was_kept_before_counts_whatever_the_bound_is_by_now(tmp_path: Path) -> None:
    ids = Sequences()
    for source in ("P-1", "http:key:P-2", "file:files"):
        ids.kept(source, "s", 1, bytes(8))
    machines = KnownMachines({"pump": 2})
    plant = judge(machines)
    with Spool(tmp_path, SpoolSettings(), disk=HastyDisk()) as spool:
        for name, reason in (("P-3", None), ("P-4", "out_of_range:flow")):
            sent = message(name)
            spool.append([Record(name, name, sent.payload, sent.received_us, reason).to_bytes()])
        history = SpoolHistory(spool, plant, EQUIPMENT.fleet)
        history.recover(Snapshot(ids, spool.id, 0, ()), KnownLetters(), machines, ())
    assert machines.told("pump") == {"machines": 3, "machines_at_most": 2}
    assert machines.senders_told()["known"] == 4
    assert [why(plant.judge(message(f"P-{n}"))) for n in (1, 2, 3, 4)] == [None] * 3 + [reasons.TOO_MANY_MACHINES]


@pytest.fixture
def works(tmp_path: Path, broker: Mosquitto) -> Iterator[Floor]:
    made = floor(tmp_path, f'machines = 2\n[[gateway.sources]]\nkind = "mqtt"\nurl = "{broker.url}"')
    yield made
    made.end()


@needs_mosquitto
@pytest.mark.slow
def test_a_gateway_counts_them_says_so_and_knows_them_again(works: Floor, broker: Mosquitto) -> None:
    began = datetime.now(UTC) - timedelta(minutes=5)
    for process in range(2):
        works.start()
        works.until(lambda: works.ask()["sources"]["mqtt-1"]["connected"])
        with Listener(broker.port, "nothing") as device:
            for machine in ("P-1", "P-2", "P-3") if process == 0 else ("P-3", "P-2", "P-1"):
                sent = {"ts": (began + timedelta(seconds=process)).isoformat(), "seq": process, "values": FLOWING}
                device.publish(f"hybrid/{SITE}/{machine}/telemetry", json.dumps(sent))
        works.until(lambda: sum(works.ask()["messages"].values()) == 3)
        works.until(lambda: works.ask()["spool"]["waiting"] == 0)
        told = works.ask()
        assert told["messages"] == {"kept": 2, "dead_letter": 1}
        assert told["reasons"] == {f"dead_letter: {reasons.TOO_MANY_MACHINES}": 1}
        assert (told["fleets"]["pump"]["machines"], told["fleets"]["pump"]["machines_at_most"]) == (2, 2)
        assert works.stop() == 0
