"""A Ray cluster of one node, in a folder of its own: started for tests and benchmarks, and killed by them."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

START_S = 180.0
_TRIES = 3
"""Ray gives its own processes half a minute to find one another: on a busy machine that may be too little."""


class RayCluster:
    """A head with two processors. It ends with `stop`, and with whoever started it."""

    def __init__(self) -> None:
        for left in reversed(range(_TRIES)):
            self._start()
            try:
                return self._wait_until_it_works()
            except RuntimeError:
                if not left:
                    raise

    def _start(self) -> None:
        # Ray keeps Unix sockets in its folder, whose paths may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.port, client_port = _free_port(), _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        beside = Path(sys.executable).parent
        env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
            "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', '')}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_IMPORT_WARNING": "1",
            "RAY_enable_open_telemetry": "0",
        }
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        self._log = (self.folder / "start.log").open("wb")
        self.head = subprocess.Popen(
            [str(beside / "ray"), "start", "--head", "--block", *self._options(client_port)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        atexit.register(self.stop)

    def _options(self, client_port: int) -> list[str]:
        # Ray takes 127.0.0.1 for a wish to be found, and puts the machine's outer address in its place.
        given = {
            "num-cpus": 2,
            "object-store-memory": 100 * 2**20,
            "node-ip-address": "127.0.0.2",
            "port": 0,
            "dashboard-host": "127.0.0.1",
            "include-dashboard": "true",
            "dashboard-port": self.port,
            "dashboard-agent-listen-port": 0,
            "ray-client-server-port": client_port,
            "min-worker-port": 0,
            "max-worker-port": 0,
            "temp-dir": self.folder / "tmp",
        }
        return ["--disable-usage-stats", *(f"--{name}={value}" for name, value in given.items())]

    def _wait_until_it_works(self) -> None:
        """The first job takes seconds longer than the others: the head's agent joins its cluster for it."""
        deadline = time.monotonic() + START_S
        job = None
        while job is None or self._asked(f"/api/jobs/{job['submission_id']}")["status"] != "SUCCEEDED":
            if self.head.poll() is not None or time.monotonic() > deadline:
                told = (self.folder / "start.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"Ray did not start: {told}")
            with contextlib.suppress(OSError):
                job = job or self._asked("/api/jobs/", {"entrypoint": "true"})
            time.sleep(0.1)

    def _asked(self, path: str, said: object = None) -> Any:
        data = json.dumps(said).encode() if said else None
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def kill(self) -> None:
        """End the head at once, as a power cut would: every process of it gets SIGKILL."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.head.wait(30)

    def processes(self) -> set[int]:
        """Every process of the head: those of its group, and those that were told its folder."""
        told = str(self.folder).encode()
        found = set[int]()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if os.getpgid(int(entry.name)) == self.head.pid or told in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
        return found - {os.getpid()}

    def stop(self) -> None:
        """End it, jobs and all."""
        atexit.unregister(self.stop)
        if self.head.poll() is None:
            self.head.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.head.wait(20)
        self.kill()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def shared_cluster() -> RayCluster:
    """One cluster for all that run no risk of breaking it; it ends with this process."""
    return RayCluster()


def _end_with_parent() -> None:
    # `--block` ends every process of the head when it is asked to end.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
