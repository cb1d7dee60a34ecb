"""Source `gateway`: of a fleet whose readings come through the plant's gateway, which lands them by itself.

There is nothing to poll. What does not come through the gateway, such as maintenance events or the telemetry of before
the plant had one, may come from another source, which this one asks:

    source = { kind = "gateway", other = { kind = "files" } }
    source = { kind = "gateway", other = { kind = "simulator", seed = 7 }, telemetry_before = 2026-03-01 }
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from backbone import plugins
from backbone.errors import ConfigurationError
from backbone.settings import settings_from
from backbone.sources import Batch, RefusedBatch, Source, SourceContext, SourceSpec
from resources import sources

NAME = "gateway"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The source's table in a site file.

    Attributes:
        other: the table of the source that has what does not come through the gateway; None: there is none.
        telemetry_before: telemetry of that source is taken up in windows before this day; None: none is, only
            maintenance events are.
        telemetry_days: the same, as a number of days from the plant's first, for calendars that count from a first run.
    """

    other: Mapping[str, Any] | None = None
    telemetry_before: date | None = None
    telemetry_days: Annotated[int, Field(ge=0)] | None = None

    def __post_init__(self) -> None:
        ends = [value for value in (self.telemetry_before, self.telemetry_days) if value is not None]
        if len(ends) > 1 or (ends and self.other is None):
            raise ConfigurationError(
                "telemetry_before and telemetry_days say when another source ends.",
                next_step='Give one of them, with a source such as other = { kind = "files" }, or leave them out.',
            )


class GatewayReadings:
    """Hands over what the other source has, less the telemetry that the gateway lands."""

    def __init__(self, other: Source | None, telemetry_before: date | None) -> None:
        self._other, self._before = other, telemetry_before

    def batches(self, position: str | None, until: datetime) -> Iterator[Batch | RefusedBatch]:
        """See `backbone.sources.Source.batches`; positions are the other source's."""
        if self._other is not None:
            for batch in self._other.batches(position, until):
                if batch.stream != "telemetry" or (self._before is not None and batch.day < self._before):
                    yield batch

    def taken_up(self, batch: Batch | RefusedBatch) -> None:
        """The other source's to know."""
        if self._other is not None:
            self._other.taken_up(batch)


def _open(context: SourceContext) -> Source:
    where = f"source {NAME} of {context.telemetry.name} at site {context.site}"
    settings = settings_from(GatewaySettings, context.settings, where=where)
    if settings.other is None:
        return GatewayReadings(None, None)
    given = dict(settings.other)
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind == NAME:
        raise ConfigurationError(
            f"{where}: the other source is {kind!r}.",
            next_step=f"Name one of {', '.join(n for n in plugins.names(sources) if n != NAME)} as its kind.",
        )
    spec: SourceSpec = plugins.load(sources, kind)
    before = settings.telemetry_before
    if settings.telemetry_days is not None:
        before = context.first_day + timedelta(days=settings.telemetry_days)
    return GatewayReadings(spec.open(replace(context, settings=given)), before)


SPEC = SourceSpec(
    name=NAME,
    summary="Readings come through the plant's gateway, which lands them: there is nothing to poll here.",
    cannot=(
        "hand over a reading: the gateway's porter lands them, whether the graph runs or not",
        "tell what was done to machines, unless another source does",
        "take telemetry of both for one day: a reading that comes both ways counts as a duplicate",
    ),
    open=_open,
)
