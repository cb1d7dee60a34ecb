"""Real processes of a plant are killed or stopped in the middle: an answer still comes, once, and is made good."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from tests.browser.demo_plant import alive
from tests.faults.closing_check import nothing_is_missing_or_twice
from tests.faults.running_plant import (
    FLEET,
    LAST_SERVED,
    SITE,
    SUBPROCESS,
    Layout,
    RunningPlant,
    running,
)
from tests.scenarios.installation import Installation

pytestmark = [pytest.mark.slow, pytest.mark.plant, pytest.mark.timeout(900)]

NOTICED_S = 45.0
"""A killed run is noticed by Dagster's monitoring every 10 s, and answered by the sensor a tick later."""

LAYOUT = Layout(last_day=LAST_SERVED + timedelta(days=1))

Measured = Callable[[str, object], None]


@pytest.fixture(scope="module")
def services(another: Callable[[Layout], Installation]) -> Iterator[RunningPlant]:
    with running(another(LAYOUT)) as plant:
        yield plant


@pytest.fixture
def plant(services: RunningPlant) -> Iterator[RunningPlant]:
    """The plant whole and idle; so it has to be left."""
    services.forgive()
    services.change(LAYOUT)
    yield services
    nothing_is_missing_or_twice(services.plant, FLEET, services.instance)


def trained_on_premises_instead(plant: RunningPlant, run_id: str, *, because: str) -> None:
    """The run's training failed in the cloud, and was done on the premises with less."""
    assert plant.ended(run_id) == "SUCCESS", plant.log(run_id)[-5:]
    tries = [w for w in plant.plant.works.all(run_id=run_id) if w.workload == "training"]
    assert [(w.target, w.alternative, w.state) for w in tries] == [
        ("cloud-worker", "training-full", "failed"),
        ("plant-worker", "training-small", "succeeded"),
    ]
    assert because in tries[0].why
    made = (
        plant.instance.fetch_materializations(dg.AssetKey([FLEET, "trained_model"]), limit=1).records[0].event_log_entry
    )
    assert made.run_id == run_id
    assert made.asset_materialization is not None
    metadata = made.asset_materialization.metadata
    assert metadata["tries"].value == 2
    assert f"tried: cloud-worker at cloud: {tries[0].why}" in str(metadata["placement"].value)
    blocked = plant.plant.dispatcher.blocks.active(tries[1].began)
    assert [b.target for b in blocked] == ["cloud-worker"]


def test_training_that_is_killed_is_done_on_the_premises(plant: RunningPlant) -> None:
    run_id = plant.train()
    os.kill(plant.process_of(plant.working(run_id, "training")), signal.SIGKILL)
    trained_on_premises_instead(plant, run_id, because="killed by SIGKILL")


def test_training_that_hangs_is_ended_and_done_on_the_premises(plant: RunningPlant) -> None:
    cloud = SUBPROCESS.replace("timeout_s = 120", "timeout_s = 8")
    plant.change(replace(LAYOUT, cloud=cloud))
    run_id = plant.train()
    process = plant.process_of(plant.working(run_id, "training"))
    os.kill(process, signal.SIGSTOP)
    trained_on_premises_instead(plant, run_id, because="still running after 8 s")
    assert not alive(process)


def test_a_killed_run_is_answered_by_the_rules_once_and_made_good(
    plant: RunningPlant, record_testsuite_property: Measured
) -> None:
    first, last = LAST_SERVED - timedelta(days=1), LAST_SERVED
    run_id = plant.serve(first, last)
    plant.working(run_id, "scoring")
    os.kill(plant.worker(run_id), signal.SIGKILL)
    killed = datetime.now(UTC)
    epoch = plant.plant.answers(FLEET).epoch_of(run_id)
    assert epoch is not None
    plant.wait(lambda: plant.answer(last).epoch >= epoch, "an answer comes", NOTICED_S * 2)
    by_rules = plant.answer(last)
    assert (by_rules.epoch, set(by_rules.reasons)) == (epoch, {"error"})
    assert not any(by.startswith("model") for by in by_rules.served_by)
    assert plant.status(run_id) == "FAILURE"
    record_testsuite_property("killed_run.seconds_to_fallback", (by_rules.answered_at - killed).total_seconds())
    record_testsuite_property("killed_run.seconds_to_recovery", plant.made_good(killed))
    history = plant.plant.advisories(FLEET).history(SITE, first, last, columns=["epoch", "served_by"]).to_pylist()
    assert {"rules", "safe_default"} & {r["served_by"] for r in history if r["epoch"] == epoch}
    assert {r["served_by"] for r in history if r["epoch"] == plant.answer(last).epoch} >= {"model:v1"}
    assert len(plant.runs_in_place_of(run_id)) == 1


def test_a_killed_daemon_ends_the_command_as_data_docs_do_not_and_the_next_start_answers(
    plant: RunningPlant, record_testsuite_property: Measured
) -> None:
    day = LAST_SERVED - timedelta(days=2)
    run_id = plant.serve(day)
    plant.working(run_id, "scoring")
    command = plant.up.process
    docs = plant.module("cli.data_docs")
    os.kill(docs, signal.SIGKILL)
    plant.wait(lambda: plant.module("cli.data_docs") not in (None, docs), "Data Docs are served again", 60)
    assert command.poll() is None, "nobody needs them for an answer"
    daemon = next(pid for pid in plant.services("dagster-daemon"))
    os.kill(daemon, signal.SIGKILL)
    killed = datetime.now(UTC)
    plant.wait(lambda: command.poll() is not None, "hybrid up ends by itself", 60)
    assert command.returncode == 1
    assert not alive(plant.worker(run_id))
    epoch = plant.plant.answers(FLEET).epoch_of(run_id)
    assert epoch is not None
    plant.stop()
    plant.start()
    plant.wait(lambda: plant.answer(day).epoch >= epoch, "an answer comes")
    by_rules = plant.answer(day)
    assert by_rules.epoch == epoch
    assert not any(by.startswith("model") for by in by_rules.served_by)
    record_testsuite_property("killed_daemon.seconds_to_fallback", (by_rules.answered_at - killed).total_seconds())
    record_testsuite_property("killed_daemon.seconds_to_recovery", plant.made_good(killed))
    assert len(plant.runs_in_place_of(run_id)) == 1
