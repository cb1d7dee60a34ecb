"""A real mosquitto on loopback, with its limits set, that can be killed and started again on the same port."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXECUTABLE = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
needs_mosquitto = pytest.mark.skipif(
    not Path(EXECUTABLE).exists(), reason="mosquitto is not installed (apt: mosquitto)"
)

LIMITS = """
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes 0
"""


class Mosquitto:
    """A context manager.

    Args:
        folder: for its configuration, its log and, if `persistent`, what it keeps.
        settings: further lines of `mosquitto.conf`, for the one listener.
        log: what it writes down.
        persistent: it keeps sessions when it is ended in an orderly way.
    """

    def __init__(
        self, folder: Path, settings: str = "allow_anonymous true\n", *, persistent: bool = False, log: str = "all"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._process = folder, None
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port: int = free.getsockname()[1]
        kept = f"persistence true\npersistence_location {folder}/\n" if persistent else "persistence false\n"
        text = f"{kept}{LIMITS}sys_interval 1\nuser root\nlog_dest file {folder}/log\nlog_type {log}\n"
        (folder / "mosquitto.conf").write_text(f"{text}listener {self.port} 127.0.0.1\n{settings}")

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        self._process = subprocess.Popen(
            [EXECUTABLE, "-c", str(self._folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            assert self._process.poll() is None, self.log
            assert time.monotonic() < until, "mosquitto does not listen"
            time.sleep(0.01)

    def stop(self) -> None:
        """In an orderly way: it writes down what it keeps."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def reload(self) -> None:
        """SIGHUP: it reads its files anew."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


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
