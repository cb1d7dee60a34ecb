"""The process of the embedded broker: `python -m gateway.embedded_broker_process PORT`; it ends with its input."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session


class ThisMachine(BaseAuthPlugin):
    """Whoever is on this machine may connect.

    amqtt's own way to say so makes sessions anonymous, and keeps no messages for those while they are away.
    """

    async def authenticate(self, *, session: Session) -> bool:  # noqa: ARG002 - amqtt's
        return True


async def _serve(port: int) -> None:
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {f"{__name__ if __name__ != '__main__' else __spec__.name}.{ThisMachine.__name__}": {}},
        }
    )
    await broker.start()
    listening = broker._servers["default"].instance.sockets[0]
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    await broker.shutdown()


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
