"""The machines of a demonstration plant: they send what they read to the plant's gateway, over MQTT, as devices do.

    python -m cli.simulated_machines --site riverside

For every fleet whose source is `gateway` with a simulator as the other: what the simulator has from the day on from
which telemetry comes through the gateway. Each machine has a sender of its own, which keeps its readings until the
gateway has acknowledged them.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backbone.errors import HybridError
from cli.gateway import gateway_status
from gateway.exchange import write_whole
from gateway.mqtt_connection import Broker
from gateway.sender import Sender
from resources.home import Home
from resources.plant import Catalog, Plant

_LOOK_S = 1.0
_DRAIN_S = 5.0


def simulated_fleets(plant: Plant) -> dict[str, Mapping[str, Any]]:
    """Fleets whose machines are to be simulated, and the settings of their source."""
    return {
        fleet.equipment_class: fleet.settings
        for fleet in plant.site.fleets
        if fleet.source == "gateway" and dict(fleet.settings.get("other") or {}).get("kind") == "simulator"
    }


@dataclass(slots=True)
class _Machines:
    """A fleet's machines, and up to when they have sent."""

    plant: Plant
    equipment_class: str
    settings: Mapping[str, Any]
    folder: Path
    senders: dict[str, Sender] = field(default_factory=dict)

    @property
    def _note(self) -> Path:
        return self.folder / "sent_up_to"

    def send_due(self, broker: Broker, now: datetime, stack: ExitStack) -> int:
        """Send what is due; how many readings."""
        from resources.collector import due_until

        live_from = self.plant.site.first_day + timedelta(days=int(self.settings["telemetry_days"]))
        position = self._note.read_text() if self._note.exists() else f"{live_from}T00:00:00+00:00"
        sent = 0
        for batch in self._simulator().batches(position, due_until(self.plant, self.equipment_class, now)):
            if batch.stream == "telemetry":
                for row in _rows(batch.rows):
                    self._sender(row.pop("equipment_id"), broker, stack).send(row.pop("ts"), row)
                    sent += 1
            position = batch.position
            write_whole(self._note, position.encode())
        return sent

    def _simulator(self) -> Any:
        from resources.sources.simulator import SPEC

        other = {key: value for key, value in self.settings["other"].items() if key != "kind"}
        return SPEC.open(self.plant.source_context(self.equipment_class, other))

    def _sender(self, equipment: str, broker: Broker, stack: ExitStack) -> Sender:
        if equipment not in self.senders:
            sender = Sender(broker, self.plant.site.name, equipment, self.folder)
            stack.callback(sender.close, _DRAIN_S)
            self.senders[equipment] = sender
        return self.senders[equipment]


def _rows(rows: Any) -> Iterator[dict[str, Any]]:
    """A dictionary a reading; in the order of their times, as machines send them."""
    for row in rows.to_pylist():
        if row["ts"] is not None:
            yield row


def run(site: str, ended: threading.Event) -> None:
    """Send until `ended`."""
    plant = Plant(Catalog(Home.from_environment().prepare()), site)
    fleets = simulated_fleets(plant)
    with ExitStack() as stack:
        broker: Broker | None = None
        machines = [_Machines(plant, name, settings, _folder(plant, name)) for name, settings in fleets.items()]
        while not ended.wait(_LOOK_S):
            if broker is None:
                broker = _broker(site)
                continue
            for each in machines:
                if sent := each.send_due(broker, datetime.now(UTC), stack):
                    print(f"{datetime.now(UTC):%H:%M:%S} {each.equipment_class}: {sent} readings", flush=True)


def _folder(plant: Plant, equipment_class: str) -> Path:
    folder = plant.catalog.home.root / "machines" / plant.site.name / equipment_class
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _broker(site: str) -> Broker | None:
    """The gateway's own broker, once it is up."""
    try:
        url = gateway_status(site)["broker"]
    except HybridError:
        return None
    return Broker(url, "3.1.1") if url else None


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m cli.simulated_machines", description=__doc__)
    parser.add_argument("--site", required=True)
    site = parser.parse_args().site
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        run(site, ended)
    except HybridError as error:
        print(f"{error.problem} {error.next_step}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
