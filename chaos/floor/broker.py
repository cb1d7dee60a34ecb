"""A broker beside the gateway, as a process that can be killed and started again on the same port."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Protocol

from backbone.errors import TargetFailed
from gateway.embedded_broker import EmbeddedBroker

EXECUTABLE = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
LIMITS = """
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes 0
"""
"""Without them mosquitto drops, once a queue is full, and tells nobody."""
_START_S, _STOP_S = 10.0, 10.0


class FloorBroker(Protocol):
    """What machines and gateway send through."""

    port: int

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...


class Mosquitto:
    """A real mosquitto on loopback, with its limits set. A context manager.

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
        self._folder = folder
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
        """Start it, and return when it listens.

        Raises:
            TargetFailed: it does not.
        """
        self._process = subprocess.Popen(  # noqa: S603
            [EXECUTABLE, "-c", str(self._folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            if self._process.poll() is not None or time.monotonic() > until:
                said = self.log if (self._folder / "log").exists() else "nothing"
                raise TargetFailed(f"mosquitto does not listen; it said: {said}", next_step="See its log.")
            time.sleep(0.01)

    def stop(self) -> None:
        """In an orderly way: it writes down what it keeps."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_STOP_S)

    def reload(self) -> None:
        """SIGHUP: it reads its files anew."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S)

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def broker_at_hand(folder: Path) -> FloorBroker:
    """mosquitto where it is installed, else the broker that the gateway embeds, in a process of its own."""
    return Mosquitto(folder, log="error") if Path(EXECUTABLE).exists() else EmbeddedBroker()
