"""What windows of a plant are judged by, from what is stored."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from backbone.windows import WindowRange
from quality.judgement import judge
from quality.requests import Batch
from quality.validation import validate
from quality.warm import Validated
from resources.home import Home
from resources.landing import AHEAD_OF_CLOCK
from tests.scenarios.installation import Installation

MORNING = datetime(2025, 3, 2, 8, tzinfo=UTC)
PUMPS = [f"p{n}" for n in range(6)]


class InThisProcess:
    def validate(self, batches: Sequence[Batch]) -> Validated:
        return Validated(validate(batches), by="own process")


def test_a_clock_that_is_ahead_does_not_make_the_other_machines_silent(tmp_path: Path) -> None:
    installation = Installation(Home(tmp_path / "home").prepare())
    calendar = "[calendar]\nfirst_day = 2025-03-01\nlast_day = 2025-03-02\n"
    installation.add_site("west", calendar + '[fleets.pump]\nsource = { kind = "files" }\n')
    plant, day = installation.plant("west"), WindowRange("west", MORNING.date(), MORNING.date())
    times = [MORNING - timedelta(hours=2 * n) for n in range(4)]
    rows = {"equipment_id": PUMPS * len(times), "ts": [ts for ts in times for _ in PUMPS]}
    sent = pa.table({**rows, "date": [MORNING.date()] * len(rows["ts"])})
    for field in plant.catalog.contracts["pump"].arrow_schema:
        if field.name not in sent.column_names:
            sent = sent.append_column(field, pa.nulls(sent.num_rows, field.type))
    plant.table("pump", "telemetry").replace(day, sent, run_id="r")

    def silent(reason: str) -> float:
        refused = {"date": MORNING.date(), "stream": "telemetry", "reason": reason, "equipment_id": "p0", "raw": "{}"}
        late = refused | {"ts": MORNING + timedelta(hours=14), "arrival": 1, "batch": "b", "offset": 0}
        quarantine = plant.table("pump", "telemetry_quarantine")
        quarantine.replace(day, pa.Table.from_pylist([late]), run_id="r")
        contracts = {"telemetry": plant.catalog.contracts["pump"]}
        found = judge(plant, "pump", contracts, day, InThisProcess(), cap=40)
        return next(f for f in found.findings if f.rule.kind == "completeness").numbers["machines_short"]

    assert silent(AHEAD_OF_CLOCK) == 0
    assert silent("out_of_range:flow_m3_h") == len(PUMPS), "a reading whose time has come does tell that others are due"
