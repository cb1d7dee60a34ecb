"""What the gateway's process takes of memory, with 1,000 machines of 20 sensors, ONNX and MQTT, and whether it grows.

The real process; its porter does not run, so that this is not about landing: the spool lets go of the oldest. Readings
are sent as fast as they are kept and answered. `GATEWAY_MEMORY_READINGS` is how many: whether memory grows is judged
once each machine has sent as many as are remembered by their ids, from a little over a million on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks._gateway_process import cpu_s, forget_most, gateway_at, rss_mb, status, until
from benchmarks._released_fans import FLEET, MACHINES, SENSORS, SITE, released_fans
from benchmarks.measure import Benchmark
from gateway.sequences import IDS

READINGS, PARTS, AHEAD = 400_000, 10, 100
REMEMBERED = (IDS + 64) * MACHINES
"""Readings until as many ids as are remembered have come of each machine; up to then memory grows by these."""
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
                idle, before_s, sizes, sent = rss_mb(pid), cpu_s(pid), [], 0
                forget_most(pid)
                for part in range(PARTS):
                    while sent < count * (part + 1) // PARTS:
                        print(AHEAD, file=fleet.stdin, flush=True)
                        fleet.stdout.readline()
                        sent += AHEAD
                        until(lambda wanted=sent: _answered(address) >= wanted, every_s=0.005)
                    sizes.append(rss_mb(pid))
                most, own = rss_mb(pid, "VmHWM"), rss_mb(pid, "RssAnon")
                spent, told = (cpu_s(pid) - before_s) / sent * 1e6, status(address)
            finally:
                fleet.kill()
                fleet.wait()
        of = f"{MACHINES:,} machines of {SENSORS} sensors"
        yield _row(f"memory of a gateway of {of}", max(sizes), LIMIT_MB)
        yield f"| the same at its peak, as a checkpoint is written | {most:.0f} MB | | | told |"
        yield f"| the same without the pages of files | {own:.0f} MB | | | told |"
        yield f"| the same before the first reading | {idle:.0f} MB | | | told |"
        after = ", ".join(f"{size:.0f}" for size in sizes)
        yield f"| the same after each tenth of {sent:,} readings | {after} MB | | | told |"
        full = -(-REMEMBERED * PARTS // sent)  # the first part that ends with all ids that are remembered
        if full < PARTS:
            yield _row(f"growth from the tenth {full} to the last", sizes[-1] - sizes[full - 1], GROWTH_MB)
        served, release = told["served_by"], told["fleets"][FLEET]["release"]
        who = ", ".join(f"{name} {n:,}" for name, n in served.items())
        yield f"| who answered (release {release}), {spent:.0f} µs of a processor each | {who} | | | told |"


def _row(what: str, found_mb: float, limit_mb: float) -> str:
    return f"| {what} | {found_mb:.0f} MB | {limit_mb:.0f} MB | {found_mb / limit_mb:.2f}× | ≤ 1× |"


def _answered(address: Path) -> int:
    return sum(status(address)["served_by"].values())


SPEC = Benchmark("gateway_memory", _rows)
