"""From a gateway's start to its first advisory, with 1,000 machines' features from their last checkpoint.

The process ran before and ended in an orderly way. A reading of one machine is with the broker when it starts again.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._gateway_process import cpu_s, gateway_at, status, until
from benchmarks._released_fans import LEVEL, MACHINES, NAMES, SITE, released_fans
from benchmarks.measure import Benchmark, line

ROUNDS, LIMIT_S = 5, 1.0


def _rows() -> Iterator[str]:
    from tests.gateway.mosquitto import Mosquitto

    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name) / "broker", log="error") as broker:
        plant = released_fans(Path(name), broker.url)
        with gateway_at(plant, "--no-porter") as (_, address):  # the broker knows its session from here on
            until(lambda: status(address)["sources"]["mqtt-1"]["connected"])
            _send_one_each(broker.port)
            until(lambda: sum(status(address)["served_by"].values()) >= MACHINES)
        waited, spent, served = [], [], []
        for number in range(ROUNDS):
            first = _First(broker.port)
            first.send(number)
            began = time.monotonic()
            with gateway_at(plant, "--no-porter") as (pid, address):
                waited.append(first.heard_at() - began)
                until(lambda: status(address)["sources"]["mqtt-1"]["connected"])
                spent.append(cpu_s(pid))
            served.append(first.told["served_by"])
        took, limit = statistics.median(waited), LIMIT_S
        yield line(f"from a gateway's start to its first advisory, {MACHINES:,} machines", took, limit, "≤ 1×")
        yield f"| the same, processor time until its page answers | {statistics.median(spent):.1f} s | | | told |"
        yield f"| who gave it | {', '.join(served)} | | | the model |"


def _send_one_each(port: int) -> None:
    command = [sys.executable, "-m", "benchmarks._mqtt_fleet", str(port), SITE]
    subprocess.run(command, input=f"{MACHINES}\n", text=True, stdout=subprocess.DEVNULL, check=True, timeout=60)


class _First:
    """A sender that waits for the answer to one reading."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client

        self.told: dict[str, Any] = {}
        self._at, self._heard, self._subscribed = 0.0, threading.Event(), threading.Event()
        self._client = Client()
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(f"hybrid/{SITE}/F-0000/advisory", qos=1)
        assert self._subscribed.wait(10)

    def send(self, number: int) -> None:
        """A reading of now; returns when the broker has it."""
        values = dict.fromkeys(NAMES, LEVEL)
        told = {"ts": time.time_ns() // 1_000_000, "seq": number, "session": f"start-{number}", "values": values}
        self._client.publish(f"hybrid/{SITE}/F-0000/telemetry", json.dumps(told), qos=1).wait_for_publish(10)

    def heard_at(self) -> float:
        """When the answer came, by the monotonic clock."""
        assert self._heard.wait(60)
        self._client.loop_stop()
        self._client.disconnect()
        return self._at

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        self._at, self.told = time.monotonic(), json.loads(message.payload)
        self._heard.set()


SPEC = Benchmark("gateway_start", _rows)
