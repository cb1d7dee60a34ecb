"""What every compute target keeps, whichever it is."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backbone import plugins
from backbone.errors import ConfigurationError, TargetFailed
from backbone.targets import ComputeTarget, TargetContext, TargetSpec
from resources import targets

NAMES = plugins.names(targets)
PATIENCE_S = 20.0


@pytest.fixture(params=NAMES)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> ComputeTarget:
    spec: TargetSpec = plugins.load(targets, request.param)
    return spec.open(TargetContext("a-target", tmp_path / "store"))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        os.sched_yield()


def finished(target: ComputeTarget, handle: str) -> str:
    until(lambda: not target.poll(handle).running)
    return target.poll(handle).state


@pytest.mark.parametrize("name", NAMES)
def test_it_presents_itself(name: str) -> None:
    spec: TargetSpec = plugins.load(targets, name)
    assert spec.summary.endswith(".")
    assert spec.cannot


def test_work_runs_says_something_and_ends(target: ComputeTarget) -> None:
    handle = target.launch(["{python}", "-c", "print('hello')"], {}, {})
    assert finished(target, handle) == "succeeded"
    assert target.logs(handle) == "hello\n"
    assert target.logs(handle) == ""


def test_a_failure_says_how_it_ended(target: ComputeTarget) -> None:
    handle = target.launch(["{python}", "-c", "raise SystemExit(3)"], {}, {})
    assert finished(target, handle) == "failed"
    assert "3" in target.poll(handle).detail


def test_a_killed_process_is_noticed(target: ComputeTarget) -> None:
    handle = target.launch(["{python}", "-c", "import os; os.kill(os.getpid(), 9)"], {}, {})
    assert finished(target, handle) == "failed"
    assert signal.SIGKILL.name in target.poll(handle).detail


def test_cancel_ends_the_work_and_its_children(target: ComputeTarget, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "import os,subprocess,sys,pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(pids)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "child.wait()"
    )
    handle = target.launch(["{python}", "-c", program], {}, {})
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    assert target.poll(handle).running
    target.cancel(handle)
    assert not target.poll(handle).running
    until(lambda: not any(_alive(int(pid)) for pid in pids.read_text().split()))
    target.cancel(handle)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_sees_its_own_environment_and_inputs_only(
    target: ComputeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not yours")
    monkeypatch.setenv("HYBRID_HOME", "/elsewhere")
    data = tmp_path / "store" / "data.txt"
    data.parent.mkdir(parents=True)
    data.write_text("42")
    program = "import json,os; print(json.dumps({**os.environ, 'CWD': os.getcwd()}))"
    handle = target.launch(["{python}", "-c", program], {"GIVEN": "yes"}, {"training_set": data})
    assert finished(target, handle) == "succeeded"
    seen = json.loads(target.logs(handle))
    assert seen["GIVEN"] == "yes"
    assert Path(seen["INPUT_TRAINING_SET"]).read_text() == "42"
    assert "AWS_SECRET_ACCESS_KEY" not in seen
    assert "HYBRID_HOME" not in seen
    assert Path(seen["CWD"]).is_relative_to(tmp_path / "store")


def test_two_works_do_not_share_a_folder(target: ComputeTarget) -> None:
    program = "import os; print(os.getcwd())"
    handles = [target.launch(["{python}", "-c", program], {}, {}) for _ in range(2)]
    assert {finished(target, h) for h in handles} == {"succeeded"}
    assert len({target.logs(h) for h in handles}) == 2


def test_a_program_that_is_not_there_is_a_failure_of_the_target(target: ComputeTarget) -> None:
    with pytest.raises(TargetFailed, match="could not start"):
        target.launch(["/no/such/program"], {}, {})


def test_a_handle_it_never_gave_out_is_a_failed_one(target: ComputeTarget) -> None:
    assert target.poll("nobody").state == "failed"
    target.cancel("nobody")
    assert target.logs("nobody") == ""


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_setting_lists_the_valid_ones(name: str, tmp_path: Path) -> None:
    spec: TargetSpec = plugins.load(targets, name)
    with pytest.raises(ConfigurationError, match=r"no_such_setting.*known:"):
        spec.open(TargetContext("t", tmp_path, {"no_such_setting": 1}))
