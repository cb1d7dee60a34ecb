"""Training on a real Ray cluster, and what becomes of it when the cluster, the way to it or its launcher is lost."""

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chaos.floor.tcp_proxy import TcpProxy
from resources.state.works import Work
from tests.browser.demo_plant import alive
from tests.faults.closing_check import nothing_is_missing_or_twice
from tests.faults.running_plant import FLEET, Layout, RunningPlant, running
from tests.resources.targets.ray_cluster import RayCluster
from tests.scenarios.installation import Installation

pytestmark = [pytest.mark.slow, pytest.mark.plant, pytest.mark.ray, pytest.mark.timeout(900)]

SILENCE_S, REQUEST_S = 5.0, 2.0
ENDED = ("STOPPED", "FAILED", "SUCCEEDED")
SPARE_S = 10.0
"""What noticing may take beyond that on a busy machine: a last question, an attempt to cancel, the ledger."""

Measured = Callable[[str, object], None]


def on_ray(port: int) -> Layout:
    return Layout(
        cloud=f"""kind = "ray"
address = "http://127.0.0.1:{port}"
request_timeout_s = {REQUEST_S}
silence_s = {SILENCE_S}
timeout_s = 180
"""
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    cluster = RayCluster()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def link(cluster: RayCluster) -> Iterator[TcpProxy]:
    with TcpProxy("127.0.0.1", cluster.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def services(another: Callable[[Layout], Installation], link: TcpProxy) -> Iterator[RunningPlant]:
    with running(another(on_ray(link.port))) as plant:
        yield plant


@pytest.fixture
def plant(services: RunningPlant, link: TcpProxy) -> Iterator[RunningPlant]:
    """The plant whole and idle; so it has to be left."""
    link.passing()
    services.forgive()
    services.change(on_ray(link.port))
    yield services
    link.passing()
    services.wait(lambda: not services.plant.works.left_running(), "no work is left running")
    nothing_is_missing_or_twice(services.plant, FLEET, services.instance)


def job(cluster: RayCluster, handle: str | None) -> dict[str, Any]:
    with urllib.request.urlopen(f"{cluster.address}/api/jobs/{handle}", timeout=10) as answer:  # noqa: S310 - ours
        return dict(json.load(answer))


def jobs(cluster: RayCluster) -> set[str]:
    with urllib.request.urlopen(f"{cluster.address}/api/jobs/", timeout=10) as answer:  # noqa: S310 - ours
        return {one["submission_id"] for one in json.load(answer)}


def held(plant: RunningPlant, cluster: RayCluster, run_id: str) -> tuple[Work, int]:
    """The run's training on the cluster, and its process, which is stopped: it never ends by itself."""
    work = plant.working(run_id, "training")
    assert work.target == "cloud-worker"

    def trains() -> int:
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if b"hybrid_assets.workers.train" not in (entry.parent / "cmdline").read_bytes():
                    continue
                if b"INPUT_TRAINING_SET=" + str(cluster.folder).encode() in entry.read_bytes():
                    return int(entry.parent.name)
        return 0

    process = plant.wait(trains, "the cluster trains")
    plant.wait(lambda: any("lives are held out" in line for line in plant.log(run_id)), "the work speaks")
    os.kill(process, signal.SIGSTOP)
    return work, process


def tries(plant: RunningPlant, run_id: str) -> list[Work]:
    return [w for w in plant.plant.works.all(run_id=run_id) if w.workload == "training"]


def done_on_premises(plant: RunningPlant, run_id: str, lost: datetime) -> float:
    """The run's training was done on the premises with less; seconds from `lost` until it was placed there."""
    assert plant.ended(run_id) == "SUCCESS", plant.log(run_id)[-5:]
    first, second = tries(plant, run_id)
    assert (first.target, first.alternative) == ("cloud-worker", "training-full")
    assert (second.target, second.alternative, second.state) == ("plant-worker", "training-small", "succeeded")
    assert [b.target for b in plant.plant.dispatcher.blocks.active(second.began)] == ["cloud-worker"]
    return (second.began - lost).total_seconds()


@pytest.mark.parametrize("way", ["passing", "latency", "throttle"])
def test_training_on_a_cluster_gives_a_bundle_that_can_be_released(
    plant: RunningPlant, cluster: RayCluster, link: TcpProxy, way: str
) -> None:
    """There and back: code and inputs are shipped, log lines come while it runs, results come back."""
    if way == "latency":
        link.latency(0.15)
    elif way == "throttle":
        link.throttle(1_000_000)
    before = jobs(cluster)
    run_id = plant.train()
    plant.wait(lambda: any("lives are held out" in line for line in plant.log(run_id)), "the work speaks")
    assert plant.status(run_id) == "STARTED"
    assert [w.state for w in tries(plant, run_id)] == ["running"]
    assert plant.ended(run_id) == "SUCCESS", plant.log(run_id)[-5:]
    (work,) = tries(plant, run_id)
    assert (work.target, work.alternative, work.state) == ("cloud-worker", "training-full", "succeeded")
    assert jobs(cluster) - before == {work.handle}
    candidate = json.loads(plant.plant.candidates(FLEET).get(run_id))
    bundle = plant.plant.store("cloud") / candidate["bundle"]
    assert {p.name for p in bundle.iterdir()} >= {"model.onnx", "manifest.json", "baseline.json"}
    assert json.loads(plant.plant.evaluations(FLEET).get(run_id))["metrics"]


def test_a_run_cancelled_from_the_ui_stops_its_job(plant: RunningPlant, cluster: RayCluster) -> None:
    run_id = plant.train()
    work, process = held(plant, cluster, run_id)
    plant.terminate(run_id)
    assert plant.ended(run_id) == "CANCELED"
    assert job(cluster, work.handle)["status"] == "STOPPED"
    assert not alive(process)
    assert [w.state for w in tries(plant, run_id)] == ["failed"]


def test_a_killed_run_leaves_no_job_behind(
    plant: RunningPlant, cluster: RayCluster, record_testsuite_property: Measured
) -> None:
    run_id = plant.train()
    work, process = held(plant, cluster, run_id)
    os.kill(plant.worker(run_id), signal.SIGKILL)
    killed = time.monotonic()
    plant.wait(lambda: job(cluster, work.handle)["status"] in ENDED, "the job is stopped")
    assert job(cluster, work.handle)["status"] == "STOPPED", job(cluster, work.handle)
    record_testsuite_property("killed_run.seconds_until_its_job_is_stopped", round(time.monotonic() - killed, 1))
    assert not alive(process)
    assert plant.ended(run_id) == "FAILURE"
    plant.wait(lambda: [w.state for w in tries(plant, run_id)] == ["failed"], "the work is written off")


@pytest.mark.parametrize("fault", ["reset", "blackhole"])
def test_a_link_that_is_lost_sends_training_to_the_premises(
    plant: RunningPlant, cluster: RayCluster, link: TcpProxy, record_testsuite_property: Measured, fault: str
) -> None:
    before = jobs(cluster)
    run_id = plant.train()
    work, process = held(plant, cluster, run_id)
    lost = datetime.now(UTC)
    getattr(link, fault)()
    took_s = done_on_premises(plant, run_id, lost)
    assert took_s < SILENCE_S + 3 * REQUEST_S + SPARE_S
    record_testsuite_property(f"{fault}.seconds_to_failover", took_s)
    assert alive(process)
    link.passing()
    plant.wait(lambda: job(cluster, work.handle)["status"] in ENDED, "the job is stopped when the link is back")
    assert job(cluster, work.handle)["status"] == "STOPPED", job(cluster, work.handle)
    assert not alive(process)
    assert jobs(cluster) - before == {work.handle}


def test_a_head_that_is_killed_is_noticed_in_time(
    plant: RunningPlant, link: TcpProxy, record_testsuite_property: Measured
) -> None:
    doomed = RayCluster()
    try:
        plant.change(on_ray(doomed.port))
        run_id = plant.train()
        held(plant, doomed, run_id)
        doomed.kill()
        lost = datetime.now(UTC)
        took_s = done_on_premises(plant, run_id, lost)
    finally:
        doomed.stop()
        # A cluster answers there again, which has forgotten all work: what was left running is written off.
        plant.change(on_ray(link.port))
    assert took_s < SILENCE_S + SPARE_S
    record_testsuite_property("killed_head.seconds_to_failover", took_s)
