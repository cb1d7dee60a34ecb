"""An MQTT broker for a plant that has none: amqtt, in a process of its own, on this machine only.

It speaks MQTT 3.1.1 and keeps everything in memory. What it promises is little: it queues for a gateway that is away,
but forgets what was under way to the gateway when their connection broke, or stayed unacknowledged for five seconds
(amqtt 0.12.1 has those in its code, nothing sets them), and everything when it dies itself. Senders that repeat what
the gateway did not acknowledge (`gateway.sender`) lose nothing by it; for others, install a real broker.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from types import TracebackType

from backbone.errors import TargetFailed

START_S = 20.0
STOP_S = 5.0


class EmbeddedBroker:
    """A context manager; or `start` and `stop`. It ends with the process that started it.

    Args:
        port: of 127.0.0.1; 0: a free one, which it keeps when it is started again.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, and return when it listens.

        Raises:
            TargetFailed: it does not, after 20 seconds at most.
        """
        command = [sys.executable, "-m", "gateway.embedded_broker_process", str(self.port)]
        pipe = subprocess.PIPE
        # In a group of its own: who ends the gateway with its group is still to be acknowledged to.
        self._process = process = subprocess.Popen(  # noqa: S603
            command, stdin=pipe, stdout=pipe, start_new_session=True
        )
        assert process.stdout is not None
        said = b""
        if select.select([process.stdout], [], [], START_S)[0]:
            said = process.stdout.readline()
        if not said:
            self.kill()
            raise TargetFailed(
                f"The embedded broker did not start on port {self.port}.",
                next_step="See what it wrote; is the port free?",
            )
        self.port = int(json.loads(said)["port"])

    def stop(self) -> None:
        """End it in an orderly way."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
