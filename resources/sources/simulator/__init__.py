"""Source `simulator`: a seeded fleet of centrifugal pumps that wear, fail, are renewed, and report badly at set rates.

The batch of a day follows from the settings and the day alone, so any day can be had again, in any order.
Needs nothing but this package: it is what a new installation shows first, and what tests fail on purpose.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from backbone.errors import ConfigurationError
from backbone.settings import Share, settings_from
from backbone.sources import Batch, RefusedBatch, Source, SourceContext, SourceSpec, Stream
from resources.sources.simulator.faults import LATEST_D, FaultRates, damaged, sent_badly
from resources.sources.simulator.lives import MODES, Lives, draw_lives
from resources.sources.simulator.signals import SENSORS, Readings, day_readings, joined
from resources.sources.simulator.slices import Slice, midnight, slices_after

_GENERATION = 1
"""Part of every `txn`. Raise it whenever the same settings come to give other rows."""
_HORIZON_D = 400


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """The source's table in a site file.

    Attributes:
        seed: all randomness comes from it.
        pumps: size of the fleet; all are new on the plant's first day.
        readings_per_day: of each pump, evenly spread.
        mean_life_days: mean time to failure over the fleet, were nothing renewed early.
        preventive_share: of lives that end in a renewal before the failure.
        faults: how often each fault of sensors and line occurs.
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    pumps: Annotated[int, Field(ge=1, le=899)] = 24
    readings_per_day: Annotated[int, Field(ge=1, le=1440)] = 12
    mean_life_days: Annotated[float, Field(ge=5, le=3650)] = 45.0
    preventive_share: Share = 0.15
    faults: FaultRates = field(default_factory=FaultRates)


class Simulator:
    """The fleet of one site. A day's telemetry is one batch; so are its maintenance events, if there are any."""

    def __init__(self, context: SourceContext, settings: SimulatorSettings) -> None:
        self._context, self._settings = context, settings
        contract = {c.name: c for c in context.telemetry.columns}
        maxima = [contract[s].maximum if s in contract else None for s in SENSORS]
        self._maxima = np.array([np.nan if m is None else m for m in maxima])
        # Pumps 101, 102, ...: as plants number the machines of their first area.
        self._names = np.array([f"P-{101 + i}" for i in range(settings.pumps)])
        described = [_GENERATION, asdict(settings), context.first_day.isoformat(), self._maxima.tolist()]
        self._digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
        self._drawn: Lives | None = None
        self._sent: dict[int, list[Readings]] = {}

    def batches(self, position: str | None, until: datetime) -> Iterator[Batch | RefusedBatch]:
        """See `backbone.sources.Source.batches`; a position is the instant that was reached.

        Only the last batch of a slice moves on: resuming after any other hands the slice over again.
        """
        if self._context.last_day is not None:
            until = min(until, midnight(self._context.last_day + timedelta(days=1)))
        for part in slices_after(position, self._context.first_day, until):
            events = _within(self._maintenance(part.day), part)
            telemetry = self._batch("telemetry", part, _within(self._telemetry(part.day), part))
            if events.num_rows:
                yield telemetry
                telemetry = self._batch("maintenance", part, events)
            yield replace(telemetry, position=part.end.isoformat())

    def taken_up(self, batch: Batch | RefusedBatch) -> None:
        """Nothing to let go of: any day can be simulated again."""

    def _batch(self, stream: Stream, part: Slice, rows: pa.Table) -> Batch:
        site, contract = self._context.site, self._context.telemetry.name
        when = part.day if part.whole else f"{part.start:%Y-%m-%dT%H%M}-{part.end:%H%M}"
        txn = f"simulator:{site}:{contract}:{stream}:{when}:{self._digest}"
        origin = f"simulator, seed {self._settings.seed}"
        return Batch(txn, stream, part.day, rows, origin=origin, position=part.start.isoformat())

    def _since(self, day: date) -> int:
        return (day - self._context.first_day).days

    def _lives(self, until_d: float) -> Lives:
        if self._drawn is None or self._drawn.last_day_d < until_d:
            s = self._settings
            self._drawn = draw_lives(
                s.seed, s.pumps, max(_HORIZON_D, 2 * until_d), s.mean_life_days, s.preventive_share
            )
        return self._drawn

    def _telemetry(self, day: date) -> pa.Table:
        since, s = self._since(day), self._settings
        delivered = [
            self._on_line(day - timedelta(days=delay))[delay] for delay in range(LATEST_D + 1) if delay <= since
        ]
        batch = sent_badly(joined(delivered), s.faults, s.seed, since)
        columns = {
            "equipment_id": pa.array(self._names[batch.pump].tolist(), pa.string()),
            "ts": pa.array(batch.ts, pa.timestamp("us", tz="UTC")),
        }
        return pa.table(columns | {name: pa.array(batch.values[:, i]) for i, name in enumerate(SENSORS)})

    def _on_line(self, day: date) -> list[Readings]:
        """A day's readings by the number of days they come late. Kept while later batches may need them."""
        since, s = self._since(day), self._settings
        if since not in self._sent:
            self._sent = {d: r for d, r in self._sent.items() if since - LATEST_D <= d <= since + LATEST_D}
            today, first = (np.datetime64(d.isoformat(), "D") for d in (day, self._context.first_day))
            readings = day_readings(self._lives(since + 1), s.seed, today, first, s.readings_per_day)
            self._sent[since] = damaged(readings, s.faults, s.seed, since, self._maxima)
        return self._sent[since]

    def _maintenance(self, day: date) -> pa.Table:
        since = self._since(day)
        lives = self._lives(since + 1)
        pump, life = np.nonzero((lives.end >= since) & (lives.end < since + 1))
        second = np.floor((lives.end[pump, life] - since) * 86_400).astype("timedelta64[s]")
        failed = lives.failed[pump, life]
        modes = np.where(failed, np.array([m.name for m in MODES])[lives.mode[pump, life]], "")
        rows = pa.table(
            {
                "equipment_id": pa.array(self._names[pump].tolist(), pa.string()),
                "ts": pa.array(np.datetime64(day.isoformat(), "us") + second, pa.timestamp("us", tz="UTC")),
                "event": pa.array(np.where(failed, "failure", "preventive").tolist(), pa.string()),
                "failure_mode": pa.array([m or None for m in modes.tolist()], pa.string()),
            }
        )
        return rows.sort_by([("ts", "ascending"), ("equipment_id", "ascending")])


def _within(rows: pa.Table, part: Slice) -> pa.Table:
    """The rows of a day that belong to a slice; what comes late from earlier days comes with the first."""
    if part.whole:
        return rows
    start, end = (pa.scalar(t, pa.timestamp("us", tz="UTC")) for t in (part.start, part.end))
    inside = pc.less(rows["ts"], end)
    if not part.first_of_day:
        inside = pc.and_(inside, pc.greater_equal(rows["ts"], start))
    return rows.filter(inside)


def _open(context: SourceContext) -> Source:
    settings = settings_from(
        SimulatorSettings,
        context.settings,
        where=f"source simulator of {context.telemetry.name} at site {context.site}",
    )
    needed = {*context.telemetry.inputs, *context.telemetry.with_role("setting")}
    if missing := sorted(needed - set(SENSORS)):
        raise ConfigurationError(
            f"Site {context.site}: the simulated pumps have no sensor for {', '.join(missing)}, "
            f"which the contract {context.telemetry.name} wants.",
            next_step=f"Use another source, or a contract whose sensors are among: {', '.join(SENSORS)}.",
        )
    return Simulator(context, settings)


SPEC = SourceSpec(
    name="simulator",
    summary="A seeded fleet of centrifugal pumps with wear, failures, maintenance and faulty sensors.",
    cannot=(
        "stand for a real plant: its physics is a sketch, so what a model earns here says nothing about yours",
        "simulate other machines than pumps: wear modes and sensors belong together",
        "react: failures come as drawn, whatever maintenance the advisories recommend",
    ),
    open=_open,
)
