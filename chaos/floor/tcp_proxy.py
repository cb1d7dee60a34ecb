"""A TCP proxy on loopback that can be told to misbehave: what a network does between a client and a server.

A mode holds for connections there are as well as for new ones, from the moment it is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Literal

Kind = Literal["pass", "latency", "reset", "blackhole", "mute", "throttle", "refuse"]
_PIECE = 1 << 16


class TcpProxy:
    """Use as a context manager, then connect to `host`, `port` instead of the server.

    Args:
        host, port: the server to pass on to.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server, self._kind, self._amount = (host, port), "pass", 0.0
        self.host, self.port = "127.0.0.1", 0
        self.bytes_to_server = 0
        self._trigger, self._stay = b"", False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> TcpProxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def passing(self) -> None:
        """Everything goes through."""
        self._do(self._set("pass", 0))

    def latency(self, seconds: float) -> None:
        """Every piece arrives that much later, both ways."""
        self._do(self._set("latency", seconds))

    def reset(self) -> None:
        """Connections are torn down with RST, new ones as soon as they are made."""
        self._do(self._set("reset", 0))

    def blackhole(self) -> None:
        """Connections are taken, and what comes is swallowed."""
        self._do(self._set("blackhole", 0))

    def mute(self) -> None:
        """What the client says arrives; what the server answers is swallowed."""
        self._do(self._set("mute", 0))

    def lose_answer_to(self, request: bytes, *, and_stay_mute: bool = False) -> None:
        """The next request that begins so arrives, and its connection is torn down in place of the answer.

        Args:
            and_stay_mute: every later answer is swallowed, too.
        """
        self._trigger, self._stay = request, and_stay_mute

    def throttle(self, bytes_per_s: float) -> None:
        """So many bytes a second go through, each way, on each connection."""
        self._do(self._set("throttle", bytes_per_s))

    def refuse(self) -> None:
        """Nobody listens; connections there are end."""
        self._do(self._set("refuse", 0))

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _set(self, kind: Kind, amount: float) -> None:
        self._kind, self._amount = kind, amount
        if kind in ("reset", "refuse"):
            self._tear_down()
        if kind == "refuse":
            if self._listener is not None:
                self._listener.close()
                self._listener = None
        elif self._listener is None:
            await self._listen()

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._tear_down()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tear_down(self) -> None:
        for writer in self._open:
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        server: asyncio.StreamWriter | None = None
        try:
            if self._kind == "reset":
                _reset(writer)
                return
            answers, server = await asyncio.open_connection(*self._server)
            self._open.add(server)
            lost = asyncio.Event()
            await asyncio.gather(
                self._pump(reader, server, "request", lost), self._pump(answers, writer, "answer", lost)
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, server):
                if end is not None:
                    self._open.discard(end)
                    end.close()
            self._tasks.discard(task)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        way: Literal["request", "answer"],
        lost: asyncio.Event,
    ) -> None:
        while piece := await source.read(_PIECE):
            if way == "request" and self._trigger and piece.startswith(self._trigger):
                self._trigger = b""
                self._kind = "mute" if self._stay else self._kind
                lost.set()
            if way == "answer" and lost.is_set():
                _reset(sink)
                return
            if self._kind == "latency":
                await asyncio.sleep(self._amount)
            while piece:
                if self._kind == "blackhole" or (self._kind == "mute" and way == "answer"):
                    break
                part = piece
                if self._kind == "throttle":
                    part = piece[: max(1, int(self._amount / 20))]
                    await asyncio.sleep(len(part) / self._amount)
                piece = piece[len(part) :]
                sink.write(part)
                await sink.drain()
                self.bytes_to_server += len(part) if way == "request" else 0
        if self._kind not in ("blackhole", "mute"):
            with contextlib.suppress(OSError):
                sink.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    if end is not None and end.fileno() >= 0:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
