"""A machine's readings behind a trace: rows of the plant's own tables, in the version that the answer was made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from backbone.errors import HybridError
from resources.home import Home
from resources.landing import BATCH, OFFSET, READING_ID
from resources.lineage.index import Told
from resources.lineage.trace import StoredReadings, Trace, short_batch
from resources.plant import Catalog, Plant
from resources.sources.files.folder import taken_file
from resources.stores.past import read_as_of

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_SHOWN = 12


@dataclass(frozen=True)
class MachineReadings:
    """What one machine sent in one window, as far as it was stored and as far as it was refused.

    Attributes:
        version: of the telemetry that was read here; other than the one the answer was made from where that is gone.
        rows: of the machine, oldest first, as JSON values: `ts`, `batch`, `offset`, `file` where one is kept, and
            `reading_id` where a gateway took it in.
        newest: sensor → (value or None, unit or None) of the last of them.
        refused: the machine's rows in quarantine, oldest first, with `reason`.
        nameless: how many rows in quarantine name no machine.
    """

    told: Told
    stored: StoredReadings
    version: int | None
    rows: list[dict[str, Any]]
    newest: dict[str, tuple[Any, str | None]]
    refused: list[dict[str, Any]]
    nameless: int

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "dataset": self.stored.dataset,
            "version": self.stored.version,
            "read_in_version": self.version,
            "count": len(self.rows),
            "rows": self.rows,
            "newest": {n: {"value": value, "unit": unit} for n, (value, unit) in self.newest.items()},
            "quarantined": self.refused,
            "quarantined_without_machine": self.nameless,
        }

    def lines(self) -> list[str]:
        """For people: the newest reading in full, where each row came from, and what was refused."""
        machine, day, asset = self.told.equipment, self.told.day, self.stored.asset
        as_read = f"{asset} @{self.stored.version}, as it was read"
        if self.version != self.stored.version:
            gone = "no event tells the version that was read" if self.stored.version is None else f"{as_read}, is gone"
            as_read = f"{asset} @{self.version}, as it is now: {gone}"
        if self.rows:
            out = [f"readings of {machine} on {day}: {len(self.rows)}, in {as_read}"]
            values = (f"{name} {_shown(value, unit)}" for name, (value, unit) in self.newest.items())
            out.append(f"  newest, {self.rows[-1]['ts']}: {', '.join(values)}")
            out += [f"  {row['ts']}: {_origin(row)}" for row in self.rows[-_ROWS_SHOWN:]]
            if len(self.rows) > _ROWS_SHOWN:
                out.append(f"  and {len(self.rows) - _ROWS_SHOWN} before; --json has all")
        else:
            out = [f"readings of {machine} on {day}: none, in {as_read}"]
        out.append(f"in quarantine of {machine} on {day}: {len(self.refused) or 'none'}")
        out += [f"  {row['ts'] or 'no time'}: {row['reason']}; {_origin(row)}" for row in self.refused[:_ROWS_SHOWN]]
        if len(self.refused) > _ROWS_SHOWN:
            out.append(f"  and {len(self.refused) - _ROWS_SHOWN} more; --json has all")
        if self.nameless:
            out.append(f"  and {self.nameless} rows that name no machine")
        return out


def readings_of(found: Trace, home: Home) -> MachineReadings | str:
    """The readings that a traced answer was made from; text: why they cannot be read here."""
    told, stored = found.advisory, found.readings
    if stored is None:
        return "no event tells that telemetry of its window was read"
    try:
        plant = Plant(Catalog(home), told.site)
        return _read(plant, told, stored)
    except (HybridError, OSError) as error:
        return f"the store of {told.site} cannot be read here: {error}"


def _read(plant: Plant, told: Told, stored: StoredReadings) -> MachineReadings:
    import pyarrow as pa
    import pyarrow.compute as pc

    day = date.fromisoformat(told.day)
    telemetry, version = _as_of(plant, told, "telemetry", stored.version, day)
    mine = telemetry.filter(pc.equal(telemetry["equipment_id"], told.equipment)).sort_by("ts")
    refused, _ = _as_of(plant, told, "telemetry_quarantine", stored.quarantine_version, day)
    refused = refused.filter(pc.equal(refused["stream"], "telemetry"))
    nameless = refused.filter(pc.is_null(refused["equipment_id"])).num_rows
    refused = refused.filter(pc.equal(refused["equipment_id"], pa.scalar(told.equipment))).sort_by("ts")
    drop = plant.catalog.home.drop_folder(told.site, told.equipment_class)
    files = {b: taken_file(drop, b) for b in {*mine[BATCH].to_pylist(), *refused[BATCH].to_pylist()} if b}

    def came(row: dict[str, Any]) -> dict[str, Any]:
        file = files.get(row[BATCH])
        return {
            "ts": _time(row["ts"]),
            "batch": row[BATCH],
            "offset": row[OFFSET],
            **({"file": str(file)} if file is not None else {}),
            **({READING_ID: told} if (told := row.get(READING_ID)) is not None else {}),
        }

    rows = mine.to_pylist()
    sensors = [c for c in plant.contract(told.equipment_class).columns if not c.key and c.name in mine.column_names]
    return MachineReadings(
        told=told,
        stored=stored,
        version=version,
        rows=[came(row) for row in rows],
        newest={c.name: (rows[-1][c.name], c.unit) for c in sensors} if rows else {},
        refused=[{**came(row), "reason": row["reason"]} for row in refused.to_pylist()],
        nameless=nameless,
    )


def _as_of(plant: Plant, told: Told, name: str, version: int | None, day: date) -> tuple[pa.Table, int | None]:
    """A window of a table in a version, or as it is now where that is gone; and the version that was read."""
    table = plant.table(told.equipment_class, name)
    if version is not None:
        rows = read_as_of(table.path, version, told.site, day)
        if rows is not None:
            return rows, version
    newest = table.version
    return table.read(told.site, day, day), newest


def _time(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%S}Z"


def _origin(row: dict[str, Any]) -> str:
    if row["batch"] is None:
        return "of no known batch"
    sent_as = f", sent as {row[READING_ID]}" if READING_ID in row else ""
    return f"row {row['offset']} of {row.get('file') or short_batch(row['batch'])}{sent_as}"


def _shown(value: Any, unit: str | None) -> str:
    if value is None:
        return "silent"
    return f"{value:.6g} {unit or ''}".rstrip() if isinstance(value, float) else f"{value} {unit or ''}".rstrip()
