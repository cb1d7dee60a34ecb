"""An intake whose messages are settled by the test's hand, and what runs a source against it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.ports import Fate, GatewaySource, GatewaySourceSpec, Message, Settled, SourceContext

Settle = Callable[[Settled], None]
PATIENCE_S = 20.0


def told(
    message: Message, fate: Fate = Fate.KEPT, reason: str | None = None, retry_after_s: float | None = None
) -> Settled:
    """What a real intake would say of it."""
    read = json.loads(message.payload)
    return Settled(fate, reason, read.get("session", ""), read["seq"], retry_after_s)


class HeldIntake:
    """Holds what it is offered, until told otherwise.

    Attributes:
        offered: everything, in the order it came.
        held: what is not settled, with how to settle it.
        answer: what is said at once, if set.
    """

    def __init__(self) -> None:
        self.offered: list[Message] = []
        self.held: list[tuple[Message, Settle]] = []
        self.letters: list[tuple[str, str, bytes, str]] = []
        self.digests: list[bytes | None] = []
        """Of the letters' whole, where they are beginnings."""
        self.refusals: list[tuple[str, str, bytes]] = []
        self.answer: Callable[[Message], Settled] | None = None

    def offer(self, message: Message, settled: Settle) -> None:
        self.offered.append(message)
        if self.answer is not None:
            settled(self.answer(message))
        else:
            self.held.append((message, settled))

    def dead_letter(
        self, source: str, equipment: str, raw: bytes, reason: str, settled: Settle, digest: bytes | None = None
    ) -> None:
        self.letters.append((source, equipment, raw, reason))
        self.digests.append(digest)
        settled(Settled(Fate.DEAD_LETTER, reason))

    def refused(self, source: str, reason: str, raw: bytes = b"") -> None:
        self.refusals.append((source, reason, raw))

    def settle(self, which: Callable[[int], bool], fate: Fate = Fate.KEPT) -> None:
        """Settle those held whose sequence number is wanted."""
        held, self.held = self.held, []
        for message, settled in held:
            if which(seq_of(message)):
                settled(told(message, fate))
            else:
                self.held.append((message, settled))

    @property
    def seqs(self) -> list[int]:
        return [seq_of(message) for message in self.offered]

    async def has(self, count: int) -> None:
        """Wait until so many messages were offered."""
        await until(lambda: len(self.offered) >= count, lambda: f"{len(self.offered)} of {count} messages came")


def seq_of(message: Message) -> int:
    return int(json.loads(message.payload)["seq"])


async def until(true: Callable[[], bool], otherwise: Callable[[], str] = lambda: "it never came true") -> None:
    """Wait for it."""
    limit = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < limit, otherwise()
        await asyncio.sleep(0.005)


def context(folder: Path, settings: Mapping[str, Any], *, gateway: str = "gw-1", site: str = "north") -> SourceContext:
    return SourceContext(site, gateway, folder, folder, settings, lambda: time.time_ns() // 1000, ("P-*",), {})


@contextlib.asynccontextmanager
async def serving(spec: GatewaySourceSpec, intake: HeldIntake, given: SourceContext) -> AsyncIterator[GatewaySource]:
    """A source at work, from when it is ready until it is cancelled."""
    source, ready = spec.open(given), asyncio.Event()
    task = asyncio.create_task(source.serve(intake, ready))
    try:
        await asyncio.wait(
            {task, asyncio.ensure_future(ready.wait())}, timeout=PATIENCE_S, return_when="FIRST_COMPLETED"
        )
        if task.done():
            task.result()
        assert ready.is_set(), f"it was never ready: {source.health()}"
        yield source
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
