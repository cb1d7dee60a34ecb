"""What the gateway tells from outside, over HTTP: `/healthz`, `/metrics`, `/status`.

Three pages that are read do not need a web framework, which takes ten megabytes and a tenth of a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import orjson

from backbone.errors import ConfigurationError

_log = logging.getLogger("hybrid.gateway")
_HEAD_BYTES, _PATIENCE_S = 16_384, 10.0
_PORTS = range(1 << 16)
_JSON, _TEXT = "application/json; charset=utf-8", "text/plain; version=0.0.4; charset=utf-8"


class HealthPage:
    """A small web server on the gateway's event loop; it answers one request a connection.

    Args:
        listen: `host:port`; port 0: any that is free.
        status: what `/status` tells, as JSON.
        metrics: what `/metrics` tells, in Prometheus' text format.
        patience_s: how long a request may take to come, and its answer to go.
    """

    def __init__(
        self,
        listen: str,
        status: Callable[[], Mapping[str, Any]],
        metrics: Callable[[], bytes],
        *,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._listen, self._patience_s = listen, patience_s
        self._pages: Mapping[str, tuple[str, Callable[[], bytes]]] = {
            "/healthz": (_JSON, lambda: b'{"ok": true}'),
            "/status": (_JSON, lambda: orjson.dumps(dict(status()), option=orjson.OPT_NON_STR_KEYS)),
            "/metrics": (_TEXT, metrics),
        }
        self.address = ""

    async def serve(self, ready: asyncio.Event) -> None:
        """Answer until cancelled; `address` is known once `ready` is set.

        Raises:
            ConfigurationError: the address cannot be listened at.
        """
        host, _, port = self._listen.rpartition(":")
        try:
            if int(port) not in _PORTS:  # uvloop takes any number, and another port
                raise ValueError(f"{port} is no port")
            server = await asyncio.start_server(self._answer, host.strip("[]"), int(port), limit=_HEAD_BYTES)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"The gateway cannot listen at {self._listen!r}: {error}.",
                next_step="Give [gateway] listen as host:port, with a port that is free.",
            ) from error
        try:
            host, port = server.sockets[0].getsockname()[:2]
            self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            ready.set()
            await asyncio.Event().wait()
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Who sends nothing that is a request, or takes too long to, is left."""
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(self._patience_s):
                try:
                    writer.write(self._answered(await reader.readuntil(b"\r\n\r\n")))
                except asyncio.LimitOverrunError:
                    writer.write(_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
                writer.close()
                await writer.wait_closed()
        writer.transport.abort()

    def _answered(self, head: bytes) -> bytes:
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST)
        method, target, _ = words
        if (page := self._pages.get(target.partition("?")[0])) is None:
            return _response(HTTPStatus.NOT_FOUND)
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, more="Allow: GET, HEAD\r\n")
        kind, told = page
        try:
            return _response(HTTPStatus.OK, told(), kind, body=method == "GET")
        except Exception:
            _log.exception("page failed", extra={"told": {"page": target}})
            return _response(HTTPStatus.INTERNAL_SERVER_ERROR)


def _response(
    status: HTTPStatus, told: bytes | None = None, kind: str = "text/plain", *, body: bool = True, more: str = ""
) -> bytes:
    content = status.phrase.encode() if told is None else told
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode() + (content if body else b"")
