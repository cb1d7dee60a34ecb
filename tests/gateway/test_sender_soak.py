"""Senders, lines, a broker and a gateway that all fail by chance, from a seed: what was acknowledged was kept."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path

import pytest

from chaos.floor.tcp_proxy import TcpProxy
from gateway import reasons
from gateway.mqtt_connection import Broker
from gateway.ports import Fate, Message, Settled
from gateway.sender import Sender
from gateway.sources.mqtt import SPEC
from tests.gateway.held_intake import HeldIntake, Settle, context, serving, told
from tests.gateway.mosquitto import Mosquitto, needs_mosquitto

pytestmark = [needs_mosquitto, pytest.mark.slow]
SENDERS, AT_ONCE, LIVES_S = 4, 20, 10.0


class FailingIntake(HeldIntake):
    """Refuses some, settles others late, and forgets what it has not settled when it is `dead`."""

    def __init__(self, draw: random.Random, kept: set[tuple[str, int]]) -> None:
        super().__init__()
        self._draw, self._kept, self.dead = draw, kept, False

    def offer(self, message: Message, settled: Settle) -> None:
        if (chance := self._draw.random()) < 0.003:
            settled(told(message, Fate.REFUSED, reasons.SPOOL_FULL, 0.05))
        elif chance < 0.006:
            settled(Settled(Fate.REFUSED, reasons.RATE_EXCEEDED, retry_after_s=0.05))
        else:
            wait_s = self._draw.choice([0, 0.001, 0.02])
            asyncio.get_running_loop().call_later(wait_s, self._decide, message, settled)

    def _decide(self, message: Message, settled: Settle) -> None:
        if self.dead:
            return
        if self._draw.random() < 0.002:
            settled(told(message, Fate.REFUSED, reasons.SPOOL_FAILED, 0.05))
            return
        self._kept.add(id_of(message))
        settled(told(message))


def id_of(message: Message) -> tuple[str, int]:
    read = json.loads(message.payload)
    return read["session"], read["seq"]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_acknowledged_is_missing(seed: int, tmp_path: Path) -> None:
    draw, kept, sent = random.Random(seed), set[tuple[str, int]](), set[tuple[str, int]]()  # noqa: S311
    version = 5 if seed % 2 else "3.1.1"

    async def lives(broker: Mosquitto, inwards: TcpProxy, outwards: TcpProxy) -> None:
        given = {"url": f"mqtt://127.0.0.1:{inwards.port}", "version": version, "keepalive_s": 2}
        reached = Broker(f"mqtt://127.0.0.1:{outwards.port}", version)
        senders = [
            Sender(reached, "north", f"P-{n}", tmp_path / "kept" if n % 2 else None, answer_s=0.7)
            for n in range(SENDERS)
        ]
        until = time.monotonic() + LIVES_S
        while time.monotonic() < until:
            intake = FailingIntake(draw, kept)
            source = SPEC.open(context(tmp_path, given))
            task = asyncio.create_task(source.serve(intake, asyncio.Event()))
            for _ in range(draw.randint(5, 30)):
                for sender in senders:
                    sent.update((sender.session, sender.send(1_767_323_045_000, {"flow": 1.0})) for _ in range(AT_ONCE))
                await asyncio.sleep(draw.random() * 0.1)
                await mishap(broker, inwards, outwards)
                unacknowledged = sum(sender.unacknowledged for sender in senders)
                assert len(kept & sent) >= len(sent) - unacknowledged, "acknowledged, and never kept"
            intake.dead = draw.random() < 0.5
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            intake.dead = True
        last = HeldIntake()

        def keep(message: Message) -> Settled:
            kept.add(id_of(message))
            return told(message)

        last.answer = keep
        async with serving(SPEC, last, context(tmp_path, given)):
            for sender in senders:
                assert await asyncio.to_thread(sender.drain, 60.0), sender.trouble
        for sender in senders:
            sender.close()

    async def mishap(broker: Mosquitto, inwards: TcpProxy, outwards: TcpProxy) -> None:
        chance = draw.random()
        if chance < 0.2:
            line = inwards if chance < 0.1 else outwards
            line.reset()
            line.passing()
        elif chance < 0.23:
            broker.kill()
            await asyncio.to_thread(broker.start)
        elif chance < 0.25:
            inwards.blackhole()
            await asyncio.sleep(0.2)
            inwards.passing()

    with (
        Mosquitto(tmp_path / "mosquitto", log="error") as broker,
        TcpProxy("127.0.0.1", broker.port) as inwards,
        TcpProxy("127.0.0.1", broker.port) as outwards,
    ):
        asyncio.run(lives(broker, inwards, outwards))
    assert sent == kept
