"""Several gateways of one plant, as real processes with homes of their own, on one broker and one store."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backbone.windows import WindowRange
from chaos.floor.machines import FLOWING
from gateway.sender import Sender
from tests.gateway.floor import SITE, Floor, floor
from tests.gateway.mosquitto import Mosquitto, needs_mosquitto

pytestmark = [needs_mosquitto, pytest.mark.slow]
EACH = 120
BEGAN = datetime.now(UTC) - timedelta(minutes=10)
SHARED = ("edge", "on_prem", "cloud")


def serves(works: Floor, name: str, *equipment: str) -> None:
    """Have the site file of a home name a gateway, its machines, and the store that all gateways share."""
    file = works.home.sites / f"{SITE}.toml"
    lines = []
    for line in file.read_text().splitlines():
        key = line.partition(" = ")[0]
        if key == "store" or line in ('others = "ignore"', 'others = "dead_letter"'):
            continue
        if line.startswith('name = "gw'):
            line = f'name = "{name}"\nothers = "ignore"'
        if key == "equipment":
            line = f"equipment = {list(equipment)}"
        lines.append(line)
        shared = works.home.root.parents[1] / "shared"
        lines += [f'store = "{shared / place}"' for place in SHARED if line == f'name = "{place}"']
    file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[tuple[Floor, Floor, Mosquitto]]:
    with Mosquitto(tmp_path / "broker") as broker, contextlib.ExitStack() as stack:
        source = f'[[gateway.sources]]\nkind = "mqtt"\nurl = "{broker.url}"'
        one, other = (floor(tmp_path / name, source) for name in ("one", "other"))
        stack.callback(one.end)
        stack.callback(other.end)
        serves(one, "gw-1", "P-1*")
        serves(other, "gw-2", "P-2*")
        yield one, other, broker


def send(senders: dict[str, Sender], first: int) -> None:
    """`EACH` readings of every machine, all of them at once, with times of their own."""
    for number in range(first, first + EACH):
        for sender in senders.values():
            sender.send(BEGAN + timedelta(milliseconds=10 * number), FLOWING)


def settled(senders: dict[str, Sender], *works: Floor) -> None:
    """All is acknowledged, and has landed; and the gateways have ended in order."""
    for sender in senders.values():
        assert sender.drain(60)
    for one in works:
        one.until(lambda: one.ask()["spool"]["waiting"] == 0)  # noqa: B023 - asked at once
    for one in works:
        assert one.stop() == 0


def counts(found: dict[str, Any], *names: str) -> dict[str, int]:
    return {name: found[name] for name in names}


def test_two_land_in_the_same_tables_and_a_machine_goes_over_from_one_to_the_other(
    plant: tuple[Floor, Floor, Mosquitto],
) -> None:
    one, other, broker = plant
    machines = ("P-101", "P-102", "P-201", "P-202")
    with contextlib.ExitStack() as stack:
        senders = {name: stack.enter_context(Sender(broker.url, SITE, name)) for name in machines}
        for works in (one, other):
            works.start()
        send(senders, 0)
        settled(senders, one, other)
        serves(one, "gw-1", "P-1*", "P-201")
        serves(other, "gw-2", "P-202")
        for works in (one, other):
            works.start()
        send(senders, EACH)
        settled(senders, one, other)
    found = one.reconciled()
    total = len(machines) * 2 * EACH
    numbers = {"accepted": total, "stored": total, "dead_lettered": 0, "spooled": 0, "missing": 0, "twice": 0}
    assert counts(found, *numbers) == numbers
    assert {name: one["stored"] for name, one in found["gateways"].items()} == {"gw-1": 5 * EACH, "gw-2": 3 * EACH}
    assert counts(other.reconciled(), *numbers) == numbers, "whoever asks"
    file, today = one.home.root / "all.parquet", BEGAN.date()
    one.plant.landing("pump").export("telemetry", WindowRange(SITE, today, today + timedelta(days=1)), file)
    rows = landed(file)
    assert len(rows) == len(set(rows)) == total
    by_gateway = {(machine, gateway) for machine, gateway, _ in rows}
    assert by_gateway == {("P-101", "gw-1"), ("P-102", "gw-1"), ("P-201", "gw-2"), ("P-201", "gw-1"), ("P-202", "gw-2")}


def landed(file: Path) -> list[tuple[str, str, str]]:
    """Machine, gateway and id of every row."""
    import pyarrow.parquet as pq

    rows = pq.read_table(file, columns=["equipment_id", "batch", "reading_id"]).to_pylist()
    return [(row["equipment_id"], row["batch"].split(":")[2], row["reading_id"]) for row in rows]


def test_a_reading_that_two_of_them_took_is_there_twice(plant: tuple[Floor, Floor, Mosquitto]) -> None:
    one, other, broker = plant
    serves(other, "gw-2", "P-2*", "P-101")
    with Sender(broker.url, SITE, "P-101") as sender:
        for works in (one, other):
            works.start()
            works.until(lambda: works.ask()["sources"]["mqtt-1"]["connections"] == 1)  # noqa: B023 - asked at once
        send({"P-101": sender}, 0)
        for works in (one, other):  # the sender is content with one of them
            works.until(lambda: works.ask()["spool"]["kept"] == EACH)  # noqa: B023
        settled({"P-101": sender}, one, other)
    found = one.reconciled()
    assert counts(found, "accepted", "missing", "twice") == {"accepted": 2 * EACH, "missing": 0, "twice": EACH}
