"""From a reading to its advisory through the whole gateway, against a bare echo over the same broker.

The gateway is the real process, with 1,000 machines of 20 sensors: contract check, spool with its fsync, features,
breaker, model, advisory. Readings come at 1,000 a second; in turn at the gateway and at a process that sends back what
it gets. What the wait for the disk took of it is the gateway's own count; the answer is made meanwhile. Then 10,000 a
second, for the processor time, from a sender that costs next to nothing: for a minute, as the gateway writes down where
its machines stand, and its porter lands what was kept, once in each.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks._gateway_process import PATIENCE_S, answered_s, cpu_s, gateway_at, kept_s, rss_mb, status, until
from benchmarks._released_fans import FLEET, LEVEL, MACHINES, NAMES, SITE, SPREAD, released_fans
from benchmarks.measure import Benchmark, line

BARE = "bare"
"""The echo's topics: neither has the other's messages to work on."""
RATE, BUSY, SECONDS, BUSY_S, ROUNDS = 1_000, 10_000, 4.0, 60.0, 5
SETTINGS = "allow_anonymous true\nset_tcp_nodelay true\n"
"""Else what is small waits for the acknowledgement of what went before, milliseconds both ways."""


@dataclass(frozen=True)
class _Took:
    sent: int
    answered: int
    p50_s: float
    p99_s: float


def _machines(file: Path) -> None:
    """What each machine sends, the same each time."""
    drawn = random.Random(5)  # noqa: S311 - values for a benchmark
    told = (
        {"equipment_id": f"F-{n:04d}", "values": {name: round(drawn.gauss(LEVEL, SPREAD), 2) for name in NAMES}}
        for n in range(MACHINES)
    )
    file.write_text("\n".join(map(json.dumps, told)))


def _pace(port: int, site: str, kind: str, rate: float, seconds: float, file: Path) -> _Took:
    command = [sys.executable, "-m", "benchmarks._mqtt_pace", str(port), site, kind, str(rate), str(seconds), str(file)]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PATIENCE_S).stdout)
    return _Took(**told)


def _rows() -> Iterator[str]:
    from tests.gateway.mosquitto import Mosquitto

    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name) / "broker", SETTINGS, log="error") as broker:
        folder = Path(name)
        plant = released_fans(folder, broker.url)
        _machines(folder / "machines")
        began = time.monotonic()
        with gateway_at(plant) as (pid, address):
            start_s = time.monotonic() - began
            echo = subprocess.Popen(
                [sys.executable, "-m", "benchmarks._mqtt_echo", str(broker.port), BARE], stdout=subprocess.PIPE
            )
            try:
                until(lambda: status(address)["fleets"][FLEET]["release"] is not None)
                yield from _measured(pid, broker.port, address, folder / "machines", start_s)
            finally:
                echo.terminate()
                echo.wait(30)


def _measured(pid: int, port: int, address: Path, machines: Path, start_s: float) -> Iterator[str]:
    _pace(port, SITE, "advisory", RATE, 1.0, machines)
    ours, peer, waits = [], [], []
    for turn in range(ROUNDS):
        for site, kind in ((SITE, "advisory"), (BARE, "echo"))[:: 1 if turn % 2 else -1]:
            before = kept_s(address.read_text())
            took = _pace(port, site, kind, RATE, SECONDS, machines)
            (peer if site == BARE else ours).append(took)
            if site == SITE:
                after = kept_s(address.read_text())
                waits.append((after[0] - before[0]) / (after[1] - before[1]))
    p50, echo50 = (statistics.median(took.p50_s for took in side) for side in (ours, peer))
    p99, echo99 = (statistics.median(took.p99_s for took in side) for side in (ours, peer))
    wait = statistics.median(waits)
    yield line(f"reading → advisory at {RATE:,}/s, p50 / bare echo", p50, echo50, "told")
    yield line("the same, less the wait for the disk", p50 - wait, echo50, "≤ 2×")
    yield line("reading → advisory, p99 / bare echo", p99, echo99, "told")
    sent, answered = sum(took.sent for took in ours), sum(took.answered for took in ours)
    yield f"| readings without an advisory, of {sent:,} | {sent - answered} | | | 0 |"
    yield _who(f"who answered at {RATE:,}/s", address)
    yield from _busy(pid, port, address)
    yield f"| from its start until it tells where its page is | {start_s:.1f} s | | | told |"
    yield f"| memory of the process | {rss_mb(pid):.0f} MB | | | told |"


def _busy(pid: int, port: int, address: Path) -> Iterator[str]:
    """Whoever sends and hears so much in Python takes the processors that it is to measure: here nobody hears."""
    count = int(BUSY * BUSY_S)
    command = [sys.executable, "-m", "benchmarks._mqtt_fleet", str(port), SITE, str(1000 * MACHINES // BUSY)]
    sender = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        _send(sender, BUSY)
        before_s, before, known = cpu_s(pid), answered_s(address.read_text()), status(address)["served_by"]
        seconds = _send(sender, count)
        until(lambda: sum(status(address)["served_by"].values()) >= sum(known.values()) + count)
        spent = (cpu_s(pid) - before_s) / count * 1e6
        after = answered_s(address.read_text())
    finally:
        sender.terminate()
        sender.wait(30)
    what = f"processor time of a reading that was answered, sent at {count / seconds:,.0f}/s"
    yield f"| {what} | {spent:.0f} µs | 60 µs | {spent / 60:.2f}× | ≤ 1× |"
    mean_s = (after[0] - before[0]) / (after[1] - before[1])
    yield f"| the same: from its arrival to its advisory, on average | {mean_s * 1e3:.0f} ms | | | told |"
    yield _who("the same: who answered", address, known)


def _send(sender: subprocess.Popen[str], count: int) -> float:
    """Seconds until the broker had them all."""
    assert sender.stdin is not None
    assert sender.stdout is not None
    began = time.monotonic()
    print(count, BUSY, file=sender.stdin, flush=True)
    assert sender.stdout.readline().strip() == "done"
    return time.monotonic() - began


def _who(what: str, address: Path, before: Mapping[str, int] | None = None) -> str:
    served = status(address)["served_by"]
    told = {who: count - (before or {}).get(who, 0) for who, count in served.items()}
    return f"| {what} | {', '.join(f'{who} {count:,}' for who, count in told.items() if count)} | | | the model |"


SPEC = Benchmark("gateway_answer", _rows)
