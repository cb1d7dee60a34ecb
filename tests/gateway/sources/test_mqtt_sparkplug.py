"""Sparkplug B through a real mosquitto: births, data, a gap, and the request that follows it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pysparkplug
from pysparkplug import DBirth, DData, Metric, NBirth

from gateway import reasons
from gateway.sources.mqtt import SPEC
from tests.gateway.held_intake import HeldIntake, context, serving, told, until
from tests.gateway.mosquitto import Listener, Mosquitto, needs_mosquitto

pytestmark = needs_mosquitto
MS = 1_735_819_200_000
NODE = "spBv1.0/plant/{}/edge"


def flow(value: float) -> Metric:
    return Metric(MS, "flow", pysparkplug.DataType.DOUBLE, value=value)


def acknowledged(broker: Mosquitto) -> int:
    return broker.log.count("Received PUBACK from hybrid-north-gw-1")


def test_nodes_are_heard_and_asked_to_be_born_again_after_a_gap(tmp_path: Path) -> None:
    async def scenario(broker: Mosquitto) -> None:
        intake = HeldIntake()
        settings = {"url": broker.url, "sparkplug": {"group": "plant", "columns": {"flow": "flow_m3_h"}}}
        with Listener(broker.port, NODE.format("NCMD")) as node:
            async with serving(SPEC, intake, context(tmp_path, settings)):
                bd_seq = Metric(MS, "bdSeq", pysparkplug.DataType.UINT64, value=1)
                node.publish(NODE.format("NBIRTH"), NBirth(MS, 0, (bd_seq,)).encode())
                node.publish(NODE.format("DBIRTH") + "/P-1", DBirth(MS, 1, (flow(1.0),)).encode())
                await intake.has(1)
                await until(lambda: acknowledged(broker) == 1)  # the node's birth holds no reading
                node.publish(NODE.format("DDATA") + "/P-1", DData(MS, 2, (flow(2.0),)).encode())
                await intake.has(2)
                assert acknowledged(broker) == 1
                intake.answer = told
                intake.settle(lambda seq: seq >= 0)
                await until(lambda: acknowledged(broker) == 3)
                node.publish(NODE.format("DDATA") + "/P-1", DData(MS, 9, (flow(3.0),)).encode())
                assert len(await asyncio.to_thread(node.first, 1)) == 1
                node.publish(NODE.format("DDATA") + "/P-2", DData(MS, 10, (flow(3.0),)).encode())
                await until(lambda: bool(intake.letters))
        assert [(m.source, m.equipment, json.loads(m.payload)["values"]) for m in intake.offered] == [
            ("plant/edge", "P-1", {"flow_m3_h": value}) for value in (1.0, 2.0, 3.0)
        ]
        assert [(source, equipment, reason) for source, equipment, _, reason in intake.letters] == [
            ("plant/edge", "P-2", reasons.NO_BIRTH)
        ]

    with Mosquitto(tmp_path / "mosquitto") as broker:
        asyncio.run(scenario(broker))
