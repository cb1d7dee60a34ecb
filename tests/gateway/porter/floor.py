"""A gateway's folder with a spool and a porter, without the processes around them."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backbone.contracts import Contract
from backbone.windows import WindowRange
from gateway.exchange import Folders
from gateway.porter.porter import Landed, Porter
from gateway.records import Record
from gateway.settings import GatewayFleet, GatewaySettings, SpoolSettings
from gateway.spool import Spool, SpoolReader
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.dead_letters import DeadLetters
from resources.landing import Landing
from tests.simulated_clock import Simulated

CONTRACTS = read_contracts([SHIPPED])
FLEETS = {"pump": ("P-*",), "turbofan": ("T-*",)}
SITE, GATEWAY = "north", "gw-1"
FIRST = date(2025, 12, 1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def reading(seq: int, *, equipment: str = "P-1", source: str = "press", age_s: float = 1.0, **told: Any) -> Record:
    """One that is as it should be, sent `age_s` before now."""
    at = NOW - timedelta(seconds=age_s)
    values = {"flow_m3_h": 180.5, "speed_rpm": 1450} if equipment.startswith("P") else {"op_1": 0.5}
    # Each has a time of its own: what comes twice is one reading sent twice, never two readings.
    ts = (at - timedelta(milliseconds=seq % 86_400_000)).isoformat()
    payload = {"ts": ts, "seq": seq, "values": values} | told
    return Record(source, equipment, json.dumps(payload).encode(), microseconds(at))


def letter(seq: int, reason: str = "invalid_json") -> Record:
    return Record("press", "P-1", b"{cut %d" % seq, microseconds(NOW), reason, "00-ab-cd-01")


@dataclass
class Floor:
    """Of one gateway; `porter` opens as many after each other as a test wants."""

    root: Path
    spool_settings: SpoolSettings = field(default_factory=lambda: SpoolSettings(segment_mib=0.01, drain_per_s=1e9))
    fleets: Mapping[str, Sequence[str]] = field(default_factory=lambda: FLEETS)
    clock: Simulated = field(default_factory=Simulated)
    name: str = GATEWAY

    @property
    def settings(self) -> GatewaySettings:
        fleets = {name: GatewayFleet(tuple(patterns)) for name, patterns in self.fleets.items()}
        return GatewaySettings(self.name, fleets, spool=self.spool_settings)

    @property
    def folders(self) -> Folders:
        return Folders(self.root / "gateway" / SITE / self.name)

    @property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.root / "gateway" / SITE / "dead_letters")

    @property
    def contracts(self) -> dict[str, Contract]:
        return {name: CONTRACTS[name] for name in self.fleets}

    def landing(self, fleet: str) -> Landing:
        contracts = {"telemetry": CONTRACTS[fleet], "maintenance": CONTRACTS["maintenance"]}
        return Landing(self.root / fleet / "landing" / SITE, SITE, contracts, FIRST, None)

    def spool(self, records: Sequence[Record]) -> int:
        """Add records; the position after them."""
        with Spool(self.folders.spool, self.spool_settings) as spool:
            return spool.append([record.to_bytes() for record in records])

    def porter(self, reached: Callable[[str], None] = lambda _: None, *, wait_s: float = 0.1) -> Porter:
        return Porter(
            SITE,
            self.settings,
            self.folders,
            SpoolReader(self.folders.spool),
            {name: self.landing(name) for name in self.fleets},
            self.contracts,
            self.letters,
            self.clock,
            wait_s=wait_s,
            reached=reached,
        )

    def land(self, up_to: int) -> list[Landed]:
        """All of it, by one porter."""
        porter = self.porter()
        try:
            return list(landings(porter, up_to))
        finally:
            porter.close()

    def rows(self, fleet: str = "pump") -> pa.Table:
        """What has landed, in the order it did."""
        file = self.root / "export.parquet"
        self.landing(fleet).export("telemetry", WindowRange(SITE, FIRST, date(2026, 2, 1)), file)
        return pq.read_table(file)

    def positions(self) -> dict[str, list[int]]:
        """Table → the positions of this gateway in it, rising."""
        found = {}
        for name in self.fleets:
            rows = self.rows(name)
            mine = pc.starts_with(rows["batch"], f"gateway:{SITE}:{self.name}:")
            found[name] = sorted(row_positions(rows.filter(mine)))
        letters = self.dead_letters()
        mine = letters.filter(pc.equal(letters["gateway"], self.name)) if letters.num_rows else letters
        return found | {"dead_letters": sorted(mine["position"].to_pylist())}

    def dead_letters(self) -> pa.Table:
        from resources.stores.tables import scan

        if not self.letters.exists:
            return pa.table({"position": pa.array([], pa.int64())})
        return scan(self.letters.path, pc.field("site") == SITE)


def landings(porter: Porter, up_to: int) -> Iterator[Landed]:
    while porter.position < up_to:
        yield porter.land(up_to)


def row_positions(rows: pa.Table) -> list[int]:
    firsts = [int(batch.split(":")[4].split("-")[0]) for batch in rows["batch"].to_pylist()]
    return [first + offset for first, offset in zip(firsts, rows["offset"].to_pylist(), strict=True)]


if __name__ == "__main__":  # `floor.py ROOT UP_TO STEP N`: die by the signal KILL when a step is done for the Nth time
    import os
    import signal

    def die(step: str, left: list[int] = [int(sys.argv[4])]) -> None:  # noqa: B006 - counts down
        if step == sys.argv[3]:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    for done in landings(Floor(Path(sys.argv[1])).porter(die), int(sys.argv[2])):
        print(json.dumps(done.to_dict()), flush=True)
