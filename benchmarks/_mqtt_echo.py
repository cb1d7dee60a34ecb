"""A bare echo over MQTT: `python -m benchmarks._mqtt_echo PORT SITE`. What comes as telemetry goes out as it is."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from gmqtt import Client


async def _echo(port: int, site: str) -> None:
    client = Client("echo")

    def received(_client: object, topic: str, payload: bytes, _qos: int, _properties: object) -> int:
        client.publish(f"{topic.removesuffix('telemetry')}echo", payload, qos=1)
        return 0

    client.on_message = received
    await client.connect("127.0.0.1", port)
    client.subscribe(f"hybrid/{site}/+/telemetry", qos=1)
    await asyncio.sleep(0.3)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_echo(int(sys.argv[1]), sys.argv[2]))
