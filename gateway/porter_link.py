"""The second process, as the gateway sees it: told what may land, telling what has, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.counters import Counters

_log = logging.getLogger("hybrid.gateway")

_FIRST_S, _MOST_S = 0.5, 30.0
"""Until a porter that died is started again: doubled each time, until one has landed something."""
_LINE = 1 << 20


class PorterLink:
    """Keeps one porter running.

    Args:
        command: what starts it.
        told: called with each message of the porter's.
    """

    def __init__(self, command: Sequence[str], told: Callable[[Mapping[str, Any]], None], counters: Counters) -> None:
        self._command, self._told, self._counters = tuple(command), told, counters
        self._process: asyncio.subprocess.Process | None = None
        self._wait_s = _FIRST_S
        self._landed = 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send the porter a message; dropped while there is none."""
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(json.dumps(message).encode() + b"\n")

    async def serve(self) -> None:
        """Keep a porter running until cancelled; then let it end what it is doing."""
        try:
            while True:
                try:
                    await self._one_life()
                except Exception:  # no process to be had, or nonsense of one: readings are taken in meanwhile
                    _log.exception("porter failed")
                    await self._end()
                await asyncio.sleep(self._wait_s)
                self._wait_s = min(self._wait_s * 2, _MOST_S)
        finally:
            await self._end()

    async def _one_life(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE,
            start_new_session=True,  # Ctrl-C is the gateway's to handle
        )
        self._counters.porter_starts += 1
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                _log.warning(
                    "porter said something else", extra={"told": {"line": line[:200].decode(errors="replace")}}
                )
                continue
            if message.get("landed", 0) > self._landed:  # one that only dies is not to be started twice a second
                self._landed, self._wait_s = message["landed"], _FIRST_S
            self._told(message)
        code = await self._process.wait()
        _log.warning("porter ended", extra={"told": {"exit_code": code}})

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


def porter_command(site: str, home: str) -> tuple[str, ...]:
    """What starts the porter of a site's gateway."""
    return (sys.executable, "-m", "gateway.porter", "--site", site, "--home", home)
