"""Bad telemetry: readings of which the contract accepts every row, and checks refuse the window they make."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from backbone.sources import Batch, RefusedBatch, Source
from chaos.scenario import OF_TELEMETRY, PlannedFault

_REPEATS = 3
"""Of one value in the place of each reading: three of them make a run that is too long, true ones between break it."""
_APART = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A batch as it should have come, and the fault that it waits for the end of."""

    fault: PlannedFault
    batch: Batch


class Line:
    """The line between the plant's machines and its edge, over the life of a rehearsal.

    Readings of the day of a fault of telemetry come spoilt. Once that has ended, perhaps days later, they come whole,
    under another `txn`: a gateway that hands over what it had kept.

    Args:
        first: the first day of the rehearsal.
        active: the faults of these kinds that last now.
        now_s: seconds of the rehearsal.
        rng: draws that depend on what they are for.
        struck: told the fault that spoilt a batch, when that has landed.
    """

    def __init__(
        self,
        first: date,
        active: Callable[..., list[PlannedFault]],
        now_s: Callable[[], float],
        rng: Callable[..., random.Random],
        struck: Callable[[PlannedFault], None],
    ) -> None:
        self._first = first
        self._active, self._now_s, self._rng, self._struck = active, now_s, rng, struck
        self._sent: dict[str, _Kept] = {}
        self._owed: dict[str, _Kept] = {}
        self._stuck_at: dict[float, dict[str, pa.Table]] = {}

    def whole_again(self) -> list[Batch]:
        """What a fault that has ended had spoilt, as it should have come."""
        return [kept.batch for kept in self._owed.values() if kept.fault.end_s <= self._now_s()]

    @property
    def owed_s(self) -> float:
        """When something is handed over whole next; infinite where nothing is owed."""
        return min((kept.fault.end_s for kept in self._owed.values()), default=float("inf"))

    def sent(self, batch: Batch | RefusedBatch) -> Batch | RefusedBatch:
        """What arrives of a batch now: readings of the day of a fault come spoilt, for as long as it lasts."""
        if not isinstance(batch, Batch) or batch.stream != "telemetry":
            return batch
        for fault in self._active(*OF_TELEMETRY):
            day = pa.scalar(self._first + timedelta(days=fault.day), pa.date32())
            of_day = pc.equal(batch.rows["ts"].cast(pa.date32(), safe=False), day)
            if not pc.any(of_day).as_py():
                continue
            spoil = self._silent if fault.kind == "telemetry_missing" else self._stuck
            rows = [batch.rows.filter(pc.invert(of_day)), spoil(batch.rows.filter(of_day), fault)]
            self._sent[batch.txn] = _Kept(fault, replace(batch, txn=f"{batch.txn}:whole"))
            return replace(batch, rows=pa.concat_tables(rows))
        return batch

    def taken_up(self, batch: Batch | RefusedBatch) -> None:
        """It is durable."""
        if (kept := self._sent.pop(batch.txn, None)) is not None:
            self._owed[kept.batch.txn] = kept
            self._struck(kept.fault)
        else:
            self._owed.pop(batch.txn, None)

    def _silent(self, rows: pa.Table, fault: PlannedFault) -> pa.Table:
        """Half of the machines, drawn by the fault, send nothing."""
        machines = sorted(set(rows["equipment_id"].to_pylist()))
        drawn = sorted(machines, key=lambda machine: self._rng("silent", fault.start_s, machine).random())
        heard = pa.array(drawn[: len(drawn) // 2], pa.string())
        return rows.filter(pc.is_in(rows["equipment_id"], value_set=heard))

    def _stuck(self, rows: pa.Table, fault: PlannedFault) -> pa.Table:
        """All sensors repeat what each machine said first, at other times than the true values were read at."""
        first = self._stuck_at.setdefault(fault.start_s, {})
        at, machines = rows.column_names.index("ts"), rows["equipment_id"].to_pylist()
        for n, machine in enumerate(machines):
            first.setdefault(machine, rows.slice(n, 1))
        values = pa.concat_tables([first[machine] for machine in machines])
        later = []
        for n in range(1, _REPEATS + 1):
            ts = pc.add(rows["ts"], pa.scalar(n * _APART))
            same_day = pc.equal(ts.cast(pa.date32(), safe=False), rows["ts"].cast(pa.date32(), safe=False))
            later.append(values.set_column(at, "ts", ts).filter(same_day))
        return pa.concat_tables(later)


class SpoiltSource:
    """A plant's source at the far end of a line. See `backbone.sources.Source`."""

    def __init__(self, inner: Source, line: Line) -> None:
        self._inner, self._line = inner, line

    def batches(self, position: str | None, until: datetime) -> Iterator[Batch | RefusedBatch]:
        """What was spoilt and is whole again first: it moves the position on by nothing."""
        if position is not None:
            yield from (replace(batch, position=position) for batch in self._line.whole_again())
        yield from (self._line.sent(batch) for batch in self._inner.batches(position, until))

    def taken_up(self, batch: Batch | RefusedBatch) -> None:
        self._line.taken_up(batch)
        self._inner.taken_up(batch)
