"""What the gateway's process takes of memory, with 1,000 machines of 20 sensors, ONNX and MQTT, and whether it grows.

The real process; its porter does not run, so that this is not about landing: the spool lets go of the oldest. Readings
are sent as fast as they are kept and answered, some hundreds under way. `GATEWAY_MEMORY_READINGS` is how many, such as
10000000; memory is told after a hundred thousand, two, five, a million and so on. Whether it grows is judged from two
million on: each machine has sent as many then as are remembered by their ids.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._gateway_process import cpu_s, forget_most, gateway_at, rss_mb, status, until
from benchmarks._released_fans import FLEET, MACHINES, SENSORS, SITE, released_fans
from benchmarks.measure import Benchmark
from gateway.sequences import IDS

READINGS, AT_ONCE, UNDER_WAY = 300_000, 250, 500
REMEMBERED = (IDS + 64) * MACHINES
"""Readings until as many ids as are remembered have come of each machine; up to then memory grows by these."""
MARKS = [digit * 10**power for power in range(5, 9) for digit in (1, 2, 5)]
LIMIT_MB, GROWTH_MB = 150, 5


def _rows() -> Iterator[str]:
    from tests.gateway.mosquitto import Mosquitto

    count = int(os.environ.get("GATEWAY_MEMORY_READINGS", READINGS))
    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name) / "broker", log="error") as broker:
        plant = released_fans(Path(name), broker.url)
        with gateway_at(plant, "--no-porter") as (pid, address):
            until(lambda: status(address)["sources"]["mqtt-1"]["connected"])
            command = [sys.executable, "-m", "benchmarks._mqtt_fleet", str(broker.port), SITE]
            fleet = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert fleet.stdin is not None
            assert fleet.stdout is not None
            try:
                idle, before_s, began = rss_mb(pid), cpu_s(pid), time.monotonic()
                forget_most(pid)
                sizes: dict[int, float] = {}
                sent = 0
                for mark in [*(m for m in MARKS if m < count), count]:
                    while sent < mark:
                        print(AT_ONCE, file=fleet.stdin, flush=True)
                        fleet.stdout.readline()
                        sent += AT_ONCE
                        until(lambda wanted=sent - UNDER_WAY: _answered(address) >= wanted, every_s=0.02)
                    until(lambda wanted=sent: _answered(address) >= wanted, every_s=0.02)
                    sizes[sent] = rss_mb(pid)
                took_s = time.monotonic() - began
                most, own = rss_mb(pid, "VmHWM"), rss_mb(pid, "RssAnon")
                spent, told = (cpu_s(pid) - before_s) / sent * 1e6, status(address)
            finally:
                fleet.kill()
                fleet.wait()
        of = f"{MACHINES:,} machines of {SENSORS} sensors"
        yield _row(f"memory of a gateway of {of}", max(sizes.values()), LIMIT_MB)
        yield f"| the same at its peak, over checkpoints and snapshots | {most:.0f} MB | | | told |"
        yield f"| the same without the pages of files | {own:.0f} MB | | | told |"
        yield f"| the same before the first reading | {idle:.0f} MB | | | told |"
        for at, size in sizes.items():
            yield f"| the same after {at:,} readings | {size:.0f} MB | | | told |"
        full = [at for at in sizes if at >= REMEMBERED]
        if len(full) > 1:
            grown = max(sizes[at] for at in full[1:]) - sizes[full[0]]
            yield _row(f"growth from {full[0]:,} readings to {full[-1]:,}", grown, GROWTH_MB)
        served, release = told["served_by"], told["fleets"][FLEET]["release"]
        who = ", ".join(f"{name} {n:,}" for name, n in served.items())
        each = f"{sent / took_s:,.0f} a second, {spent:.0f} µs of a processor each"
        yield f"| who answered (release {release}; {each}) | {who} | | | told |"


def _row(what: str, found_mb: float, limit_mb: float) -> str:
    return f"| {what} | {found_mb:.0f} MB | {limit_mb:.0f} MB | {found_mb / limit_mb:.2f}× | ≤ 1× |"


def _answered(address: Path) -> int:
    return sum(status(address)["served_by"].values())


SPEC = Benchmark("gateway_memory", _rows)
