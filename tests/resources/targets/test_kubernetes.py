"""The kubernetes target against a stand-in for the API server that checks manifests against the official schema.

No real cluster is exercised; docs/targets.md says what that leaves open. What every target keeps is in
tests/conformance/test_targets.py.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backbone.errors import ConfigurationError, TargetFailed
from backbone.targets import ComputeTarget, TargetContext
from chaos.floor.tcp_proxy import TcpProxy
from resources.clock import SystemClock
from resources.targets.kubernetes import HANDLE_LABEL, SPEC
from tests.resources.targets import cluster_api
from tests.resources.targets.cluster_api import ClusterApi

pytest.importorskip("kubernetes", reason="pip install '.[test-all]'")
official = pytest.importorskip("kubernetes_validate.utils", reason="pip install '.[test-all]'")
pytestmark = pytest.mark.kubernetes

PATIENCE_S = 30.0
REQUEST_S = 1.0
SPARE_S = 1.5
"""What a bounded call may take beyond its time-out on a busy machine."""
HELLO = ["{python}", "-c", "print('hello')"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def api(store: Path) -> Iterator[ClusterApi]:
    with ClusterApi(lambda _: store) as api:
        yield api


@pytest.fixture
def proxy(api: ClusterApi) -> Iterator[TcpProxy]:
    with TcpProxy("127.0.0.1", api.port) as proxy:
        yield proxy


def settings(kubeconfig: Path, **given: Any) -> dict[str, Any]:
    ours = {"kubeconfig": str(kubeconfig), "context": "plant", "image": cluster_api.IMAGE, "claim": "plant-store"}
    return {**ours, "request_timeout_s": REQUEST_S, **given}


Opened = Callable[..., ComputeTarget]


@pytest.fixture
def opened(store: Path, api: ClusterApi) -> Opened:
    """Opens a target with these settings beside the usual."""

    def open_target(port: int = 0, **given: Any) -> ComputeTarget:
        kubeconfig = api.kubeconfig(store.parent / f"kubeconfig-{port}", port)
        return SPEC.open(TargetContext("burst", store, SystemClock(), settings(kubeconfig, **given)))

    return open_target


@pytest.fixture
def behind(opened: Opened, proxy: TcpProxy) -> ComputeTarget:
    """A target that reaches the API server through the proxy."""
    return opened(port=proxy.port)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


def how_it_failed(target: ComputeTarget, handle: str) -> str:
    until(lambda: not target.poll(handle).running)
    status = target.poll(handle)
    assert status.state == "failed"
    return status.detail


def succeeds(target: ComputeTarget, handle: str) -> bool:
    until(lambda: not target.poll(handle).running)
    return target.poll(handle).state == "succeeded"


@pytest.mark.parametrize("version", list(dict.fromkeys(official.all_versions()))[-6:])
def test_the_manifest_fits_the_official_schema_of_each_supported_release(
    opened: Opened, api: ClusterApi, store: Path, version: str
) -> None:
    (store / "rows").write_text("rows")
    target = opened(
        service_account="trainer",
        gpus=1,
        node_selector={"pool": "gpu"},
        tolerations=[{"key": "gpu", "effect": "NoSchedule"}],
    )
    target.launch(HELLO, {"A": "1"}, {"rows": store / "rows"})
    (run,) = api.runs.values()
    manifest = {key: run.job[key] for key in ("apiVersion", "kind", "metadata", "spec")}
    official.validate(manifest, version, strict=True)


def test_a_pod_may_do_no_more_than_it_must_and_is_never_tried_twice(opened: Opened, api: ClusterApi) -> None:
    handle = opened(deadline_s=60, memory_gb=1.5, cpu=0.5).launch(HELLO, {}, {})
    (run,) = api.runs.values()
    spec = run.job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert run.job["metadata"]["labels"][HANDLE_LABEL] == handle
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], pod["restartPolicy"]) == (0, 60, "Never")
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"] == {"cpu": "0.5", "memory": "1500000000"}


def test_the_site_files_context_is_used_and_not_the_current_one(opened: Opened) -> None:
    assert succeeds(opened(), opened().launch(HELLO, {}, {}))
    with pytest.raises(TargetFailed, match="no answer"):
        opened(context="elsewhere").launch(HELLO, {}, {})


@pytest.mark.parametrize("text", ["$(HOME)", "$$(HOME)", "$HOME", "$(", "a $(A) b", '{"a": [1, null]}', "$$"])
def test_text_reaches_the_work_as_it_is(opened: Opened, text: str) -> None:
    target = opened()
    program = "import os, sys; print(sys.argv[1]); print(os.environ['GIVEN'])"
    handle = target.launch(["{python}", "-c", program, text], {"GIVEN": text, "A": "a"}, {})
    assert succeeds(target, handle)
    assert target.logs(handle) == f"{text}\n{text}\n"


def test_an_input_outside_the_store_is_refused(opened: Opened, api: ClusterApi, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("rows")
    with pytest.raises(TargetFailed, match="not in its location's store"):
        opened().launch(HELLO, {}, {"rows": tmp_path / "elsewhere"})
    assert not api.runs


@pytest.mark.parametrize(
    ("given", "command", "told"),
    [
        ({}, ["{python}", "-c", "raise SystemExit(3)"], "ended with exit code 3"),
        ({}, ["{python}", "-c", "import os; os.kill(os.getpid(), 9)"], "killed by SIGKILL (exit code 137)"),
        ({}, ["/no/such"], "could not start: exec:"),
        ({"image": cluster_api.LEAKY}, HELLO, "OOMKilled: it used more than memory_gb = 2"),
        ({"deadline_s": 1}, ["{python}", "-c", "import time; time.sleep(60)"], "it took longer than deadline_s = 1"),
        ({"image": cluster_api.MISNAMED}, HELLO, "it could not start: InvalidImageName"),
        ({"image": cluster_api.NOT_THERE, "pending_s": 0.3}, HELLO, "it did not start within 0.3 s: ImagePullBackOff"),
        ({"image": cluster_api.NO_NODE, "pending_s": 0.3}, HELLO, "Unschedulable: 0/3 nodes are available"),
    ],
)
def test_a_failure_is_told_in_words(opened: Opened, given: dict[str, Any], command: list[str], told: str) -> None:
    target = opened(**given)
    assert told in how_it_failed(target, target.launch(command, {}, {}))


def test_work_that_was_given_up_does_not_start_later(opened: Opened, api: ClusterApi) -> None:
    target = opened(image=cluster_api.NO_NODE, pending_s=0.2)
    handle = target.launch(HELLO, {}, {})
    assert target.poll(handle).running
    how_it_failed(target, handle)
    until(lambda: not api.runs)


def test_a_refusal_is_told_with_the_clusters_words(opened: Opened, api: ClusterApi) -> None:
    why = 'jobs.batch is forbidden: exceeded quota: "small"'
    api.refuse = {"kind": "Status", "apiVersion": "v1", "code": 403, "reason": "Forbidden", "message": why}
    with pytest.raises(TargetFailed, match="exceeded quota"):
        opened().launch(HELLO, {}, {})


def test_another_process_can_cancel_and_what_was_said_is_kept(opened: Opened, api: ClusterApi) -> None:
    target = opened()
    handle = target.launch(["{python}", "-c", "print('half way'); import time; time.sleep(600)"], {}, {})
    heard = [target.logs(handle)]
    until(lambda: heard.append(target.logs(handle)) or "half way" in "".join(heard))
    another = opened()
    another.cancel(handle)
    assert not api.runs
    assert another.logs(handle) == "half way\n"
    assert another.poll(handle).detail == "it was cancelled"
    assert target.poll(handle).state == "failed"
    assert "".join(heard) == "half way\n"


# Faults between the client and the API server.


@pytest.mark.parametrize("fault", ["reset", "refuse", "blackhole", "mute"])
def test_a_cut_link_is_told_in_time_and_work_goes_on_behind_it(
    behind: ComputeTarget, proxy: TcpProxy, tmp_path: Path, fault: str
) -> None:
    go = tmp_path / "go"
    program = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\nprint('done')"
    handle = behind.launch(["{python}", "-c", program], {}, {})
    getattr(proxy, fault)()
    for call in (behind.poll, behind.cancel):
        started = time.monotonic()
        with pytest.raises(TargetFailed, match="no answer"):
            call(handle)
        assert time.monotonic() - started < REQUEST_S + SPARE_S
    assert behind.logs(handle) == ""
    started = time.monotonic()
    with pytest.raises(TargetFailed, match="no answer"):
        behind.launch(HELLO, {}, {})
    assert time.monotonic() - started < 2 * REQUEST_S + SPARE_S
    go.touch()
    proxy.passing()
    assert succeeds(behind, handle)
    assert behind.logs(handle) == "done\n"


@pytest.mark.parametrize("bytes_per_s", [400, 50_000])
def test_a_slow_link_is_given_up_in_time_or_borne(
    behind: ComputeTarget, proxy: TcpProxy, api: ClusterApi, bytes_per_s: int
) -> None:
    handle = behind.launch(HELLO, {}, {})
    until(lambda: all(run.terminated for run in api.runs.values()))
    proxy.throttle(bytes_per_s)
    started = time.monotonic()
    if bytes_per_s < 1000:
        with pytest.raises(TargetFailed, match="no answer"):
            behind.poll(handle)
    else:
        assert behind.poll(handle).state == "succeeded"
    assert time.monotonic() - started < REQUEST_S + SPARE_S


def test_a_launch_whose_answer_is_lost_is_found_again_and_runs_once(
    behind: ComputeTarget, proxy: TcpProxy, api: ClusterApi
) -> None:
    proxy.lose_answer_to(b"POST ")
    handle = behind.launch(HELLO, {}, {})
    assert succeeds(behind, handle)
    assert behind.logs(handle) == "hello\n"
    assert api.created == 1


def test_a_launch_that_failed_but_arrived_is_ended_when_the_cluster_is_back(
    behind: ComputeTarget, proxy: TcpProxy, api: ClusterApi
) -> None:
    proxy.lose_answer_to(b"POST ", and_stay_mute=True)
    with pytest.raises(TargetFailed, match="no answer"):
        behind.launch(["{python}", "-c", "import time; time.sleep(600)"], {}, {})
    assert api.created == 1
    assert api.runs
    proxy.passing()
    behind.poll("nobody")
    until(lambda: not api.runs)


# Settings.


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"image": 3}, "image is 3"),
        ({"memory_gb": 0}, "memory_gb is 0"),
        ({"run_as_user": 0}, "run_as_user is 0"),
        ({"mount_path": "store"}, "mount_path is 'store'"),
        ({"tolerations": [{"operator": "Exists"}]}, "key is missing"),
    ],
)
def test_bad_settings_are_told_when_it_is_opened(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        SPEC.open(TargetContext("burst", tmp_path, SystemClock(), settings(tmp_path / "kubeconfig", **given)))


def test_a_context_that_is_not_in_the_kubeconfig_is_told_with_what_to_do(opened: Opened) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.*get-contexts"):
        opened(context="nowhere").poll("nobody1")


def test_the_stand_in_refuses_a_manifest_that_breaks_the_schema(api: ClusterApi) -> None:
    """Else the tests above would prove nothing."""
    code, told = api.create({"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {}, "retries": 1}})
    assert code == 422
    assert "retries" in json.dumps(told)
