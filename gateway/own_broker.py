"""A broker of the gateway's own, where a source asks for one: on its port again, and started again when it dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backbone.errors import TargetFailed
from gateway.embedded_broker import EmbeddedBroker
from gateway.exchange import write_whole

_log = logging.getLogger("hybrid.gateway")

EMBEDDED = "embedded"
"""The address that asks for it."""
_VERSION = "3.1.1"
"""It speaks no other."""


class OwnBroker:
    """A context manager: the broker is up within, if one of the sources asks for it.

    Args:
        sources: their tables, of a gateway's settings.
        port: file that keeps the number between two starts: senders know it.
    """

    def __init__(self, sources: Sequence[Mapping[str, Any]], port: Path) -> None:
        self._asked, self._port = sources, port
        self._broker: EmbeddedBroker | None = None

    @property
    def url(self) -> str | None:
        """None: there is none."""
        return None if self._broker is None else self._broker.url

    @contextmanager
    def up(self) -> Iterator[Sequence[Mapping[str, Any]]]:
        """The sources' tables, with its address in those that asked for it.

        Raises:
            TargetFailed: it does not start.
        """
        if all(table.get("url") != EMBEDDED for table in self._asked):
            yield self._asked
            return
        self._broker = broker = self._started()
        found = {"url": broker.url, "version": _VERSION}
        try:
            yield [{**table, **found} if table.get("url") == EMBEDDED else table for table in self._asked]
        finally:
            broker.stop()

    async def look_after(self) -> None:
        """Start it again if it has ended."""
        if self._broker is not None and not self._broker.running:
            _log.error("the embedded broker ended")
            await asyncio.to_thread(self._broker.start)

    def _started(self) -> EmbeddedBroker:
        """On the port it had before, where that is free."""
        kept: int | None = None
        try:
            kept = int(self._port.read_text())
            broker = EmbeddedBroker(kept)
            broker.start()
        except (OSError, ValueError, TargetFailed):
            broker = EmbeddedBroker()
            broker.start()
        if broker.port != kept:
            try:
                write_whole(self._port, str(broker.port).encode())
            except OSError as error:  # a full disk: it serves all the same, and may have another port next time
                _log.error("not written", extra={"told": {"file": str(self._port), "why": str(error)}})
        return broker
