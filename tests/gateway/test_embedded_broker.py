"""The broker for plants that have none, with the gateway's source and a device's sender."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backbone.errors import TargetFailed
from gateway import mqtt_connection
from gateway.embedded_broker import EmbeddedBroker
from gateway.mqtt_connection import Broker
from gateway.ports import GatewaySource
from gateway.sender import Sender
from gateway.sources.mqtt import SPEC
from tests.gateway.held_intake import HeldIntake, context, serving, told, until
from tests.gateway.mosquitto import Listener

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


def settings(broker: EmbeddedBroker, **more: object) -> dict[str, object]:
    return {"url": broker.url, "version": "3.1.1", "keepalive_s": 5, **more}


def test_readings_come_in_and_advisories_go_out(running: EmbeddedBroker, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        with (
            Listener(running.port, "hybrid/north/P-1/advisory", "hybrid/north/status/+", version="3.1.1") as heard,
            Sender(Broker(running.url, "3.1.1"), "north", "P-1", answer_s=1.0) as sender,
        ):
            async with serving(SPEC, intake, context(tmp_path, settings(running, client_id="in-and-out"))) as source:
                for number in range(20):
                    sender.send(NOW, {"flow": float(number)})
                await intake.has(20)
                assert sender.unacknowledged == 20
                intake.answer = told
                intake.settle(lambda seq: seq < 10)
                await until(lambda: sender.unacknowledged == 10)
                intake.settle(lambda seq: seq >= 10)
                assert await asyncio.to_thread(sender.drain, 20.0)
                source.publish("P-1", "advisory", b"look")  # type: ignore[attr-defined]
                told_first = await asyncio.to_thread(heard.first, 2)
        assert {each.topic for each in told_first} == {"hybrid/north/P-1/advisory", "hybrid/north/status/gw-1"}

    asyncio.run(scenario())


def test_it_keeps_what_comes_while_the_gateway_is_down(running: EmbeddedBroker, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        given = context(tmp_path, settings(running, client_id="away"), site="south")
        async with serving(SPEC, intake, given):
            pass
        message = '{"seq": 5}'
        topic = "hybrid/south/P-1/telemetry"
        with Listener(running.port, topic, version="3.1.1") as others:
            others.publish(topic, message)
            await asyncio.to_thread(others.first, 1)
        async with serving(SPEC, intake, given):
            await intake.has(1)
        assert intake.seqs == [5]

    asyncio.run(scenario())


def test_when_it_is_killed_senders_make_up_for_what_it_forgot(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        broker = EmbeddedBroker()
        broker.start()
        try:
            with Sender(Broker(broker.url, "3.1.1"), "north", "P-1", answer_s=0.5) as sender:
                async with serving(SPEC, intake, context(tmp_path, settings(broker))) as source:
                    for number in range(200):
                        sender.send(NOW, {"flow": float(number)})
                        if number == 100:
                            await intake.has(1)
                            broker.kill()
                            await until(lambda: not connected(source))
                            await asyncio.to_thread(broker.start)
                    assert await asyncio.to_thread(sender.drain, 20.0)
            assert set(intake.seqs) == set(range(200))
        finally:
            broker.stop()

    asyncio.run(scenario())


def connected(source: GatewaySource) -> bool:
    return bool(source.health()["connected"])


def test_a_source_that_is_set_to_mqtt_5_is_told_to_change(
    running: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_connection, "CONNECT_S", 0.5)

    async def scenario() -> str:
        source = SPEC.open(context(tmp_path, {"url": running.url}))
        task = asyncio.create_task(source.serve(HeldIntake(), asyncio.Event()))
        await until(lambda: source.health()["trouble"] is not None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return str(source.health()["trouble"])

    assert 'version = "3.1.1"' in asyncio.run(scenario())


def test_it_ends_with_whoever_started_it() -> None:
    code = (
        "from gateway.embedded_broker import EmbeddedBroker; import os, sys\n"
        "broker = EmbeddedBroker(); broker.start(); print(broker.pid, flush=True); os._exit(1)"
    )
    parent = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=30)
    pid = int(parent.stdout)

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return b"Z" in Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1][:3]

    asyncio.run(until(gone))


def test_a_port_that_is_taken_is_said(running: EmbeddedBroker) -> None:
    with pytest.raises(TargetFailed, match=str(running.port)):
        EmbeddedBroker(running.port).start()
