"""The ray target against a real cluster: results come whole, deaths are noticed, a bad network does no harm.

What every target keeps is in tests/conformance/test_targets.py.
"""

import hashlib
import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backbone.errors import ConfigurationError, TargetFailed
from backbone.targets import WORK, ComputeTarget, TargetContext
from chaos.floor.tcp_proxy import TcpProxy
from resources.clock import SystemClock
from resources.targets.ray import SPEC
from tests.resources.targets.ray_cluster import RayCluster, shared_cluster

PATIENCE_S = 60.0
REQUEST_S = 2.0
SPARE_S = 2.0
"""What a bounded call may take beyond its time-out on a busy machine."""

on_a_cluster = pytest.mark.ray


def open_target(store: Path, address: str, **settings: Any) -> ComputeTarget:
    store.mkdir(exist_ok=True)
    given = {"address": address, "num_cpus": 0.5, "request_timeout_s": REQUEST_S, **settings}
    return SPEC.open(TargetContext("burst", store, SystemClock(), given))


@pytest.fixture
def cluster() -> RayCluster:
    return shared_cluster()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def target(store: Path, cluster: RayCluster) -> ComputeTarget:
    return open_target(store, cluster.address)


@pytest.fixture
def proxy(cluster: RayCluster) -> Iterator[TcpProxy]:
    with TcpProxy("127.0.0.1", cluster.port) as proxy:
        yield proxy


@pytest.fixture
def behind(store: Path, proxy: TcpProxy) -> ComputeTarget:
    """A target that reaches the cluster through the proxy."""
    return open_target(store, f"http://{proxy.host}:{proxy.port}")


def until(condition: Callable[[], bool], what: str = "it") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come to pass in time"
        time.sleep(0.02)


def ended(target: ComputeTarget, handle: str) -> str:
    until(lambda: not target.poll(handle).running, "the end")
    return target.poll(handle).state


def jobs(cluster: RayCluster) -> dict[str, dict[str, Any]]:
    """Every job the cluster knows, by its id."""
    with urllib.request.urlopen(f"{cluster.address}/api/jobs/", timeout=10) as answer:  # noqa: S310
        return {job["submission_id"]: job for job in json.load(answer)}


def counting(counter: Path) -> list[str]:
    """A command that leaves one line each time it runs."""
    return ["{python}", "-c", f"print('ran', file=open({str(counter)!r}, 'a'))"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def waiting(folder: Path) -> tuple[list[str], Callable[[], tuple[int, int, int]]]:
    """A command that starts a child in a session of that child's parent and waits; and who runs: entry, work, child."""
    pids = folder / "pids"
    program = (
        "import os, pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(folder / 'new')!r}).write_text(f'{{os.getppid()}} {{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(folder / 'new')!r}, {str(pids)!r})\n"
        "child.wait()"
    )

    def running() -> tuple[int, int, int]:
        until(pids.exists, "the start")
        entry, work, child = map(int, pids.read_text().split())
        return entry, work, child

    return ["{python}", "-c", program], running


@on_a_cluster
def test_results_of_several_megabytes_come_back_bit_for_bit(target: ComputeTarget, store: Path) -> None:
    program = (
        "import hashlib, os, pathlib\n"
        "pathlib.Path('bundle/empty').mkdir(parents=True)\n"
        "content = os.urandom(6_000_000)\n"
        "pathlib.Path('bundle/model.onnx').write_bytes(content)\n"
        "pathlib.Path('record.json').write_text(hashlib.sha256(content).hexdigest())"
    )
    handle = target.launch(["{python}", "-c", program], {}, {})
    assert ended(target, handle) == "succeeded", target.poll(handle).detail
    folder = store / WORK / handle
    content = (folder / "bundle" / "model.onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() == (folder / "record.json").read_text()
    assert sorted(p.name for p in (store / WORK).iterdir()) == [handle]
    assert target.logs(handle) == ""


@on_a_cluster
def test_results_beyond_the_limit_are_refused_with_the_limits_name(store: Path, cluster: RayCluster) -> None:
    target = open_target(store, cluster.address, max_results_mb=0.5)
    handle = target.launch(["{python}", "-c", "open('large', 'wb').write(bytes(600_000))"], {}, {})
    assert ended(target, handle) == "failed"
    assert "max_results_mb = 0.5" in target.poll(handle).detail


@on_a_cluster
def test_endless_output_is_ended_with_the_limits_name(store: Path, cluster: RayCluster) -> None:
    target = open_target(store, cluster.address, max_output_mb=0.1)
    handle = target.launch(["{python}", "-c", "while True: print('x' * 100)"], {}, {})
    assert ended(target, handle) == "failed"
    assert "max_output_mb = 0.1" in target.poll(handle).detail


@on_a_cluster
def test_output_is_neither_lost_nor_doubled_however_long_or_odd_its_lines(
    target: ComputeTarget, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    program = (
        "import os, pathlib, time\n"
        "for i in range(200): print(i, 'é' * (i * 100), flush=True)\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        "os.write(1, b'\\xff\\xc3'); os.write(1, b'\\xa9 half\\n')\n"
        "print('#begin'); print('no newline', end='')"
    )
    handle = target.launch(["{python}", "-c", program], {}, {})
    heard = [""]

    def hears(words: str) -> bool:
        heard[0] += target.logs(handle)
        return words in heard[0]

    until(lambda: hears("\n199 "), "the last line")
    assert target.poll(handle).running
    go.touch()
    assert ended(target, handle) == "succeeded"
    heard[0] += target.logs(handle)
    assert target.logs(handle) == ""
    expected = [f"{i} {'é' * (i * 100)}" for i in range(200)]
    assert heard[0].split("\n") == [*expected, "\ufffdé half", "#begin", "no newline", ""]


@on_a_cluster
def test_the_project_and_the_inputs_are_there(target: ComputeTarget, store: Path) -> None:
    (store / "set" / "deep").mkdir(parents=True)
    (store / "set" / "deep" / "rows.txt").write_text("rows")
    program = (
        "import os, pathlib, backbone.targets, hybrid_assets.workers.session as session\n"
        "print(pathlib.Path(os.environ['INPUT_TRAINING_SET'], 'deep', 'rows.txt').read_text())\n"
        "print(backbone.targets.__file__); print(session.__file__)"
    )
    handle = target.launch(["{python}", "-c", program], {}, {"training_set": store / "set"})
    assert ended(target, handle) == "succeeded"
    rows, *places = target.logs(handle).split()
    assert rows == "rows"
    assert all("/runtime_resources/" in place for place in places)


@on_a_cluster
def test_the_same_code_and_inputs_are_sent_once(behind: ComputeTarget, proxy: TcpProxy, store: Path) -> None:
    (store / "rows").write_bytes(os.urandom(2_000_000))
    for _ in range(2):
        before = proxy.bytes_to_server
        handle = behind.launch(["{python}", "-c", "pass"], {}, {"rows": store / "rows"})
        sent = proxy.bytes_to_server - before
        assert ended(behind, handle) == "succeeded"
    assert sent < 100_000


@on_a_cluster
def test_any_process_that_knows_the_handle_can_ask_and_cancel(
    target: ComputeTarget, store: Path, cluster: RayCluster, tmp_path: Path
) -> None:
    command, running = waiting(tmp_path)
    handle = target.launch(command, {}, {})
    pids = running()
    assert jobs(cluster)[handle]["metadata"]["launcher"].endswith(f":{os.getpid()}")
    another = open_target(store, cluster.address)
    assert another.poll(handle).running
    another.cancel(handle)
    assert target.poll(handle).detail == "it was cancelled"
    until(lambda: not any(map(alive, pids)), "the end of every process")


@on_a_cluster
@pytest.mark.parametrize("victim", ["entry", "work"])
def test_a_process_killed_half_way_is_noticed_and_leaves_no_other(
    target: ComputeTarget, tmp_path: Path, victim: str
) -> None:
    command, running = waiting(tmp_path)
    handle = target.launch(command, {}, {})
    entry, work, child = running()
    os.kill({"entry": entry, "work": work}[victim], signal.SIGKILL)
    assert ended(target, handle) == "failed"
    assert target.poll(handle).detail == "killed by SIGKILL"
    until(lambda: not any(map(alive, (entry, work, child))), "the end of every process")


@on_a_cluster
def test_a_killed_head_is_told_in_time_and_its_work_ends(tmp_path: Path) -> None:
    cluster = RayCluster()
    try:
        target = open_target(tmp_path / "store", cluster.address)
        command, running = waiting(tmp_path)
        handle = target.launch(command, {}, {})
        pids = running()
        assert target.poll(handle).running
        cluster.kill()
        started = time.monotonic()
        with pytest.raises(TargetFailed, match="no answer"):
            target.poll(handle)
        with pytest.raises(TargetFailed, match="no answer"):
            target.cancel(handle)
        with pytest.raises(TargetFailed, match="no answer"):
            target.launch(command, {}, {})
        assert target.logs(handle) == ""
        assert time.monotonic() - started < 4 * REQUEST_S + SPARE_S
        until(lambda: not any(map(alive, pids)), "the end of the work")
    finally:
        cluster.stop()


# Faults between the client and a real head.


@on_a_cluster
def test_latency_slows_it_and_nothing_else(behind: ComputeTarget, proxy: TcpProxy, store: Path, tmp_path: Path) -> None:
    proxy.latency(0.2)
    handle = behind.launch(counting(tmp_path / "ran"), {}, {})
    assert ended(behind, handle) == "succeeded"
    assert (tmp_path / "ran").read_text() == "ran\n"


@on_a_cluster
@pytest.mark.parametrize("fault", ["reset", "refuse", "blackhole", "mute"])
def test_a_cut_link_is_told_in_time_and_work_goes_on_behind_it(
    behind: ComputeTarget, proxy: TcpProxy, tmp_path: Path, fault: str
) -> None:
    go, ran = tmp_path / "go", tmp_path / "ran"
    program = (
        "import pathlib, time\n"
        "print('half way', flush=True)\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        f"print('ran', file=open({str(ran)!r}, 'a'))\n"
        "print('done')"
    )
    handle = behind.launch(["{python}", "-c", program], {}, {})
    heard = [behind.logs(handle)]
    until(lambda: heard.append(behind.logs(handle)) or "half way" in "".join(heard), "its first words")
    getattr(proxy, fault)()
    for call in (behind.poll, behind.cancel):
        started = time.monotonic()
        with pytest.raises(TargetFailed, match="no answer"):
            call(handle)
        assert time.monotonic() - started < REQUEST_S + SPARE_S
    go.touch()
    until(ran.exists, "the work")
    proxy.passing()
    assert ended(behind, handle) == "succeeded"
    heard.append(behind.logs(handle))
    assert "".join(heard) == "half way\ndone\n"
    assert ran.read_text() == "ran\n"


@on_a_cluster
@pytest.mark.parametrize("fault", ["reset", "refuse", "blackhole"])
def test_a_launch_into_a_cut_link_fails_in_time_and_starts_nothing(
    behind: ComputeTarget, proxy: TcpProxy, cluster: RayCluster, tmp_path: Path, fault: str
) -> None:
    before = set(jobs(cluster))
    getattr(proxy, fault)()
    started = time.monotonic()
    with pytest.raises(TargetFailed, match="no answer"):
        behind.launch(counting(tmp_path / "ran"), {}, {})
    assert time.monotonic() - started < 2 * REQUEST_S + SPARE_S
    assert set(jobs(cluster)) == before


@on_a_cluster
def test_a_trickle_is_given_up_in_time(behind: ComputeTarget, proxy: TcpProxy, tmp_path: Path) -> None:
    """Bytes keep coming, so no socket's time-out ever strikes."""
    handle = behind.launch(counting(tmp_path / "ran"), {}, {})
    proxy.throttle(400)
    started = time.monotonic()
    with pytest.raises(TargetFailed, match="no answer within 2 s"):
        behind.poll(handle)
    assert time.monotonic() - started < REQUEST_S + SPARE_S
    proxy.throttle(200_000)
    assert ended(behind, handle) == "succeeded"
    assert (tmp_path / "ran").read_text() == "ran\n"


@on_a_cluster
def test_a_launch_whose_answer_is_lost_is_found_again_and_runs_once(
    behind: ComputeTarget, proxy: TcpProxy, cluster: RayCluster, tmp_path: Path
) -> None:
    before = set(jobs(cluster))
    behind.poll("0" * 32)
    ended(behind, behind.launch(["{python}", "-c", "pass"], {}, {}))  # the package is on the cluster now
    proxy.lose_answer_to(b"POST /api/jobs/")
    handle = behind.launch(counting(tmp_path / "ran"), {}, {})
    assert ended(behind, handle) == "succeeded"
    assert len(set(jobs(cluster)) - before) == 2
    assert (tmp_path / "ran").read_text() == "ran\n"


@on_a_cluster
def test_a_launch_that_failed_but_arrived_is_ended_when_the_cluster_is_back(
    behind: ComputeTarget, proxy: TcpProxy, cluster: RayCluster, tmp_path: Path
) -> None:
    ended(behind, behind.launch(["{python}", "-c", "pass"], {}, {}))
    before = set(jobs(cluster))
    command, running = waiting(tmp_path)
    proxy.lose_answer_to(b"POST /api/jobs/", and_stay_mute=True)
    with pytest.raises(TargetFailed, match="no answer"):
        behind.launch(command, {}, {})
    (stray,) = set(jobs(cluster)) - before
    pids = running()
    proxy.passing()
    behind.poll("0" * 32)
    until(lambda: jobs(cluster)[stray]["status"] == "STOPPED", "the end of the stray")
    assert not any(map(alive, pids))


# Without a cluster.


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "address is missing"),
        ({"address": "head:8265"}, "http://head:8265"),
        ({"address": "http://h", "code": ["no_such_package"]}, "no_such_package"),
        ({"address": "http://h", "request_timeout_s": 0}, "request_timeout_s is 0"),
        ({"address": "http://h", "num_cpus": -1}, "num_cpus is -1"),
    ],
)
def test_bad_settings_are_told_when_it_is_opened(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        SPEC.open(TargetContext("burst", tmp_path, SystemClock(), settings))


def test_an_address_of_the_environment_does_not_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:2")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:2")
    with pytest.raises(TargetFailed, match=r"127\.0\.0\.1:1:"):
        open_target(tmp_path / "store", "http://127.0.0.1:1").poll("0" * 32)


def test_a_command_too_long_to_pass_on_is_refused(tmp_path: Path) -> None:
    target = open_target(tmp_path / "store", "http://127.0.0.1:1")
    with pytest.raises(TargetFailed, match="pass what is larger as an input"):
        target.launch(["{python}", "-c", os.urandom(100_000).hex()], {}, {})


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    target = open_target(tmp_path / "store", "http://127.0.0.1:1")
    with pytest.raises(TargetFailed, match=r"rows\.parquet"):
        target.launch(["{python}"], {}, {"rows": tmp_path / "rows.parquet"})
