"""Source `mqtt` against a real mosquitto, both versions of the protocol, with an intake that settles by hand."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backbone.errors import ConfigurationError
from chaos.floor.tcp_proxy import TcpProxy
from gateway import reasons
from gateway.counters import Counters
from gateway.intake import LONGEST_LETTER
from gateway.ports import Fate, Message, Settled
from gateway.sources.mqtt import SPEC, MqttSource
from tests.gateway.durable_intake import durable_intake, records
from tests.gateway.held_intake import HeldIntake, context, seq_of, serving, told, until
from tests.gateway.mosquitto import Listener, Mosquitto, needs_mosquitto

pytestmark = needs_mosquitto
VERSIONS = pytest.mark.parametrize("version", [5, "3.1.1"])


def publish(port: int, *seqs: int, equipment: str = "P-1", options: tuple[str, ...] = ("-q", "1")) -> None:
    """Readings of one machine, in order, and wait until the broker has them."""
    lines = "".join(json.dumps({"ts": 1, "seq": seq, "session": "s", "values": {}}) + "\n" for seq in seqs)
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-V", "5", "-l"]
    topic = ["-t", f"hybrid/north/{equipment}/telemetry"]
    subprocess.run([*command, *topic, *options], input=lines, text=True, check=True, timeout=20)


async def published(port: int, *seqs: int, **more: Any) -> None:
    await asyncio.to_thread(lambda: publish(port, *seqs, **more))


def settings(port: int, version: object = 5, **more: object) -> dict[str, object]:
    return {"url": f"mqtt://127.0.0.1:{port}", "version": version, "keepalive_s": 5, **more}


@VERSIONS
def test_a_broker_delivers_again_exactly_what_was_not_settled(
    broker: Mosquitto, tmp_path: Path, version: object
) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        with TcpProxy("127.0.0.1", broker.port) as proxy:
            async with serving(SPEC, intake, context(tmp_path, settings(proxy.port, version))):
                await published(broker.port, *range(20))
                await intake.has(20)
                intake.settle(lambda seq: seq % 2 == 0)
                await until(lambda: broker.log.count("Received PUBACK from hybrid-north-gw-1") == 10)
                proxy.reset()
                proxy.passing()
                await intake.has(30)
                await published(broker.port, 20)
                await intake.has(31)
        assert intake.seqs[20:] == [*range(1, 20, 2), 20]

    asyncio.run(scenario())


@VERSIONS
def test_what_came_on_a_connection_is_not_acknowledged_on_the_next(
    broker: Mosquitto, tmp_path: Path, version: object
) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        with TcpProxy("127.0.0.1", broker.port) as proxy:
            async with serving(SPEC, intake, context(tmp_path, settings(proxy.port, version))):
                await published(broker.port, 0, 1, 2)
                await intake.has(3)
                proxy.reset()
                proxy.passing()
                await intake.has(6)
                first, intake.held = intake.held[:3], intake.held[3:]
                for message, settled in first:
                    settled(told(message))
                proxy.reset()
                proxy.passing()
                await intake.has(9)
        assert "Received PUBACK" not in broker.log

    asyncio.run(scenario())


@VERSIONS
def test_the_broker_keeps_what_comes_while_the_gateway_is_down(
    broker: Mosquitto, tmp_path: Path, version: object
) -> None:
    async def scenario() -> None:
        for first in (0, 50):
            intake = HeldIntake()
            intake.answer = told
            async with serving(SPEC, intake, context(tmp_path, settings(broker.port, version))):
                await intake.has(first)
            await published(broker.port, *range(50))
        assert intake.seqs == list(range(50))

    asyncio.run(scenario())


def test_a_broker_that_is_killed_or_down_at_the_start_is_waited_for(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        broker.kill()
        source = SPEC.open(context(tmp_path, settings(broker.port)))
        ready = asyncio.Event()
        task = asyncio.create_task(source.serve(intake, ready))
        await until(lambda: source.health()["trouble"] is not None)
        assert not source.health()["connected"]
        for seq in range(3):
            await asyncio.to_thread(broker.start)
            await until(lambda: bool(source.health()["connected"]) and source.health()["trouble"] is None)
            assert ready.is_set()
            await published(broker.port, seq)
            await intake.has(seq + 1)
            broker.kill()
            await until(lambda: not source.health()["connected"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert intake.seqs == [0, 1, 2]

    asyncio.run(scenario())


def _ends_with(offered: list[Message], seq: int) -> bool:
    return bool(offered) and seq_of(offered[-1]) == seq


@VERSIONS
def test_a_flood_that_is_read_late_comes_whole_and_in_order_also_past_an_end_in_its_midst(
    broker: Mosquitto, tmp_path: Path, version: object
) -> None:
    async def scenario() -> None:
        found: list[int] = []
        flood: asyncio.Task[None] | None = None
        while len(found) < 8_000:
            intake = HeldIntake()
            intake.answer = told
            async with serving(SPEC, intake, context(tmp_path, settings(broker.port, version))):
                if flood is None:  # the broker knows by now for whom it is
                    flood = asyncio.create_task(published(broker.port, *range(8_000)))
                    await intake.has(3_000)
                else:
                    await until(partial(_ends_with, intake.offered, 7_999))
            known = set(found)
            found += [seq for seq in intake.seqs if seq not in known]  # what was settled last may come again
        assert flood is not None
        await flood
        assert found == list(range(8_000))

    asyncio.run(scenario())


def test_nothing_is_lost_on_a_flapping_line(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        with TcpProxy("127.0.0.1", broker.port) as proxy:
            async with serving(SPEC, intake, context(tmp_path, settings(proxy.port))) as source:
                for round_ in range(8):
                    await published(broker.port, *range(200 * round_, 200 * round_ + 200))
                    proxy.reset()
                    proxy.passing()
                await until(lambda: len(set(intake.seqs)) == 1600)
                assert source.health()["connections"] > 1

    asyncio.run(scenario())


def test_a_half_open_connection_is_noticed_by_its_silence(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        with TcpProxy("127.0.0.1", broker.port) as proxy:
            async with serving(SPEC, intake, context(tmp_path, settings(proxy.port, keepalive_s=1))) as source:
                proxy.blackhole()
                # That it is lost is seen before it is told why.
                await until(lambda: "silent" in str(source.health()["trouble"]))
                assert not source.health()["connected"]
                proxy.passing()
                await published(broker.port, 7)
                await intake.has(1)

    asyncio.run(scenario())


@VERSIONS
def test_a_full_spool_leaves_everything_with_the_broker(broker: Mosquitto, tmp_path: Path, version: object) -> None:
    full = True

    def answer(message: Message) -> Settled:
        refused = full and json.loads(message.payload)["seq"] >= 3
        return told(message, Fate.REFUSED, reasons.SPOOL_FULL, 0.2) if refused else told(message)

    async def scenario() -> None:
        nonlocal full
        intake = HeldIntake()
        intake.answer = answer
        with Listener(broker.port, "hybrid/north/P-1/ack") as acks:
            async with serving(SPEC, intake, context(tmp_path, settings(broker.port, version))) as source:
                await published(broker.port, *range(6))
                await until(lambda: source.health()["holding"] == reasons.SPOOL_FULL)
                kept, refused = [ack.told for ack in await asyncio.to_thread(acks.first, 2)]
                assert broker.log.count("Received PUBACK from hybrid-north-gw-1") == 3
                full = False
                await until(lambda: intake.seqs.count(5) == 1)
                await until(lambda: broker.log.count("Received PUBACK from hybrid-north-gw-1") == 6)
                assert source.health()["holding"] is None
        assert kept == {"source": "P-1", "session": "s", "from": 0, "seq": 2}
        assert (refused["refused"], refused["session"], refused["seq"]) == (reasons.SPOOL_FULL, "s", 3)
        assert refused["retry_after_s"] >= 0.2
        assert intake.seqs == [0, 1, 2, 3, 3, 4, 5]

    asyncio.run(scenario())


@VERSIONS
def test_one_source_over_its_rate_does_not_hold_up_the_others(
    broker: Mosquitto, tmp_path: Path, version: object
) -> None:
    def answer(message: Message) -> Settled:
        busy = Settled(Fate.REFUSED, reasons.RATE_EXCEEDED, retry_after_s=2.5)
        return busy if message.equipment == "P-1" else told(message)

    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = answer
        with Listener(broker.port, "hybrid/north/P-1/ack") as acks:
            async with serving(SPEC, intake, context(tmp_path, settings(broker.port, version))) as source:
                await published(broker.port, 1, 2, equipment="P-1")
                await published(broker.port, 3, equipment="P-2")
                await intake.has(3)
                assert source.health()["holding"] is None
                refused = (await asyncio.to_thread(acks.first, 1))[0].told
                await until(lambda: broker.log.count("Received PUBACK from hybrid-north-gw-1") == 3)
        assert refused == {"source": "P-1", "refused": reasons.RATE_EXCEEDED, "retry_after_s": 2.5}
        assert broker.log.count("RC:151") == (2 if version == 5 else 0)

    asyncio.run(scenario())


def publish_large(port: int, seq: int, size: int) -> bytes:
    """A reading that is far too large, and wait until the broker has it."""
    payload = json.dumps({"ts": 1, "seq": seq, "session": "s", "values": {}, "more": "x" * size}).encode()
    command = ["mosquitto_pub", "-p", str(port), "-q", "1", "-t", "hybrid/north/P-1/telemetry", "-s"]
    subprocess.run(command, input=payload, check=True, timeout=20)
    return payload


def test_a_message_of_20_mb_is_a_dead_letter_and_holds_up_no_other(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> tuple[bytes, object]:
        counters = Counters()
        async with (
            durable_intake(tmp_path / "spool", counters=counters) as kept,
            serving(SPEC, kept, context(tmp_path, settings(broker.port, "3.1.1"))) as source,
        ):
            await published(broker.port, 1)
            payload = await asyncio.to_thread(publish_large, broker.port, 2, 20_000_000)
            await published(broker.port, 3)
            await until(lambda: broker.log.count("Received PUBACK from hybrid-north-gw-1") == 3)
            await asyncio.to_thread(publish_large, broker.port, 2, 20_000_000)
            await until(lambda: broker.log.count("Received PUBACK from hybrid-north-gw-1") == 4)
            assert counters.reasons[Fate.DEAD_LETTER, reasons.TOO_LARGE] == 2
            return payload, source.health()["connections"]

    payload, connections = asyncio.run(scenario())
    first, large, last = records(tmp_path / "spool")
    assert [json.loads(each.raw)["seq"] for each in (first, last)] == [1, 3]
    assert (large.source, large.reason) == ("P-1", reasons.TOO_LARGE)
    assert payload.startswith(large.raw)
    assert len(large.raw) == LONGEST_LETTER
    assert connections == 1


def test_under_mqtt_5_the_broker_keeps_what_is_too_large_to_itself(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        async with serving(SPEC, intake, context(tmp_path, settings(broker.port))) as source:
            await published(broker.port, 1)
            await asyncio.to_thread(publish_large, broker.port, 2, 20_000_000)
            await asyncio.to_thread(publish_large, broker.port, 3, 1_000_000)
            await published(broker.port, 4)
            await intake.has(3)
            await until(lambda: broker.log.count("Received PUBACK from hybrid-north-gw-1") == 3)
            assert source.health()["connections"] == 1
        assert intake.seqs == [1, 3, 4]

    asyncio.run(scenario())


def test_acknowledgements_add_up_and_start_anew_after_a_gap(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        with Listener(broker.port, "hybrid/north/+/ack") as acks:
            async with serving(SPEC, intake, context(tmp_path, settings(broker.port))):
                await published(broker.port, 4, 5, 6)
                await asyncio.to_thread(acks.first, 1)
                await published(broker.port, 7)
                await asyncio.to_thread(acks.first, 2)
                await published(broker.port, 6, 9, 10)
                heard = await asyncio.to_thread(acks.first, 4)
        assert {each.topic for each in heard} == {"hybrid/north/P-1/ack"}
        assert [(each.told["from"], each.told["seq"]) for each in heard] == [(4, 6), (4, 7), (4, 7), (9, 10)]

    asyncio.run(scenario())


def test_under_a_name_that_is_no_machines_nobody_is_told_anything(broker: Mosquitto, tmp_path: Path) -> None:
    def answer(message: Message) -> Settled:
        busy = Settled(Fate.REFUSED, reasons.RATE_EXCEEDED, "s", 1, 2.5)
        return busy if message.payload.endswith(b"1}") else told(message)

    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = answer
        with Listener(broker.port, "hybrid/north/+/ack") as acks:
            async with serving(SPEC, intake, context(tmp_path, settings(broker.port))):
                for seq in (1, 2):
                    await published(broker.port, seq, equipment="P" * 129)
                await published(broker.port, 3)
                (heard,) = await asyncio.to_thread(acks.first, 1)
                await until(lambda: broker.log.count("Received PUBACK from hybrid-north-gw-1") == 3)
        assert heard.topic == "hybrid/north/P-1/ack"

    asyncio.run(scenario())


def test_trace_contexts_retained_and_unconfirmed_messages_are_taken_in(broker: Mosquitto, tmp_path: Path) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        await published(broker.port, 1, options=("-q", "1", "-r"))
        async with serving(SPEC, intake, context(tmp_path, settings(broker.port))):
            await intake.has(1)
            await published(broker.port, 2, options=("-q", "0"))
            await published(broker.port, 3, options=("-q", "2", "-D", "PUBLISH", "user-property", "traceparent", trace))
            await intake.has(3)
        assert [(m.source, m.equipment, m.traceparent) for m in intake.offered] == [
            ("P-1", "P-1", None),
            ("P-1", "P-1", None),
            ("P-1", "P-1", trace),
        ]
        async with serving(SPEC, intake, context(tmp_path, settings(broker.port))):
            await published(broker.port, 4)
            await intake.has(4)
        assert intake.seqs == [1, 2, 3, 4]

    asyncio.run(scenario())


@VERSIONS
def test_a_burst_of_advisories_leaves_as_fast_as_the_broker_takes_it(
    broker: Mosquitto, tmp_path: Path, version: object
) -> None:
    async def scenario() -> list[bytes]:
        with Listener(broker.port, "hybrid/north/P-7/advisory") as advisories:
            async with serving(SPEC, HeldIntake(), context(tmp_path, settings(broker.port, version))) as source:
                assert isinstance(source, MqttSource)
                for number in range(500):
                    source.publish("P-7", "advisory", str(number).encode())
                return [each.payload for each in await asyncio.to_thread(advisories.first, 500)]

    assert asyncio.run(scenario()) == [str(number).encode() for number in range(500)]


@pytest.mark.parametrize(
    ("equipment", "traceparent"),
    [("P-\ud800", None), ("P-7", "00-\ud800"), ("P" * 70_000, None), ("P-7", "0" * 70_000)],
    ids=["topic", "trace", "long topic", "long trace"],
)
def test_an_advisory_that_mqtt_cannot_carry_does_not_hold_up_the_others(
    broker: Mosquitto, tmp_path: Path, equipment: str, traceparent: str | None
) -> None:
    async def scenario() -> tuple[list[bytes], object]:
        with Listener(broker.port, "hybrid/north/P-7/advisory") as advisories:
            async with serving(SPEC, HeldIntake(), context(tmp_path, settings(broker.port))) as source:
                assert isinstance(source, MqttSource)
                source.publish("P-7", "advisory", b"before")
                source.publish(equipment, "advisory", b"never", traceparent)
                source.publish("P-7", "advisory", b"after")
                heard = [each.payload for each in await asyncio.to_thread(advisories.first, 2)]
                return heard, source.health()["not_published"]

    assert asyncio.run(scenario()) == ([b"before", b"after"], 1)


@VERSIONS
def test_people_see_whether_the_gateway_is_there(broker: Mosquitto, tmp_path: Path, version: object) -> None:
    async def scenario() -> list[Any]:
        with Listener(broker.port, "hybrid/north/status/gw-1") as states:
            with TcpProxy("127.0.0.1", broker.port) as proxy:
                async with serving(SPEC, HeldIntake(), context(tmp_path, settings(proxy.port, version))) as source:
                    await asyncio.to_thread(states.first, 1)
                    proxy.refuse()
                    await until(lambda: not source.health()["connected"])
                    proxy.passing()
                    await until(lambda: source.health()["connections"] == 2)
                    await asyncio.to_thread(states.first, 3)
            return [each.told for each in await asyncio.to_thread(states.first, 4)]

    states = asyncio.run(scenario())
    assert [state["state"] for state in states] == ["online", "offline", "online", "offline"]
    assert {state["gateway"] for state in states} == {"gw-1"}


SERVING = """
import asyncio, sys
from pathlib import Path
from gateway.ports import SourceContext
from gateway.sources.mqtt import SPEC
given = SourceContext("north", "gw-1", Path("."), Path("."), {"url": sys.argv[1]}, lambda: 0)
asyncio.run(SPEC.open(given).serve(None, asyncio.Event()))
"""


def test_a_killed_gateways_will_is_published(broker: Mosquitto) -> None:
    with Listener(broker.port, "hybrid/north/status/gw-1") as states:
        process = subprocess.Popen([sys.executable, "-c", SERVING, broker.url])
        try:
            assert states.first(1)[0].told["state"] == "online"
        finally:
            process.kill()
            process.wait(10)
        assert states.first(2)[1].told["state"] == "offline"


def test_only_the_sites_telemetry_is_offered_even_if_a_session_once_had_more(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        async with serving(SPEC, intake, context(tmp_path, settings(broker.port, namespace="former"))):
            pass
        async with serving(SPEC, intake, context(tmp_path, settings(broker.port))) as source:
            subprocess.run(
                ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", "former/north/P-1/telemetry", "-m", "{}"],
                check=True,
                timeout=20,
            )
            await published(broker.port, 1)
            await intake.has(1)
            assert source.health()["not_ours_to_read"] == 1
            await until(lambda: broker.log.count("Received PUBACK from hybrid-north-gw-1") == 2)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"url": "http://broker:1883"}, "url"),
        ({"url": "mqtt://user:secret@broker"}, "password_file"),
        ({"url": "mqtt://broker/path"}, "url"),
        ({"url": "mqtt://broker:x"}, "url"),
        ({"url": "mqtt://broker", "version": 4}, "version"),
        ({"url": "mqtt://broker", "ca": "ca.pem"}, "TLS"),
        ({"url": "mqtts://broker", "ca": "missing.pem"}, "certificates"),
        ({"url": "mqtts://broker", "certificate": "a.pem"}, "together"),
        ({"url": "mqtt://broker", "username": "u", "password_file": "missing"}, "password_file"),
        ({"url": "mqtt://broker", "password_file": "missing"}, "username"),
        ({"url": "mqtt://broker", "namespace": "a/#"}, "namespace"),
        ({"url": "mqtt://broker", "pasword_file": "x"}, "password_file"),
    ],
)
def test_settings_that_can_never_work_are_refused_at_once(tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        SPEC.open(context(tmp_path, wrong))
