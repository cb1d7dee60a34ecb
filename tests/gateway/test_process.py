"""The gateway as a real process, with a real broker: what it acknowledged is stored, once, whatever is killed."""

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chaos.floor.machines import FLOWING
from gateway.sender import Sender
from tests.gateway.floor import SITE, Floor, floor
from tests.gateway.mosquitto import Listener, Mosquitto, needs_mosquitto

pytestmark = needs_mosquitto
KILLS = 10
HEAVY = (
    "dagster pandas sklearn great_expectations pyarrow deltalake sqlalchemy numba polars matplotlib openlineage "
    "asyncua quality sensors resources.state"
).split()


@pytest.fixture
def works(tmp_path: Path, broker: Mosquitto) -> Iterator[Floor]:
    made = floor(tmp_path, f'[[gateway.sources]]\nkind = "mqtt"\nurl = "{broker.url}"')
    yield made
    made.end()


def send(sender: Sender, count: int, *, since: datetime) -> None:
    for number in range(count):
        sender.send(since + timedelta(milliseconds=number), FLOWING | {"flow_m3_h": 100 + number % 50 / 10})


def landed(works: Floor, count: int) -> None:
    works.until(lambda: works.ask()["spool"]["landed"] >= count)


def test_what_is_acknowledged_lands_once_and_a_letter_is_kept_with_its_reason(works: Floor, broker: Mosquitto) -> None:
    works.start()
    with Sender(broker.url, SITE, "P-101") as sender:
        send(sender, 40, since=datetime.now(UTC) - timedelta(minutes=1))
        sender.send(datetime.now(UTC), FLOWING | {"flow_m3_h": 9999.0})
        assert sender.drain(30)
    landed(works, 41)
    told = works.ask()
    assert told["messages"] == {"kept": 40, "dead_letter": 1}
    assert told["reasons"] == {"dead_letter: out_of_range:flow_m3_h": 1}
    assert "hybrid_gateway_landed_total 40.0" in works.ask("/metrics")
    assert works.stop() == 0
    found = works.reconciled()
    numbers = {name: found[name] for name in ("accepted", "stored", "dead_lettered", "spooled", "missing", "twice")}
    assert numbers == {"accepted": 41, "stored": 40, "dead_lettered": 1, "spooled": 0, "missing": 0, "twice": 0}


def test_a_dead_letter_that_has_landed_is_known_to_the_next_process(works: Floor, broker: Mosquitto) -> None:
    for process in (1, 2):
        works.start()
        works.until(lambda: works.ask()["sources"]["mqtt-1"]["connected"])
        with Listener(broker.port, "nothing") as device:
            device.publish(f"hybrid/{SITE}/P-101/telemetry", b"{")
            device.publish(f"hybrid/{SITE}/P-101/telemetry", b"[" + bytes(1_060_000))
        works.until(lambda: works.ask()["messages"].get("dead_letter") == 2)
        landed(works, 2)
        assert works.stop() == 0, process
    found = works.reconciled()
    assert (found["accepted"], found["dead_lettered"], found["twice"]) == (2, 2, 0)


@pytest.mark.slow
def test_killed_at_any_time_it_loses_nothing_it_acknowledged_and_takes_nothing_twice(
    works: Floor, broker: Mosquitto
) -> None:
    chance = random.Random(11)  # noqa: S311 - when it is killed
    sent, began = 0, datetime.now(UTC) - timedelta(minutes=5)
    works.start()
    with Sender(broker.url, SITE, "P-101", answer_s=0.5) as sender:
        for _ in range(KILLS):
            send(sender, 60, since=began + timedelta(seconds=sent))
            sent += 60
            left = chance.randrange(60)
            works.until(lambda: sender.unacknowledged <= left)  # noqa: B023 - asked before it changes
            works.kill()
            works.start()
        assert sender.drain(60)
    landed(works, sent)
    assert works.stop() == 0
    found = works.reconciled()
    assert (found["accepted"], found["stored"]) == (sent, sent)
    assert (found["missing"], found["twice"], found["spooled"]) == (0, 0, 0)


def test_a_second_gateway_of_the_same_plant_is_refused_and_says_why(works: Floor) -> None:
    works.start()
    command = [sys.executable, "-m", "gateway.main", "--site", SITE]
    second = subprocess.run(command, env=works.environment, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 2
    assert "Another process has the spool" in second.stderr


def test_without_a_porter_readings_stay_in_the_spool_and_land_when_there_is_one(
    works: Floor, broker: Mosquitto
) -> None:
    works.start("--no-porter")
    with Sender(broker.url, SITE, "P-101") as sender:
        send(sender, 20, since=datetime.now(UTC) - timedelta(minutes=1))
        assert sender.drain(30)
    assert works.stop() == 0
    assert works.reconciled()["spooled"] == 20
    works.start()
    landed(works, 20)
    works.stop()
    found = works.reconciled()
    assert (found["stored"], found["spooled"], found["missing"]) == (20, 0, 0)


@pytest.mark.slow
def test_a_spool_that_was_full_takes_readings_again_once_it_has_landed(tmp_path: Path, broker: Mosquitto) -> None:
    small = floor(tmp_path, f'[[gateway.sources]]\nkind = "mqtt"\nurl = "{broker.url}"', "spool = { max_mib = 0.05 }")
    try:
        small.start("--no-porter")
        with Sender(broker.url, SITE, "P-101", answer_s=0.5) as sender:
            send(sender, 300, since=datetime.now(UTC) - timedelta(minutes=1))
            small.until(lambda: "refused" in small.ask()["messages"])
            small.kill()
            small.start()
            assert sender.drain(60)
        landed(small, 300)
        assert small.stop() == 0
        found = small.reconciled()
        assert (found["stored"], found["missing"], found["twice"]) == (300, 0, 0)
    finally:
        small.end()


def test_it_imports_neither_dagster_nor_any_library_of_tables() -> None:
    code = (
        "import sys, gateway.main, gateway.process, gateway.sources.mqtt, gateway.embedded_broker, gateway.sender\n"
        "import resources.plant, maintenance.feature_state, maintenance.incremental_features, onnxruntime, uvloop\n"
        "import maintenance.questions.anomaly.of_class, maintenance.questions.failure_within.of_class\n"
        "import maintenance.questions.remaining_life.of_class, aiohttp.web, prometheus_client\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
