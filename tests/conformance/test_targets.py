"""What every compute target keeps, whichever it is.

A target that needs set-up brings it in tests/resources/targets/examples/<kind>.py: a context manager
`settings(tmp_path)` that gives the settings it is opened with, and `MARKERS` for what its tests need.
"""

import importlib.util
import json
import os
import pickle
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest
from dagster_pipes import encode_param

from backbone import plugins
from backbone.errors import TargetFailed, UnknownName
from backbone.sites import TargetConfig
from backbone.targets import CAPABILITIES, WORK, Capability, ComputeTarget, TargetContext, TargetSpec
from resources import targets
from resources.bindings.pipes import Results, run_on_target
from resources.clock import SystemClock
from tests.shared_instance import shared_instance

FOLDER = Path(__file__).resolve().parents[1] / "resources" / "targets"
ROOT = FOLDER.parents[2]
PATIENCE_S = 60.0
WORKER = ["{python}", "-m", "example_worker"]


def example(kind: str) -> ModuleType | None:
    path = FOLDER / "examples" / f"{kind}.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"target_example_{kind}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def markers(kind: str) -> list[pytest.MarkDecorator]:
    return [getattr(pytest.mark, name) for name in getattr(example(kind), "MARKERS", ())]


KINDS = [pytest.param(kind, marks=markers(kind)) for kind in plugins.names(targets)]


def open_target(kind: str, settings: Mapping[str, Any], store: Path) -> ComputeTarget:
    def opened(kind: str, settings: Mapping[str, Any]) -> ComputeTarget:
        return plugins.load(targets, kind).open(TargetContext("a-target", store, SystemClock(), settings, opened))

    return opened(kind, settings)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def settings(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Set up once for all tests of a kind: that may mean to start a cluster."""
    module = example(kind)
    if module is None:
        yield {}
    else:
        with module.settings(tmp_path_factory.mktemp(kind)) as prepared:
            yield prepared


@pytest.fixture
def spec(kind: str) -> TargetSpec:
    return plugins.load(targets, kind)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def target(kind: str, settings: dict[str, Any], store: Path) -> ComputeTarget:
    return open_target(kind, settings, store)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For targets that call the worker where they are."""
    monkeypatch.syspath_prepend(str(FOLDER))


def need(spec: TargetSpec, *capabilities: Capability) -> None:
    for capability in capabilities:
        if capability in spec.cannot:
            pytest.skip(f"{spec.name} cannot do {capability}: {spec.cannot[capability]}")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.005)


def finished(target: ComputeTarget, handle: str) -> str:
    until(lambda: not target.poll(handle).running)
    return target.poll(handle).state


def session(**extras: Any) -> dict[str, str]:
    """The environment of a worker in a Pipes session of its own."""
    unset = ("asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key")
    data = dict.fromkeys([*unset, "partition_key_range", "partition_time_window", "job_name"])
    return {
        "PYTHONPATH": f"{FOLDER}{os.pathsep}{ROOT}",
        "DAGSTER_PIPES_CONTEXT": encode_param({"data": {**data, "extras": extras, "run_id": "r", "retry_number": 0}}),
        "DAGSTER_PIPES_MESSAGES": encode_param({"stdio": "stdout"}),
    }


class Gathered:
    """What a work has said so far."""

    def __init__(self, target: ComputeTarget, handle: str) -> None:
        self._target, self._handle, self.text = target, handle, ""

    def has(self, words: str) -> bool:
        self.text += self._target.logs(self._handle)
        return words in self.text


@dataclass
class WithPath:
    """A target whose work finds the example worker, as deployed work finds its code."""

    target: ComputeTarget

    def launch(self, command: list[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        return self.target.launch(command, {**env, "PYTHONPATH": session()["PYTHONPATH"]}, inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


def in_a_run(target: ComputeTarget, store: Path, inputs: Mapping[str, Path], **extras: Any) -> Results | str:
    """What the work left, or how its asset failed."""
    kept: list[Results] = []

    @dg.asset
    def work(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        config = TargetConfig("a-target", "a-place", "a-kind", PATIENCE_S)
        arguments = {"inputs": inputs, "extras": extras, "clock": SystemClock()}
        kept.append(run_on_target(context, WithPath(target), config, store, "work", WORKER, **arguments))
        return dg.MaterializeResult()

    result = dg.materialize([work], instance=shared_instance(), raise_on_error=False)
    if kept:
        return kept[0]
    (failure,) = result.filter_events(lambda e: e.is_step_failure)
    return str(failure.step_failure_data.error.cause.message)


def test_it_presents_itself(spec: TargetSpec) -> None:
    assert spec.summary.endswith(".")
    assert spec.cannot, "every target has limits; say which"
    assert all(len(why) > len("because") for why in spec.cannot.values())
    assert spec.poll_s > 0


def test_some_target_does_whatever_can_be_asked() -> None:
    specs = [plugins.load(targets, name) for name in plugins.names(targets)]
    assert any(not set(CAPABILITIES) & set(spec.cannot) for spec in specs)


# The protocol that workers speak.


def test_a_worker_reads_its_inputs_and_leaves_verified_results(target: ComputeTarget, store: Path) -> None:
    (store / "data.txt").write_text("a file")
    (store / "set" / "deep").mkdir(parents=True)
    (store / "set" / "one.txt").write_text("one")
    (store / "set" / "deep" / "two.txt").write_text("two")
    results = in_a_run(target, store, {"data": store / "data.txt", "training_set": store / "set"}, answer="43")
    assert isinstance(results, Results), results
    assert results.record["inputs"] == {"data": "a file", "training_set": "two+one"}
    assert results.folder == store / WORK / results.handle
    assert (results.folder / "parts" / "answer.txt").read_text() == "43"


def test_a_worker_that_fails_says_why(target: ComputeTarget, store: Path) -> None:
    told = in_a_run(target, store, {}, fail="the furnace is cold")
    assert isinstance(told, str), "it succeeded"
    assert "was lost" in told
    assert "the furnace is cold" in told


def test_work_is_heard_while_it_runs(target: ComputeTarget, tmp_path: Path) -> None:
    go = tmp_path / "go"
    handle = target.launch(WORKER, session(wait_for=str(go), says="gone on"), {})
    heard = Gathered(target, handle)
    until(lambda: heard.has("half way"))
    assert target.poll(handle).running
    assert not heard.has("gone on")
    go.touch()
    assert finished(target, handle) == "succeeded"
    assert heard.has("gone on")
    assert heard.has("completed")
    assert target.logs(handle) == ""


def test_works_at_once_do_not_mix(target: ComputeTarget, store: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    works = {
        target.launch(WORKER, session(answer=answer, says=f"says {answer}", wait_for=str(go)), {}): answer
        for answer in ("1", "2", "3")
    }
    assert all(target.poll(handle).running for handle in works)
    go.touch()
    for handle, answer in works.items():
        assert finished(target, handle) == "succeeded", target.poll(handle).detail
        assert (store / WORK / handle / "parts" / "answer.txt").read_text() == answer
        said = target.logs(handle)
        assert re.findall(r"says (\d)", said) == [answer]


def test_cancelling_what_has_ended_changes_nothing(target: ComputeTarget) -> None:
    handle = target.launch(WORKER, session(), {})
    assert finished(target, handle) == "succeeded"
    target.cancel(handle)
    target.cancel(handle)
    assert target.poll(handle).state == "succeeded"


def test_cancelled_work_is_no_longer_running(target: ComputeTarget, tmp_path: Path) -> None:
    handle = target.launch(WORKER, session(wait_for=str(tmp_path / "go")), {})
    heard = Gathered(target, handle)
    until(lambda: heard.has("half way"))
    target.cancel(handle)
    assert finished(target, handle) == "failed"
    (tmp_path / "go").touch()
    assert not heard.has("completed")
    assert target.poll(handle).state == "failed"


def test_a_handle_survives_pickling(target: ComputeTarget) -> None:
    handle = target.launch(WORKER, session(), {})
    copy = pickle.loads(pickle.dumps(handle))  # noqa: S301 - our own bytes
    assert type(copy) is str
    assert finished(target, copy) == "succeeded"


def test_a_handle_it_never_gave_out_is_a_failed_one(target: ComputeTarget) -> None:
    assert target.poll("nobody").state == "failed"
    target.cancel("nobody")
    assert target.logs("nobody") == ""


def test_a_program_that_is_not_there_is_a_failure(target: ComputeTarget) -> None:
    """At once where the target knows, in its own words; else as the end of the work."""

    def run() -> None:
        handle = target.launch(["/no/such/program"], {}, {})
        raise TargetFailed(f"It {finished(target, handle)}.", next_step="")

    with pytest.raises(TargetFailed, match=r"could not start|It failed"):
        run()


def test_an_unknown_setting_lists_the_valid_ones(kind: str, settings: dict[str, Any], store: Path) -> None:
    with pytest.raises(UnknownName, match="no_such_setting") as error:
        open_target(kind, {**settings, "no_such_setting": 1}, store)
    assert set(settings) <= set(error.value.valid)


# What a target may be unable to do, with its reason.


def test_any_command_runs_and_is_heard(target: ComputeTarget, spec: TargetSpec) -> None:
    need(spec, "commands", "logs")
    handle = target.launch(["{python}", "-c", "print('grüße\\n\\nhello')"], {}, {})
    assert finished(target, handle) == "succeeded"
    assert target.logs(handle) == "grüße\n\nhello\n"
    assert target.logs(handle) == ""


def test_a_failure_says_how_it_ended(target: ComputeTarget, spec: TargetSpec) -> None:
    need(spec, "commands")
    handle = target.launch(["{python}", "-c", "raise SystemExit(3)"], {}, {})
    assert finished(target, handle) == "failed"
    assert "3" in target.poll(handle).detail


def test_a_killed_process_is_noticed(target: ComputeTarget, spec: TargetSpec) -> None:
    need(spec, "commands", "death")
    handle = target.launch(["{python}", "-c", "import os; os.kill(os.getpid(), 9)"], {}, {})
    assert finished(target, handle) == "failed"
    assert re.search(r"SIGKILL|\b137\b|-9\b", target.poll(handle).detail)


@pytest.mark.parametrize("stubborn", [False, True], ids=["willing", "stubborn"])
def test_cancel_ends_the_work_and_its_children(
    target: ComputeTarget, spec: TargetSpec, tmp_path: Path, stubborn: bool
) -> None:
    need(spec, "commands", "cancel")
    pids = tmp_path / "pids"
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    program = (
        "import os, subprocess, sys, pathlib\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        f"there = pathlib.Path({str(pids)!r})\n"
        "there.with_suffix('.new').write_text(f'{os.getpid()} {child.pid}')\n"
        "there.with_suffix('.new').rename(there)\n"
        "child.wait()"
    )
    if not stubborn:
        program = program.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN); ", "")
    handle = target.launch(["{python}", "-c", program], {}, {})
    until(pids.exists)
    assert target.poll(handle).running
    target.cancel(handle)
    assert finished(target, handle) == "failed"
    until(lambda: not any(_alive(int(pid)) for pid in pids.read_text().split()))
    target.cancel(handle)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_work_sees_its_own_environment_and_inputs_only(
    target: ComputeTarget, spec: TargetSpec, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(spec, "commands", "isolate", "logs")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not yours")
    monkeypatch.setenv("HYBRID_HOME", "/elsewhere")
    (store / "data.txt").write_text("42")
    program = (
        "import json, os, pathlib\n"
        "read = pathlib.Path(os.environ['INPUT_TRAINING_SET']).read_text()\n"
        "print(json.dumps({'read': read, 'environment': dict(os.environ)}))"
    )
    handle = target.launch(["{python}", "-c", program], {"GIVEN": "yes"}, {"training_set": store / "data.txt"})
    assert finished(target, handle) == "succeeded"
    seen = json.loads(target.logs(handle))
    assert seen["read"] == "42"
    assert seen["environment"]["GIVEN"] == "yes"
    assert not {"AWS_SECRET_ACCESS_KEY", "HYBRID_HOME"} & set(seen["environment"])


def test_each_work_starts_in_an_empty_folder_of_its_own(target: ComputeTarget, spec: TargetSpec, store: Path) -> None:
    need(spec, "commands", "logs")
    program = "import os, pathlib; print(os.getcwd()); pathlib.Path('left').write_text(os.environ['ME'])"
    handles = {target.launch(["{python}", "-c", program], {"ME": me}, {}): me for me in ("one", "two")}
    assert {finished(target, handle) for handle in handles} == {"succeeded"}
    assert len({target.logs(handle) for handle in handles}) == 2
    for handle, me in handles.items():
        assert (store / WORK / handle / "left").read_text() == me
