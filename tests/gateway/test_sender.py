"""The device's side: nothing that it was given is missing at the intake, whatever happens between."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backbone.errors import ConfigurationError
from gateway import reasons
from gateway.ports import Fate, Message, Settled
from gateway.sender import Sender, SenderFull
from gateway.sources.mqtt import SPEC
from tests.gateway.held_intake import HeldIntake, context, serving, told, until
from tests.gateway.mosquitto import Mosquitto, needs_mosquitto

pytestmark = needs_mosquitto
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def keeping(seen: dict[int, bytes]) -> HeldIntake:
    """An intake that keeps all, and knows repetitions."""
    intake = HeldIntake()

    def answer(message: Message) -> Settled:
        said = told(message)
        assert said.seq is not None
        before = seen.setdefault(said.seq, message.payload)
        assert before == message.payload, "one number, two contents"
        return said

    intake.answer = answer
    return intake


async def drained(sender: Sender) -> None:
    assert await asyncio.to_thread(sender.drain, 20.0), f"{sender.unacknowledged} are left: {sender.trouble}"


@pytest.mark.parametrize("folder", ["kept", None])
def test_a_broker_killed_in_the_middle_costs_no_reading(broker: Mosquitto, tmp_path: Path, folder: str | None) -> None:
    async def scenario() -> None:
        seen: dict[int, bytes] = {}
        intake = keeping(seen)
        kept = None if folder is None else tmp_path / folder
        with Sender(broker.url, "north", "P-1", kept, answer_s=0.5) as sender:
            async with serving(SPEC, intake, context(tmp_path, {"url": broker.url, "keepalive_s": 5})):
                for number in range(300):
                    sender.send(NOW, {"flow": float(number)})
                    if number in (100, 200):
                        await until(lambda: bool(seen))
                        broker.kill()
                        await asyncio.to_thread(broker.start)
                await drained(sender)
        assert sorted(seen) == list(range(300))
        assert [json.loads(seen[n])["values"]["flow"] for n in range(300)] == [float(n) for n in range(300)]

    asyncio.run(scenario())


def test_what_the_broker_acknowledged_and_lost_is_sent_again(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: dict[int, bytes] = {}
        with Sender(broker.url, "north", "P-1", answer_s=0.3) as sender:
            for number in range(50):
                sender.send(NOW, {"flow": float(number)})
            await until(lambda: broker.log.count("Sending PUBACK") >= 50)
            assert sender.unacknowledged == 50  # nobody listens yet: the broker acknowledged, and threw away
            async with serving(SPEC, keeping(seen), context(tmp_path, {"url": broker.url})):
                await drained(sender)
        assert sorted(seen) == list(range(50))

    asyncio.run(scenario())


def test_what_the_broker_threw_away_does_not_wait_for_a_pause_in_what_comes_after_it(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async def scenario() -> None:
        seen: dict[int, bytes] = {}
        with Sender(broker.url, "north", "P-1", answer_s=0.3) as sender:
            sender.send(NOW, {"flow": 0.0})
            await until(lambda: "Sending PUBACK" in broker.log)  # nobody listens yet
            async with serving(SPEC, keeping(seen), context(tmp_path, {"url": broker.url})):

                def come() -> bool:
                    sender.send(NOW, {"flow": 1.0})
                    return 0 in seen

                await until(come)
                assert len(seen) > 1
                await drained(sender)

    asyncio.run(scenario())


def test_readings_outlive_the_sender(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: dict[int, bytes] = {}
        broker.kill()
        with Sender(broker.url, "north", "P-1", tmp_path / "kept") as first:
            assert [first.send(NOW, {"flow": 1.0}) for _ in range(3)] == [0, 1, 2]
        await asyncio.to_thread(broker.start)
        with Sender(broker.url, "north", "P-1", tmp_path / "kept", answer_s=0.3) as second:
            assert (second.session, second.unacknowledged) == (first.session, 3)
            assert second.send(NOW, {"flow": 2.0}) == 3
            async with serving(SPEC, keeping(seen), context(tmp_path, {"url": broker.url})):
                await drained(second)
        with Sender(broker.url, "north", "P-1", tmp_path / "kept") as third:
            assert third.send(NOW, {"flow": 2.0}) == 4
        assert sorted(seen) == [0, 1, 2, 3]

    asyncio.run(scenario())


def test_a_refused_sender_waits_and_sends_again_in_order(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake, full = HeldIntake(), True

        def answer(message: Message) -> Settled:
            return Settled(Fate.REFUSED, reasons.RATE_EXCEEDED, retry_after_s=0.3) if full else told(message)

        intake.answer = answer
        with Sender(broker.url, "north", "P-1", answer_s=30.0) as sender:
            async with serving(SPEC, intake, context(tmp_path, {"url": broker.url})):
                for number in range(10):
                    sender.send(NOW, {"flow": float(number)})
                await until(lambda: sender.trouble == f"refused: {reasons.RATE_EXCEEDED}")
                full, before = False, len(intake.offered)
                await drained(sender)
        assert sorted(set(intake.seqs[before:])) == list(range(10))

    asyncio.run(scenario())


def test_a_gateway_that_was_away_acknowledges_only_what_it_saw(broker: Mosquitto, tmp_path: Path) -> None:
    """The first half was acknowledged by nobody; that the second half is kept says nothing of it."""

    async def scenario() -> None:
        seen: dict[int, bytes] = {}
        with Sender(broker.url, "north", "P-1", answer_s=1.5) as sender:
            for _ in range(5):
                sender.send(NOW, {"flow": 1.0})
            await until(lambda: broker.log.count("Sending PUBACK") >= 5)
            async with serving(SPEC, keeping(seen), context(tmp_path, {"url": broker.url})):
                for _ in range(5):
                    sender.send(NOW, {"flow": 2.0})
                await until(lambda: sender.unacknowledged == 5)
                assert sorted(seen) == list(range(5, 10))
                await drained(sender)
        assert sorted(seen) == list(range(10))

    asyncio.run(scenario())


def test_a_full_sender_says_so(tmp_path: Path) -> None:
    with Sender("mqtt://127.0.0.1:9", "north", "P-1", capacity=2) as sender:
        sender.send(NOW, {"flow": 1.0})
        sender.send("2026-01-02T03:04:05Z", {"flow": float("nan")})
        with pytest.raises(SenderFull):
            sender.send(NOW, {"flow": 3.0}, wait_s=0.01)
        assert sender.unacknowledged == 2


def test_two_senders_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        Sender("mqtt://127.0.0.1:9", "north", "P/1", tmp_path),
        pytest.raises(ConfigurationError, match="another sender"),
    ):
        Sender("mqtt://127.0.0.1:9", "north", "P/1", tmp_path)


def test_the_command_sends_its_input_and_says_what_became_of_it(broker: Mosquitto, tmp_path: Path) -> None:
    lines = [json.dumps({"ts": 1_767_323_045_000 + n, "values": {"flow": n}}) for n in range(20)]
    command = [sys.executable, "-m", "gateway.sender", "--url", broker.url, "--site", "north", "--equipment", "P-1"]

    async def scenario() -> None:
        seen: dict[int, bytes] = {}
        async with serving(SPEC, keeping(seen), context(tmp_path, {"url": broker.url})):
            done = await asyncio.to_thread(
                lambda: subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=30)
            )
        assert (done.returncode, done.stderr) == (0, "")
        said = json.loads(done.stdout)
        assert (said["sent"], said["left"], len(seen)) == (20, 0, 20)

    asyncio.run(scenario())
    bad = subprocess.run([*command, "--drain-s", "0"], input='{"ts": 1}\n', capture_output=True, text=True, timeout=30)
    assert (bad.returncode, "reading 1" in bad.stderr) == (2, True)
