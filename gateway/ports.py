"""What the parts of the gateway say to each other: sources to the intake, the intake to whoever acknowledges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct


class Message(Struct, frozen=True, gc=False):
    """What a sender sent in one piece, as it came: at most one reading.

    One is made of each reading, as is one of `Settled`, and a msgspec `Struct` in a fifth of a frozen dataclass's time.

    Attributes:
        source: who sent it, as it authenticated, such as a client's name; ids are unique within it.
        equipment: the machine it says it is about, by topic, path or column.
        payload: JSON, `{"ts", "seq", "values": {...}}` and what `gateway.decoding` lists beside.
        received_us: microseconds since 1970 in UTC, by the gateway's clock.
        traceparent: W3C trace context, if the sender gave one.
        digest: `gateway.decoding.digest_of` all that was sent, where `payload` is its beginning: it is too large.
    """

    source: str
    equipment: str
    payload: bytes
    received_us: int
    traceparent: str | None = None
    digest: bytes | None = None


class Fate(StrEnum):
    """What became of a message. All but `REFUSED` are to be acknowledged."""

    KEPT = "kept"
    DUPLICATE = "duplicate"
    DEAD_LETTER = "dead_letter"
    NOT_OURS = "not_ours"
    """Of equipment that another gateway of the plant serves."""
    REFUSED = "refused"


class Settled(Struct, frozen=True, gc=False):
    """What became of a message, and why; `session` and `seq` are None where they could not be read.

    `retry_after_s` is when a refused sender may come again.
    """

    fate: Fate
    reason: str | None = None
    session: str | None = None
    seq: int | None = None
    retry_after_s: float | None = None


class Intake(Protocol):
    """What a source hands messages to. To be called on the event loop only."""

    def offer(self, message: Message, settled: Callable[[Settled], None]) -> None:
        """Take a message in.

        `settled` is called once, on the event loop: when the disk has confirmed what was kept, or at once, before this
        returns, where nothing is to be kept. The intake never blocks.
        """
        ...

    def dead_letter(
        self,
        source: str,
        equipment: str,
        raw: bytes,
        reason: str,
        settled: Callable[[Settled], None],
        digest: bytes | None = None,
    ) -> None:
        """Keep what a source itself could not turn into a message, with the reason; `digest` as in `Message`."""
        ...

    def refused(self, source: str, reason: str, raw: bytes = b"") -> None:
        """Count what a source refused to its sender, and log who, why and a digest."""
        ...


@runtime_checkable
class Publisher(Protocol):
    """A source that can also speak: advisories and health go out where readings come in."""

    def publish(self, equipment: str, kind: str, payload: bytes, traceparent: str | None = None) -> None:
        """Send to those who listen for a machine's `kind`: `advisory`, `ack`. Never blocks; may drop when cut off."""
        ...


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source may know about where it serves.

    Attributes:
        folder: the source's own, durable, below the gateway's.
        base: of relative paths in its settings: the home folder.
        settings: the source's own table, less `kind`.
        now_us: the gateway's clock.
        equipment: patterns (`fnmatch`) of the machines this gateway serves.
        sensors: what the contracts know: column → unit, of all fleets.
    """

    site: str
    gateway: str
    folder: Path
    base: Path
    settings: Mapping[str, Any]
    now_us: Callable[[], int]
    equipment: tuple[str, ...] = ()
    sensors: Mapping[str, str | None] = field(default_factory=dict)


class GatewaySource(Protocol):
    """One way in. `serve` runs until it is cancelled, through whatever the other side does."""

    async def serve(self, intake: Intake, ready: asyncio.Event) -> None:
        """Take in until cancelled. Sets `ready` when the first message could come, and reconnects by itself for ever.

        On cancellation: stop taking in at once, leave what is unacknowledged unacknowledged, close.

        Raises:
            ConfigurationError: it can never work as it is set up.
        """
        ...

    def health(self) -> Mapping[str, Any]:
        """`connected` (bool), and whatever else people should see; no secrets."""
        ...


@dataclass(frozen=True, slots=True)
class GatewaySourceSpec:
    """How a source presents itself: one `SPEC` a module of `gateway.sources`, named like the module.

    `open` raises `ConfigurationError` for a setting that is unknown or wrong.
    """

    name: str
    summary: str
    cannot: tuple[str, ...]
    open: Callable[[SourceContext], GatewaySource]
