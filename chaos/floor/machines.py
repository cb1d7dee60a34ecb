"""Machines that send, each with its own count, and a witness who hears which of their readings were acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.mqtt_connection import Broker, Connection, ConnectionLost, Version
from gateway.mqtt_packets import Arrived
from gateway.sender import Sender

FLOWING = {
    "speed_rpm": 2960.0,
    "ambient_temp_c": 12.5,
    "vibration_mm_s": 2.25,
    "bearing_temp_c": 48.0,
    "motor_current_a": 61.5,
    "flow_m3_h": 120.25,
    "discharge_pressure_bar": 9.5,
    "suction_pressure_bar": 1.25,
    "seal_pressure_bar": 4.5,
}
"""A pump's reading."""
IMPOSSIBLE = {"flow_m3_h": 9999.0}
"""What a contract refuses: it ends as a dead letter."""
ANSWER_S = 0.5
_AGAIN_S = 0.05
_LETTERS = 0.03
_CAUGHT_UP_S = 1.0


class Witness:
    """Hears every acknowledgement that the gateway gives, as any client of the broker may; in a thread of its own."""

    def __init__(self, port: int, site: str, version: Version) -> None:
        self._ranges: dict[tuple[str, str], list[list[int]]] = {}
        self._lock = threading.Lock()
        self._broker, self._topic = Broker(f"mqtt://127.0.0.1:{port}", version), f"hybrid/{site}/+/ack"
        self._loop, self._listens = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="witness", daemon=True)
        self._thread.start()
        self._listens.wait(10)

    def acknowledged(self) -> set[str]:
        """Readings, as `machine/session/number`."""
        with self._lock:
            return {
                f"{machine}/{session}/{seq}"
                for (machine, session), ranges in self._ranges.items()
                for first, last in ranges
                for seq in range(first, last + 1)
            }

    def has(self, machine: str, session: str, seq: int) -> bool:
        """Whether a reading was acknowledged."""
        with self._lock:
            return any(first <= seq <= last for first, last in self._ranges.get((machine, session), ()))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def _work(self) -> None:
        self._task = self._loop.create_task(self._listen())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _listen(self) -> None:
        while True:
            connection = Connection(
                self._broker, "witness", self._received, session_expiry_s=0, receive_maximum=1000, keepalive_s=1
            )
            try:
                await connection.open()
                await connection.subscribe([self._topic])
                self._listens.set()
                await connection.until_ended()
            except ConnectionLost:
                await asyncio.sleep(_AGAIN_S)
            finally:
                await connection.close()

    def _received(self, arrived: Sequence[Arrived]) -> None:
        for _, payload, _, _ in arrived:
            self._heard(payload)

    def _heard(self, payload: bytes) -> None:
        told: dict[str, Any] = json.loads(payload)
        if "from" not in told:
            return
        with self._lock:
            ranges = self._ranges.setdefault((told["source"], told["session"]), [])
            for known in ranges:
                if told["from"] <= known[1] + 1 and told["seq"] >= known[0] - 1:
                    known[:] = [min(known[0], told["from"]), max(known[1], told["seq"])]
                    break
            else:
                ranges.append([told["from"], told["seq"]])


class Machines:
    """Machines that send of their own accord until they are told to stop, now and then something impossible.

    Args:
        per_s: readings a second, of all together.
        seed: of what they send.
        now: when a reading is taken.
        waiting: so many are not acknowledged at most; then they take a break, as what waits is sent again and again.
    """

    def __init__(
        self,
        port: int,
        site: str,
        version: Version,
        *,
        count: int = 4,
        per_s: float,
        seed: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        waiting: int = 300,
    ) -> None:
        broker = Broker(f"mqtt://127.0.0.1:{port}", version)
        self._names = [f"P-{101 + n}" for n in range(count)]
        self._senders = [Sender(broker, site, name, answer_s=ANSWER_S) for name in self._names]
        self._now, self._most = now, waiting
        self._pause_s, self._chance = 1.0 / per_s, random.Random(f"machines:{seed}")  # noqa: S311
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._counts = [0] * count
        self._thread = threading.Thread(target=self._work, name="machines", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Readings that are not acknowledged."""
        return sum(sender.unacknowledged for sender in self._senders)

    @property
    def trouble(self) -> Sequence[str]:
        return [sender.trouble for sender in self._senders if sender.trouble]

    def one_more(self) -> tuple[str, str, int]:
        """Send a reading now: machine, session, number."""
        return self._send(0)

    @property
    def sent(self) -> int:
        return sum(self._counts)

    def ids(self) -> set[str]:
        """All that was sent, as `machine/session/number`."""
        with self._lock:
            return {
                f"{name}/{sender.session}/{seq}"
                for name, sender, count in zip(self._names, self._senders, self._counts, strict=True)
                for seq in range(count)
            }

    def rest(self) -> None:
        """Send nothing more of one's own accord."""
        self._stop.set()
        self._thread.join()

    def drain(self, wait_s: float) -> bool:
        """Wait until everything is acknowledged; whether it is."""
        deadline = time.monotonic() + wait_s
        return all(sender.drain(max(0.0, deadline - time.monotonic())) for sender in self._senders)

    def close(self) -> None:
        self.rest()
        for sender in self._senders:
            sender.close()

    def _work(self) -> None:
        at = time.monotonic()
        while not self._stop.wait(max(0.0, at - time.monotonic())):
            at = max(at + self._pause_s, time.monotonic() - _CAUGHT_UP_S)
            if self.waiting < self._most:
                self._send(self._chance.randrange(len(self._senders)))

    def _send(self, machine: int) -> tuple[str, str, int]:
        with self._lock:
            values = dict(FLOWING, flow_m3_h=100 + self._chance.randrange(500) / 10)
            if self._chance.random() < _LETTERS:
                values |= IMPOSSIBLE
            sender = self._senders[machine]
            seq = sender.send(self._now(), values)
            self._counts[machine] = seq + 1
            return self._names[machine], sender.session, seq
