"""What the gateway tells from outside, over HTTP: `/healthz`, `/metrics`, `/status`."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from backbone.errors import ConfigurationError

if TYPE_CHECKING:
    from aiohttp import web as aiohttp_web


class HealthPage:
    """A small web server on the gateway's event loop.

    Args:
        listen: `host:port`; port 0: any that is free.
        status: what `/status` tells, as JSON.
        metrics: what `/metrics` tells, in Prometheus' text format.
    """

    def __init__(self, listen: str, status: Callable[[], Mapping[str, Any]], metrics: Callable[[], bytes]) -> None:
        self._listen, self._status, self._metrics = listen, status, metrics
        self.address = ""

    async def serve(self, ready: asyncio.Event) -> None:
        """Answer until cancelled; `address` is known once `ready` is set.

        Raises:
            ConfigurationError: the address cannot be listened at.
        """
        web = await asyncio.to_thread(importlib.import_module, "aiohttp.web")  # a tenth of a second, of readings' time

        async def healthz(_request: aiohttp_web.Request) -> aiohttp_web.Response:
            return web.json_response({"ok": True})

        async def status(_request: aiohttp_web.Request) -> aiohttp_web.Response:
            return web.json_response(dict(self._status()))

        async def metrics(_request: aiohttp_web.Request) -> aiohttp_web.Response:
            return web.Response(body=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4"})

        app = web.Application()
        app.add_routes([web.get("/healthz", healthz), web.get("/status", status), web.get("/metrics", metrics)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        host, _, port = self._listen.rpartition(":")
        try:
            try:
                site = web.TCPSite(runner, host.strip("[]"), int(port))
                await site.start()
            except (OSError, ValueError) as error:
                raise ConfigurationError(
                    f"The gateway cannot listen at {self._listen!r}: {error}.",
                    next_step="Give [gateway] listen as host:port, with a port that is free.",
                ) from error
            host, port = runner.addresses[0][:2]
            self.address = f"{host}:{port}"
            ready.set()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
