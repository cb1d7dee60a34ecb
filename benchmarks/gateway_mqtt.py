"""QoS 1 into the gateway, on the disk before it is acknowledged, against `mosquitto_sub` writing to nowhere.

Both take the same messages of about 350 bytes from a fresh mosquitto with its limits set, in turn. The time is from the
first message published to the last received, or kept; beside it the processor time of a message in the receiver.

Once under MQTT 5, where mosquitto has as many messages under way as the receiver asks for; and once under 3.1.1, where
it has 20 by default: after every 20 both wait for each other, and the gateway for its disk as well.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks._mqtt_publisher import reading
from benchmarks.measure import Benchmark, line

MESSAGES, ROUNDS = 50_000, 5
LEAST_SHARE = 0.8
FEW = 20
"""Messages under way: mosquitto's default for who does not ask for more, which only MQTT 5 can."""
PATIENCE_S = 120


@dataclass(frozen=True)
class _Run:
    wall_s: float
    cpu_us: float
    dropped: int


def _gateway(port: int, folder: Path, version: str) -> tuple[subprocess.Popen[bytes], bool]:
    return _module("_mqtt_gateway", str(port), str(MESSAGES), str(folder), version), True


def _peer(port: int, _: Path, version: str) -> tuple[subprocess.Popen[bytes], bool]:
    command = [
        "mosquitto_sub",
        "-p",
        str(port),
        "-V",
        version.replace("3.1.1", "311"),
        "-q",
        "1",
        "-t",
        "hybrid/bench/+/telemetry",
        "-C",
    ]
    return subprocess.Popen([*command, str(MESSAGES)], stdout=subprocess.DEVNULL), False


def _module(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _says(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    said = process.stdout.readline().decode().strip()
    assert said, f"{process.args!r} said nothing"
    return said


def _run(ours: bool, version: str, under_way: int) -> _Run:
    """Of messages under way at most so many; 0: any number."""
    from tests.gateway.mosquitto import Mosquitto

    settings = f"allow_anonymous true\nmax_inflight_messages {under_way}\n"
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder) / "m", settings, log="subscribe") as broker:
        publisher = _module("_mqtt_publisher", str(broker.port), str(MESSAGES))
        receiver, talks = (_gateway if ours else _peer)(broker.port, Path(folder), version)
        try:
            _says(publisher)
            if talks:
                _says(receiver)
            until = time.monotonic() + PATIENCE_S
            while "/telemetry" not in broker.log:
                assert time.monotonic() < until, "nobody subscribed"
                time.sleep(0.01)
            assert publisher.stdin is not None
            began = time.perf_counter()
            publisher.stdin.write(b"go\n")
            publisher.stdin.flush()
            if talks:
                said = json.loads(_says(receiver))
                wall_s, cpu_s = time.perf_counter() - began, said["cpu_s"]
                assert said["kept"] == said["counted"] == MESSAGES, said
            else:
                _, status, used = os.wait4(receiver.pid, 0)
                wall_s, cpu_s = time.perf_counter() - began, used.ru_utime + used.ru_stime
                receiver.returncode = os.waitstatus_to_exitcode(status)
                assert receiver.returncode == 0, "mosquitto_sub failed"
            return _Run(wall_s, cpu_s / MESSAGES * 1e6, _dropped(broker.port))
        finally:
            for process in (publisher, receiver):
                if process.returncode is None:
                    process.kill()
                    process.wait()


def _dropped(port: int) -> int:
    """What the broker says it dropped, a second after: it counts once in that time."""
    time.sleep(1.1)
    topic = "$SYS/broker/publish/messages/dropped"
    command = ["mosquitto_sub", "-p", str(port), "-t", topic, "-C", "1", "-W", "5"]
    return int(subprocess.run(command, check=True, capture_output=True, timeout=10).stdout)


def _rows() -> Iterator[str]:
    if shutil.which("mosquitto_sub") is None:
        yield "| gateway over MQTT | – | – | – | needs mosquitto and mosquitto-clients |"
        return
    yield _row("5", 0, f"≤ {1 / LEAST_SHARE:.2f}× (≥ {LEAST_SHARE} of its rate)")
    yield _row("3.1.1", FEW, "–")


def _row(version: str, under_way: int, limit: str) -> str:
    runs: dict[bool, list[_Run]] = {True: [], False: []}
    for number in range(ROUNDS + 1):
        for ours in (True, False) if number % 2 else (False, True):
            run = _run(ours, version, under_way)
            assert run.dropped == 0, f"the broker dropped {run.dropped}"
            if number:  # the first round finds caches cold
                runs[ours].append(run)
    wall = {ours: statistics.median(run.wall_s for run in of) for ours, of in runs.items()}
    cpu = {ours: statistics.median(run.cpu_us for run in of) for ours, of in runs.items()}
    pairs = [mine.wall_s / peer.wall_s for mine, peer in zip(runs[True], runs[False], strict=True)]
    size, few = len(reading(MESSAGES - 1)), f", {under_way} under way" if under_way else ""
    what = (
        f"{MESSAGES:,} readings of {size} bytes over MQTT {version} at QoS 1{few}, checked, on the disk, acknowledged "
        f"({MESSAGES / wall[True]:,.0f}/s, {cpu[True]:.0f} µs of a processor each, none dropped) / `mosquitto_sub` to "
        f"nowhere ({MESSAGES / wall[False]:,.0f}/s, {cpu[False]:.0f} µs)"
    )
    return line(what, wall[True], wall[False], limit, ratio=statistics.median(pairs))


SPEC = Benchmark("gateway_mqtt", _rows)
