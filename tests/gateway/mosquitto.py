"""A real mosquitto for tests, and a client that hears what goes over it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chaos.floor.broker import EXECUTABLE, Mosquitto

__all__ = ["Heard", "Listener", "Mosquitto", "needs_mosquitto"]
needs_mosquitto = pytest.mark.skipif(
    not Path(EXECUTABLE).exists(), reason="mosquitto is not installed (apt: mosquitto)"
)


class Listener:
    """A client that hears topics at QoS 1, from when it is entered; works with any broker.

    Args:
        version: of the protocol, 5 or 3.1.1.
    """

    def __init__(self, port: int, *topics: str, version: object = 5) -> None:
        from paho.mqtt.client import Client, MQTTv5, MQTTv311

        self._heard: list[Heard] = []
        self._port, self._topics, self._subscribed, self._changed = (
            port,
            topics,
            threading.Event(),
            threading.Condition(),
        )
        self._client = Client(protocol=MQTTv5 if version == 5 else MQTTv311)
        self._client.on_connect = lambda *_: self._client.subscribe([(topic, 1) for topic in topics])
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message

    def first(self, count: int) -> list[Heard]:
        """The first messages, as soon as there are as many."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self._heard) >= count, 20)
            assert enough, f"heard {len(self._heard)} of {count}: {self._heard}"
            return self._heard[:count]

    def publish(self, topic: str, payload: str | bytes) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def __enter__(self) -> Listener:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._subscribed.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _: object, __: object, message: Any) -> None:
        with self._changed:
            self._heard.append(Heard(message.topic, message.payload))
            self._changed.notify_all()


@dataclass(frozen=True)
class Heard:
    topic: str
    payload: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.payload)
