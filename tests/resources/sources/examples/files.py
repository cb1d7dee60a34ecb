"""One file of each kind: whole, damaged, empty, and of another schema."""

import os
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from backbone.sources import SourceContext
from resources.catalog.contracts import SHIPPED, read_contracts


def context(folder: Path) -> SourceContext:
    drop = folder / "drop"
    for name in ("telemetry", "maintenance"):
        (drop / name).mkdir(parents=True, exist_ok=True)
    rows = {"equipment_id": ["P-1", "P-2"], "ts": [datetime(2025, 3, 1, hour, tzinfo=UTC) for hour in (6, 7)]}
    pq.write_table(pa.table(rows | {"flow_m3_h": [180.0, float("nan")]}), drop / "march.parquet")
    (drop / "telemetry" / "april.csv").write_text("equipment_id,ts,flow_m3_h\nP-1,2025-04-01T06:00:00Z,181\nP-2,cut")
    (drop / "telemetry" / "may.jsonl").write_text(
        '{"equipment_id": "P-1", "ts": "2025-05-01T06:00:00Z", "flow_m3_h": 182}\n{"equipment_id": "P-'
    )
    (drop / "maintenance" / "history.csv").write_text(
        "equipment_id,ts,event,failure_mode\nP-1,2025-04-02 00:00:00,failure,seal_leak\n"
    )
    (drop / "empty.csv").touch()
    (drop / "shopping.csv").write_text("item,price\nmilk,1\n")
    for path in drop.rglob("*.*"):
        os.utime(path, (1_748_736_000, 1_748_736_000))
    contracts = read_contracts([SHIPPED])
    return SourceContext(
        site="example",
        telemetry=contracts["pump"],
        maintenance=contracts["maintenance"],
        first_day=date(2025, 1, 1),
        last_day=date(2025, 12, 31),
        drop_folder=drop,
    )
