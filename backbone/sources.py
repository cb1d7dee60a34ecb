"""The port every source answers at: it hands over batches, whole and at least once; taking up is once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from backbone.contracts import Contract

if TYPE_CHECKING:
    import pyarrow as pa

Stream = Literal["telemetry", "maintenance"]
"""`telemetry`: readings. `maintenance`: what was done to a machine, or failed on it, and when."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a source hands over in one piece.

    `txn` names the content: a batch whose `txn` was taken up before has no effect. `day` is the window
    that rows count in whose own timestamp cannot say. `rows` are as sent, unchecked.
    `position` is where the source resumes once this batch is safe.

    A source that hands over batches for ever names a `series`, in which `serial` rises from batch to batch: of a series
    only the highest serial that was taken up is remembered, and a batch not above it has no effect. `provenance` has a
    row for each of `rows`, and says more of where it came from, see `resources.landing.TOLD`.
    """

    txn: str
    stream: Stream
    day: date
    rows: pa.Table
    origin: str
    position: str
    series: str | None = None
    serial: int = 1
    provenance: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class RefusedBatch:
    """A batch nobody could read; kept with the reason and counted as one refused row of `day`."""

    txn: str
    stream: Stream
    day: date
    reason: str
    origin: str
    position: str


class Source(Protocol):
    """Where readings come from."""

    def batches(self, position: str | None, until: datetime) -> Iterator[Batch | RefusedBatch]:
        """What came after `position`, oldest first, as far as it is known at `until` (UTC).

        Raises:
            SourceError: the source as a whole cannot be read; says what to do next.
        """
        ...

    def taken_up(self, batch: Batch | RefusedBatch) -> None:
        """The batch is durable; the source may let go of it. May be called again after a crash."""
        ...


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source may know about where it serves.

    `first_day` and `last_day` bound the plant's calendar (`last_day` None: it goes on). `drop_folder` is
    where people put files for it. `settings` is the source's own table in the site file.
    """

    site: str
    telemetry: Contract
    maintenance: Contract
    first_day: date
    last_day: date | None
    drop_folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """How a source plug-in presents itself: one `SPEC` a module, named like the module.

    `open` raises `ConfigurationError` for a setting that is unknown or wrong.
    """

    name: str
    summary: str
    cannot: tuple[str, ...]
    open: Callable[[SourceContext], Source]
