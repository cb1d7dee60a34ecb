"""Ingestion: what the edge has landed becomes telemetry and maintenance history, or is quarantined with a reason."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from backbone.conduit import StorePath
from backbone.contracts import Contract
from backbone.row_checks import DEFECT, RAW, row_check
from backbone.sources import Stream
from backbone.windows import WindowRange
from hybrid_assets.fleet import Fleet, emit_per_window
from hybrid_assets.metadata import preview, row_counts, tally
from resources.bindings.plants import Plants, failures
from resources.landing import BATCH, OFFSET, PLACE, PROVENANCE
from resources.plant import MAINTENANCE, Plant
from resources.stores.tables import DATE

_MOST_BATCHES_TOLD = 100
STREAM_TABLES: dict[Stream, str] = {"telemetry": "telemetry", "maintenance": "maintenance_history"}


def ingest(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> Iterator[dg.MaterializeResult]:
    """Store what has landed for the run's windows, refused rows in quarantine."""
    quarantine = fleet.contracts["telemetry_quarantine"].arrow_schema
    with failures():
        plant, windows, _ = fleet.attempt(context, plants)
        # Taken before the rows are read: whatever lands from here on makes the windows due again.
        fingerprints = plant.landing(fleet.name).fingerprints()
        tables: dict[str, pa.Table] = {}
        refused: list[pa.Table] = []
        for stream, name in STREAM_TABLES.items():
            rows = carry(
                plant, fleet.name, name, partial(_pack, plant, fleet.name, stream, windows), context.run.run_id
            )
            reasons = row_check(plant_contract(plant, fleet.name, stream))(rows, windows.first, windows.last)
            good = pc.is_null(reasons)
            tables[name] = rows.filter(good).drop_columns([DEFECT, RAW])
            refused.append(_quarantined(stream, rows, reasons, quarantine))
        tables["telemetry_quarantine"] = pa.concat_tables(refused)
        for name, rows in tables.items():
            plant.table(fleet.name, name).replace(windows, rows, run_id=context.run.run_id)
        plant.state.mark_windows("ingested", fleet.name, windows, fingerprints)
    for name, rows in tables.items():
        key = fleet.key(name)
        taken = batches_by_day(rows, name)
        counts = {day: numbers | {"batches": taken[day]} for day, numbers in row_counts(rows, windows).items()}
        emit_per_window(context, key, windows.site, counts)
        metadata: dict[str, Any] = {"rows": rows.num_rows, "preview": preview(rows)}
        if name == "telemetry":
            metadata["equipment"] = pc.count_distinct(rows["equipment_id"]).as_py()
        if name == "telemetry_quarantine":
            metadata["reasons"] = tally(rows["reason"])
        yield dg.MaterializeResult(asset_key=key, metadata=metadata)


def batches_by_day(rows: pa.Table, name: str) -> defaultdict[date, dict[str, dict[str, list[int]]]]:
    """Day → stream → batch → first and last offset of its rows, and how many they are; of many batches, the first."""
    streams = {table: stream for stream, table in STREAM_TABLES.items()}
    by_stream = "stream" in rows.column_names
    keys = [DATE, *(["stream"] if by_stream else []), BATCH]
    spans = [(OFFSET, "min"), (OFFSET, "max"), (OFFSET, "count")]
    found: defaultdict[date, dict[str, dict[str, list[int]]]] = defaultdict(dict)
    for row in rows.group_by(keys).aggregate(spans).to_pylist():
        batches = found[row[DATE]].setdefault(row["stream"] if by_stream else streams[name], {})
        if len(batches) < _MOST_BATCHES_TOLD and row[BATCH] is not None:
            batches[row[BATCH]] = [row[f"{OFFSET}_{span}"] for _, span in spans]
    return found


def plant_contract(plant: Plant, equipment_class: str, stream: Stream) -> Contract:
    return plant.catalog.contracts[MAINTENANCE if stream == "maintenance" else equipment_class]


def _pack(plant: Plant, equipment_class: str, stream: Stream, windows: WindowRange, file: Path) -> None:
    plant.landing(equipment_class).export(stream, windows, file)


def carry(plant: Plant, equipment_class: str, asset: str, pack: Callable[[Path], None], run_id: str) -> pa.Table:
    """Bring what is to be an asset's rows from the edge to the premises, and read it there.

    Args:
        pack: leaves them in a Parquet file at the edge.
    """
    import pyarrow.parquet as pq

    edge, premises = plant.site.at("edge"), plant.site.at("on_prem")
    name = f"{equipment_class}/transit/{plant.site.name}/{run_id}-{asset}.parquet"
    packed, arrived = plant.store(edge.name) / name, plant.store(premises.name) / name
    try:
        pack(packed)
        plant.conduit.carry(
            f"{equipment_class}/{asset}",
            StorePath(edge.name, name),
            StorePath(premises.name, name),
            run_id=run_id,
        )
        return pq.read_table(arrived)
    finally:
        packed.unlink(missing_ok=True)
        arrived.unlink(missing_ok=True)


def _quarantined(stream: str, rows: pa.Table, reasons: pa.Array, schema: pa.Schema) -> pa.Table:
    refused = rows.filter(pc.is_valid(reasons))
    text = refused.drop_columns([DEFECT, RAW, DATE, "site", *PROVENANCE.names]).to_pylist()
    raw = [sent or json.dumps(row, default=str) for sent, row in zip(refused[RAW].to_pylist(), text, strict=True)]
    return pa.table(
        {
            DATE: refused[DATE],
            "stream": pa.array([stream] * refused.num_rows, pa.string()),
            "reason": reasons.filter(pc.is_valid(reasons)),
            "equipment_id": refused["equipment_id"],
            "ts": refused["ts"],
            RAW: pa.array(raw, pa.string()),
            **{name: refused[name] for name in PLACE.names},
        },
        schema=schema,
    )
