"""Sends readings at a steady rate, and times what comes back.

    python -m benchmarks._mqtt_pace PORT SITE KIND RATE SECONDS FILE

Reads what to send, a JSON line a machine, from FILE; prints one JSON document: how many were sent and how many were
answered on the machine's topic KIND, and p50 and p99 of the seconds between.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import orjson
import uvloop
from gmqtt import Client

_TICK_S = 0.001
_LATE_S = 5.0


async def _pace(port: int, site: str, kind: str, rate: float, seconds: float, file: str) -> dict[str, object]:
    machines = [json.loads(line) for line in Path(file).read_text().splitlines()]
    session = str(time.time_ns())
    sent: dict[tuple[str, int], float] = {}
    took: list[float] = []

    def received(_client: object, topic: str, payload: bytes, _qos: int, _properties: object) -> int:
        now = time.perf_counter()
        told = orjson.loads(payload)
        if told["session"] == session:
            took.append(now - sent.pop((topic.split("/")[2], told["seq"])))
        return 0

    client = Client(f"pace-{session}")
    client.on_message = received
    await client.connect("127.0.0.1", port)
    client.subscribe(f"hybrid/{site}/+/{kind}", qos=1)
    await asyncio.sleep(0.3)
    began, number, count = time.perf_counter(), 0, int(rate * seconds)
    while number < count:
        due = min(int((time.perf_counter() - began) * rate), count)
        while number < due:
            machine = machines[number % len(machines)]
            seq = number // len(machines)
            name = machine["equipment_id"]
            ts = time.time_ns() // 1000
            payload = {"ts": ts, "seq": seq, "session": session, "values": machine["values"]}
            sent[name, seq] = time.perf_counter()
            client.publish(f"hybrid/{site}/{name}/telemetry", orjson.dumps(payload), qos=1)
            number += 1
        await asyncio.sleep(_TICK_S)
    late = time.perf_counter() + _LATE_S
    while sent and time.perf_counter() < late:
        await asyncio.sleep(0.01)
    await client.disconnect()
    took.sort()
    p50, p99 = (took[int(len(took) * share)] if took else None for share in (0.5, 0.99))
    return {"sent": count, "answered": len(took), "p50_s": p50, "p99_s": p99}


def main() -> None:
    port, site, kind, rate, seconds, file = sys.argv[1:]
    print(json.dumps(uvloop.run(_pace(int(port), site, kind, float(rate), float(seconds), file))))


if __name__ == "__main__":
    main()
