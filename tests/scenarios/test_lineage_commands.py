"""`hybrid run` leaves its events behind; trace and impact answer from them; what waits and what is wrong is told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.readings import readings_of
from resources.home import Home
from resources.lineage.index import LineageIndex
from resources.lineage.trace import Trace, trace
from resources.state.database import Database
from resources.state.outbox import Outbox
from tests.resources.lineage.backend import Backend
from tests.resources.lineage.events import pair
from tests.scenarios.installation import Installation

DAY = "2025-02-28"


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def _events(installation: Installation) -> list[dict]:
    file = installation.home.root / "lineage" / "events.ndjson"
    return [json.loads(line) for line in file.read_text().splitlines()]


def _traced(installation: Installation, advisory: str) -> Trace:
    return trace(LineageIndex(Database(installation.home.state_url)), advisory)


def _machines(installation: Installation) -> list[str]:
    rows = installation.plant().advisories("pump").read("north").to_pylist()
    return sorted({row["equipment_id"] for row in rows if row["served_by"].startswith("model")})


def test_a_run_told_all_of_it(served: Installation) -> None:
    status = served.hybrid("lineage", "status")
    events = _events(served)
    assert status["pending"] == status["set_aside"] == 0
    assert status["delivered"] == len(events)
    keys = {(e["run"]["runId"], e["eventType"], e["eventTime"]) for e in events}
    assert len(keys) == len(events)
    ends: dict[str, list[str]] = {}
    for event in events:
        ends.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert {tuple(types) for types in ends.values()} == {("START", "COMPLETE")}


def test_an_advisory_is_traced_to_the_readings(served: Installation) -> None:
    machine = _machines(served)[0]
    advised = served.plant().advisories("pump").read("north").to_pylist()
    row = max((r for r in advised if r["equipment_id"] == machine), key=lambda r: r["date"])
    found = served.hybrid("trace", f"north/pump/{machine}/{row['date']}")
    assert found["advisory"]["severity"] == row["severity"]
    assert found["advisory"]["epoch"] == row["epoch"]
    made = {step["asset"] for step in found["steps"]}
    assert {f"pump/{a}" for a in ("advisories", "prognoses", "condition_features", "model_release", "trained_model",
                                  "training_set", "telemetry")} <= made  # fmt: skip
    assert found["sources"] == ["simulator:// north/pump"]
    trained = next(s for s in found["steps"] if s["asset"] == "pump/trained_model")
    assert trained["placement"]["location"] == "cloud"
    assert {c["what"] for c in trained["crossings"]} == {"pump/training_set"}
    versions = {link["asset"]: link["version"] for link in found["links"]}
    assert versions["pump/model_release"] == "1"
    assert versions["pump/telemetry"].isdecimal()
    landed = [link for link in found["links"] if link["asset"] == "pump/landing/telemetry"]
    assert all(link["hybrid_offsets"]["batches"] for link in landed)
    text = served.run("trace", f"north/pump/{machine}/{row['date']}").stdout
    assert "crossed on_prem → cloud: pump/training_set" in text
    assert "← simulator:// north/pump" in text


def test_a_trace_ends_at_the_readings_of_the_machine(served: Installation) -> None:
    plant = served.plant()
    refused = plant.table("pump", "telemetry_quarantine").read("north").to_pylist()
    advised = {(r["equipment_id"], r["date"]) for r in plant.advisories("pump").read("north").to_pylist()}
    # Of a machine whose only reading of a day was refused, nothing is advised.
    bad = next(r for r in refused if r["stream"] == "telemetry" and (r["equipment_id"], r["date"]) in advised)
    machine, day = bad["equipment_id"], bad["date"]
    stored = plant.table("pump", "telemetry").read("north", day, day).to_pylist()
    mine = sorted((r for r in stored if r["equipment_id"] == machine), key=lambda r: r["ts"])
    found = served.hybrid("trace", f"north/pump/{machine}/{day}")["readings"]
    assert found["version"] == found["read_in_version"] == 0
    assert [(r["batch"], r["offset"]) for r in found["rows"]] == [(r["batch"], r["offset"]) for r in mine]
    assert found["newest"]["vibration_mm_s"] == {"value": mine[-1]["vibration_mm_s"], "unit": "mm/s"}
    assert bad["reason"] in {r["reason"] for r in found["quarantined"]}
    text = served.run("trace", f"north/pump/{machine}/{day}").stdout
    assert f"readings of {machine} on {day}: {len(mine)}, in pump/telemetry @0, as it was read" in text
    assert f"{bad['reason']}; row {bad['offset']} of {bad['batch']}" in text


def test_readings_are_left_out_where_that_is_asked_for_or_the_store_is_elsewhere(served: Installation) -> None:
    advisory = f"north/pump/{_machines(served)[0]}/{DAY}"
    without = served.hybrid("trace", advisory, "--no-readings")
    assert "readings" not in without
    elsewhere = Home(served.home.root.parent / "elsewhere").prepare()
    shutil.copy(served.home.root / "state.db", elsewhere.root / "state.db")
    away = Installation(elsewhere)
    found = away.hybrid("trace", advisory)
    assert found["steps"] == without["steps"]
    assert "no site named 'north'" in found["readings"]["not_read"]
    shutil.copytree(served.home.sites, elsewhere.sites, dirs_exist_ok=True)
    assert "telemetry" in away.hybrid("trace", advisory)["readings"]["not_read"]


def test_readings_in_a_version_that_is_gone_are_those_of_now_and_it_is_said(
    served: Installation,
) -> None:
    machine = _machines(served)[0]
    found = _traced(served, f"north/pump/{machine}/{DAY}")
    assert found.readings is not None
    gone = replace(found, readings=replace(found.readings, version=99))
    now = readings_of(gone, served.home)
    assert not isinstance(now, str)
    assert (now.version, len(now.rows) > 0) == (0, True)
    assert "pump/telemetry @0, as it is now: pump/telemetry @99, as it was read, is gone" in now.lines()[0]


def test_a_bad_sensor_is_followed_to_what_it_touched(served: Installation) -> None:
    machine = _machines(served)[0]
    found = served.hybrid("impact", machine, "vibration_mm_s", "--from", "2025-02-01", "--to", "2025-02-03")
    assert found["windows"]["pump/condition_features"] == ["2025-02-01", "2025-02-02", "2025-02-03"]
    assert all(c.startswith(("vibration_mm_s", "health")) for c in found["columns"]["pump/condition_features"])
    assert [m["release"] for m in found["models"]] == [1]
    assert found["models"][0]["touched_windows"] == 3
    assert any(a["open"] for a in found["advisories"])


def test_an_unknown_advisory_or_sensor_is_one_line(served: Installation) -> None:
    done = served.run("trace", "WO-4711")
    assert done.returncode == 2
    assert "There is no id of this form named 'WO-4711'" in done.stderr
    assert "that of an advisory is SITE/CLASS/EQUIPMENT/DAY" in done.stderr
    done = served.run("trace", "north/pump/P-999/2025-02-28")
    assert done.returncode == 2
    assert "north/pump/" in done.stderr
    assert "SITE/CLASS/EQUIPMENT/DAY" in done.stderr
    done = served.run("impact", _machines(served)[0], "vibration", "--from", "2025-02-01", "--to", "2025-02-03")
    assert done.returncode == 2
    assert "vibration_mm_s" in done.stderr


@pytest.mark.slow
def test_a_backend_that_is_down_holds_no_run_up_and_gets_all_of_it_later(
    copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation: Installation = copied()
    backend = Backend()
    backend.start()
    backend.stop()
    monkeypatch.setenv("OPENLINEAGE_URL", backend.url)
    installation.hybrid("run", "--site", "north", "--from", "2025-02-27", "--to", DAY)
    status = installation.hybrid("lineage", "status", ok=False)
    assert status["pending"] > 0
    assert "cannot be reached" in status["backend"]["why"]
    assert "cannot be reached" in installation.run("doctor").stdout
    backend.start()
    try:
        for _ in range(5):
            done = installation.run("lineage", "relay", "--json")
            if done.returncode == 0:
                break
    finally:
        backend.stop()
    assert json.loads(done.stdout)["pending"] == 0
    assert len(backend.bodies) == status["pending"]
    assert all(types[0] == "START" and len(types) == 2 for types in backend.of_run().values())


def test_a_wrong_configuration_fails_at_start(installation: Installation, tmp_path: Path, monkeypatch) -> None:
    config = tmp_path / "openlineage.yml"
    config.write_text("transport: {type: http, ulr: 'http://127.0.0.1:5000'}")
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(config))
    for command in (["run", "--site", "riverside"], ["up"], ["lineage", "relay"], ["lineage", "status"]):
        done = installation.run(*command)
        assert done.returncode == 2, command
        assert str(config) in done.stderr
        assert "Traceback" not in done.stderr
    done = installation.run("doctor")
    assert done.returncode == 1
    assert str(config) in done.stdout


def test_the_relay_follows_until_it_is_interrupted(installation: Installation) -> None:
    outbox = Outbox(Database(installation.home.state_url))
    outbox.add("a run", pair("a"), now=datetime.now(UTC))
    command = [str(Path(sys.executable).with_name("hybrid")), "lineage", "relay", "--follow", "--json"]
    variables = os.environ | {"HYBRID_HOME": str(installation.home.root)}
    relay = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
    try:
        for more in (0, 1):
            deadline = time.monotonic() + 120
            while outbox.standing().pending:
                assert relay.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            if not more:
                outbox.add("another", pair("b"), now=datetime.now(UTC))
        relay.send_signal(signal.SIGINT)
        told, _ = relay.communicate(timeout=60)
    finally:
        relay.kill()
    assert relay.returncode == 0
    assert json.loads(told)["delivered"] == len(_events(installation)) == 4


def test_a_damaged_row_is_reported_and_the_others_go_on(installation: Installation) -> None:
    database = Database(installation.home.state_url)
    Outbox(database).add("a run", pair("a"), now=datetime.now(UTC))
    with database.engine.execution_options(writes=True).begin() as connection:
        connection.exec_driver_sql("UPDATE lineage_events SET digest = 'damaged' WHERE type = 'START'")
    done = installation.hybrid("lineage", "relay")
    assert (done["delivered"], done["set_aside"], done["pending"]) == (1, 1, 0)
    status = installation.hybrid("lineage", "status", ok=False)
    assert "their SHA-256 differs" in status["set_aside_newest"][0]["reason"]
    doctor = installation.run("doctor")
    assert doctor.returncode == 1
    assert "1 events set aside" in doctor.stdout
    assert "hybrid lineage relay --again" in doctor.stdout


def test_switched_off_no_event_is_kept(copied, monkeypatch: pytest.MonkeyPatch) -> None:
    installation: Installation = copied()
    before = installation.hybrid("lineage", "status")["delivered"]
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    installation.hybrid("run", "--site", "north", "--from", DAY, "--to", DAY)
    status = installation.hybrid("lineage", "status")
    assert "OPENLINEAGE_DISABLED" in status["to"]
    assert (status["delivered"], status["pending"]) == (before, 0)
