"""A worker's end is believed only when it says that it has finished, and left what it says."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.clock import Clock
from backbone.errors import TargetFailed
from backbone.sites import TargetConfig
from backbone.targets import ComputeTarget, TargetContext, TargetStatus
from resources.bindings.pipes import OutputReader, Results, run_on_target
from resources.bindings.plants import failures
from resources.clock import SystemClock
from resources.targets.in_process import InProcessTarget
from resources.targets.subprocess import SPEC
from tests.shared_instance import shared_instance

PATIENCE_S = 30.0
WORKS = """
import os, sys, threading, time
from pathlib import Path
from hybrid_assets.workers.session import run_worker
def work(job):
    {does}
    return {{"seed": job.pipes.get_extra("seed")}}
run_worker(work)
"""


def doing(*lines: str) -> list[str]:
    """The command for a worker that does this."""
    return ["{python}", "-c", WORKS.format(does="\n    ".join(lines) or "pass")]


@dataclass
class Simulated:
    """A clock that passes only while it is waited for."""

    passed_s: float = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.passed_s, UTC)

    def monotonic(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0, "it would spin"
        self.passed_s += seconds


@dataclass
class Scripted:
    """A target that answers as told: how work stands at a time, and what it has said by then."""

    polls: Callable[[], TargetStatus]
    said: list[str] = field(default_factory=list)
    cancels: Callable[[], None] = lambda: None
    cancelled: list[str] = field(default_factory=list)

    def launch(self, *_: object) -> str:
        return "work-1"

    def poll(self, _: str) -> TargetStatus:
        return self.polls()

    def cancel(self, handle: str) -> None:
        self.cancelled.append(handle)
        self.cancels()

    def logs(self, _: str) -> str:
        return self.said.pop(0) if self.said else ""


@dataclass
class Bench:
    """Runs an asset whose work is done on a target."""

    store: Path
    instance: dg.DagsterInstance
    handles: list[str] = field(default_factory=list)
    results: list[Results] = field(default_factory=list)
    run: dg.ExecuteInProcessResult | None = None

    def work(
        self,
        command: list[str],
        *,
        target: ComputeTarget | None = None,
        timeout_s: float = PATIENCE_S,
        clock: Clock | None = None,
        **arguments: Any,
    ) -> Results | None:
        """What it left; None if the asset failed."""
        at = target or SPEC.open(TargetContext("cloud-worker", self.store, SystemClock()))
        config = TargetConfig("cloud-worker", "cloud", "subprocess", timeout_s)

        @dg.asset
        def work(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            given = {"inputs": {}, "extras": {"seed": 7}, "on_launch": self.handles.append} | arguments
            with failures():
                self.results.append(
                    run_on_target(
                        context, at, config, self.store, "training", command, clock=clock or SystemClock(), **given
                    )
                )
            return dg.MaterializeResult()

        self.run = dg.materialize([work], instance=self.instance, raise_on_error=False)
        return self.results[-1] if self.results else None

    @property
    def failure(self) -> str:
        return str(self._failure.description)

    @property
    def failed_as(self) -> str:
        """The class of the error."""
        return str(self._failure.metadata["error"].value)

    @property
    def _failure(self) -> Any:
        assert self.run is not None
        (event,) = self.run.filter_events(lambda e: e.is_step_failure)
        return event.step_failure_data.user_failure_data

    def logged(self) -> list[str]:
        """Every line of the event log, as the UI has it now."""
        from sqlalchemy.exc import OperationalError

        try:
            return [e.user_message for run in self.instance.get_runs() for e in self.instance.all_logs(run.run_id)]
        except OperationalError:
            return []  # SQLite in memory does not let a reader wait for a thread that writes


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    instance = shared_instance()
    instance.wipe()
    return Bench(tmp_path / "store", instance)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


def message(method: str, **params: Any) -> str:
    return json.dumps({"__dagster_pipes_version": "0.1", "method": method, "params": params})


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_record_and_the_files_come_back(bench: Bench) -> None:
    results = bench.work(doing('(job.folder / "model.onnx").write_bytes(b"bytes")'))
    assert results is not None, bench.failure
    assert results.record == {"seed": 7}
    assert (results.folder / "model.onnx").read_bytes() == b"bytes"
    assert bench.handles == [results.handle]


def test_what_the_worker_says_shows_while_it_works(bench: Bench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = doing('job.pipes.log.info("rmse 12.5")', f"while not Path({str(go)!r}).exists(): time.sleep(0.01)")
    runner = threading.Thread(target=bench.work, args=(command,))
    runner.start()
    try:
        until(lambda: "rmse 12.5" in bench.logged())
        assert bench.results == []
        assert runner.is_alive()
    finally:
        go.touch()
        runner.join(PATIENCE_S)
    assert bench.results[0].record == {"seed": 7}


def test_what_it_prints_beside_is_in_the_compute_log(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    lines = ('print("a line")', 'print("half a line", end="")', 'job.pipes.log.info("told")', 'print("§ ünïcode")')
    assert bench.work(doing(*lines)) is not None, bench.failure
    assert "told" in bench.logged()
    printed = capfd.readouterr().out
    assert "a line\nhalf a line\n§ ünïcode\n" in printed
    assert "__dagster_pipes_version" not in printed


TEXT = st.text(st.characters(blacklist_characters="\n", codec="utf-8"), max_size=12).filter(
    lambda text: "__dagster_pipes_version" not in text
)
PIECES = st.lists(st.one_of(TEXT.map(lambda t: ("text", t)), TEXT.map(lambda t: ("log", t)), st.just(("text", "\n"))))


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 400)))
def test_messages_are_told_from_text_however_they_arrive(pieces: list[tuple[str, str]], cuts: list[int]) -> None:
    told: list[str] = []
    printed: list[str] = []

    class Handler:
        def handle_message(self, found: dict[str, Any]) -> None:
            told.append(found["params"]["message"])

    whole = "".join(message("log", message=text) if kind == "log" else text for kind, text in pieces)
    reader = OutputReader(printed.append)
    with reader.read_messages(Handler()):
        at = 0
        for cut in [*sorted(cuts), len(whole)]:
            reader.feed(whole[at:cut])
            at = max(at, cut)
        reader.close()
    assert told == [text for kind, text in pieces if kind == "log"]
    spoken = "".join(text for kind, text in pieces if kind == "text")
    assert "".join(printed).replace("\n", "") == spoken.replace("\n", "")


def test_a_message_that_is_none_does_not_end_the_work(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    nonsense = [message("no such method"), message("log"), '{"__dagster_pipes_version": 1}', "{" * 3000]
    assert bench.work(doing(*(f"print({line!r})" for line in nonsense))) is not None, bench.failure
    assert "no such method" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("os._exit(0)", "ended without saying that it had finished"),
        ("os.kill(os.getpid(), 9)", "training on cloud-worker was lost: killed by SIGKILL."),
        ("raise ValueError('no')", "was lost: ended with exit code 1: ValueError: no."),
        ("job.input('training_set')", "The worker was given no training_set."),
        ("job.pipes.report_custom_message('x' * 30_000)", "Put large results into the record"),
        ("[(job.folder / f'{i}').touch() for i in range(300)]", "pack many result files into one"),
    ],
)
def test_a_worker_that_does_not_finish_fails_its_asset(bench: Bench, does: str, says: str) -> None:
    assert bench.work(doing(does)) is None
    assert says in bench.failure


def test_a_program_that_knows_no_protocol_has_not_finished(bench: Bench) -> None:
    assert bench.work(["{python}", "-c", "print('done')"]) is None
    assert "ended without saying that it had finished" in bench.failure


def test_long_lines_are_cut_so_that_they_pass_every_target(bench: Bench) -> None:
    assert bench.work(doing("job.pipes.log.info('é' * 30_000)", "job.pipes.log.info('é' * 3_000)")) is not None
    lengths = [len(line) for line in bench.logged() if line.startswith("é")]
    assert lengths[1] == 3_000
    assert 1_000 < lengths[0] < 3_000


def test_a_long_error_is_still_told(bench: Bench) -> None:
    assert bench.work(doing("raise ValueError('no ' * 20_000)")) is None
    assert "ValueError: no no" in bench.failure


@pytest.mark.parametrize(
    ("files", "completed", "says"),
    [
        ({"record.json": "{}"}, {}, "it names no record.json"),
        ({"record.json": "{}"}, "everything", "it names no record.json"),
        ({}, {"record.json": "{}"}, "record.json is missing"),
        ({"record.json": "{ }"}, {"record.json": "{}"}, "record.json is not what the worker wrote"),
        ({"record.json": "[]"}, {"record.json": "[]"}, "record.json holds no JSON object"),
        ({"record.json": "{"}, {"record.json": "{"}, "record.json holds no JSON object"),
        ({"record.json": "{}", "model": "old"}, {"record.json": "{}", "model": "new"}, "model is not what"),
        ({"record.json": "{}"}, {"record.json": "{}", "bundle/model": "new"}, "bundle/model is missing"),
        ({"record.json": "{}", "../model": "new"}, {"record.json": "{}", "../model": "new"}, "../model is missing"),
    ],
)
def test_results_that_are_not_what_was_said_are_refused(
    bench: Bench, files: dict[str, str], completed: object, says: str
) -> None:
    folder = bench.store / "work" / "work-1"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    if isinstance(completed, dict):
        completed = {name: f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" for name, text in completed.items()}
    said = message("report_custom_message", payload={"completed": completed})
    target = Scripted(lambda: TargetStatus("succeeded"), [message("opened", extras={}) + "\n" + said + "\n"])
    assert bench.work(["any"], target=target) is None
    assert f"training on cloud-worker answered wrongly: {says}" in bench.failure
    assert target.cancelled == []


def test_a_worker_that_hangs_is_ended(bench: Bench) -> None:
    hangs = doing('Path("pid").write_text(str(os.getpid()))', "threading.Event().wait()")
    assert bench.work(hangs, timeout_s=2) is None
    assert "still running after 2 s" in bench.failure
    pid = int((bench.store / "work" / bench.handles[0] / "pid").read_text())
    assert not alive(pid)


def test_a_time_out_is_kept_to_whatever_the_pace_of_asking(bench: Bench) -> None:
    clock = Simulated()
    target = Scripted(lambda: TargetStatus("running"))
    assert bench.work(["any"], target=target, clock=clock, timeout_s=100, poll_s=30) is None
    assert "still running after 100 s" in bench.failure
    assert bench.failed_as == "TargetLate"
    assert clock.passed_s == pytest.approx(100)
    assert target.cancelled == ["work-1"]


def unreachable() -> TargetStatus:
    raise TargetFailed("The head is gone.", next_step="Start it.")


def test_a_target_that_falls_silent_is_given_up(bench: Bench) -> None:
    clock = Simulated()
    target = Scripted(unreachable, cancels=unreachable)
    assert bench.work(["any"], target=target, clock=clock, timeout_s=1000, silence_s=30) is None
    assert "training on cloud-worker has not answered for 30 s: The head is gone." in bench.failure
    assert bench.failed_as == "TargetUnreachable"
    assert 30 <= clock.passed_s < 31
    assert target.cancelled == ["work-1"], "it may be there again"
    assert any("could not be cancelled" in line for line in bench.logged())


def test_a_short_silence_is_borne(bench: Bench) -> None:
    clock = Simulated()

    def now_and_then() -> TargetStatus:
        if clock.passed_s > 500:
            return TargetStatus("failed", "a cause of its own")
        return unreachable() if clock.passed_s % 40 > 20 else TargetStatus("running")

    target = Scripted(now_and_then)
    assert bench.work(["any"], target=target, clock=clock, timeout_s=1000, silence_s=30) is None
    assert "was lost: a cause of its own" in bench.failure
    assert target.cancelled == []


def test_the_first_error_is_the_one_that_is_told(bench: Bench) -> None:
    def cannot() -> None:
        raise RuntimeError("nor can this")

    target = Scripted(lambda: TargetStatus("running"), cancels=cannot)
    assert bench.work(["any"], target=target, clock=Simulated(), timeout_s=5) is None
    assert "still running after 5 s" in bench.failure


@pytest.mark.parametrize(
    ("raised", "failed_as"),
    [
        ("errors.IntegrityError('No bytes.', next_step='Send them.')", "IntegrityError"),
        ("errors.NoFailuresYet('No bytes.', next_step='Send them.')", "NoFailuresYet"),
        ("errors.UnknownName('byte', 'x', ['y'], next_step='Send them.')", "Terminal"),
        ("errors.StoreBusy('No bytes.', next_step='Send them.')", "TargetFailed"),
        ("ValueError('No bytes. Send them.')", "TargetFailed"),
    ],
)
@pytest.mark.parametrize("kind", ["subprocess", "in_process"])
def test_what_no_target_would_change_keeps_its_class(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, raised: str, failed_as: str
) -> None:
    """So that a target is not blamed, and not blocked, for what it was given."""
    command = doing("from backbone import errors", f"raise {raised}")
    target = None
    if kind == "in_process":
        name = f"worker_{abs(hash((tmp_path, raised)))}"
        body = command[-1].replace("run_worker(work)", "run = __import__('functools').partial(run_worker, work)")
        (tmp_path / f"{name}.py").write_text(body)
        monkeypatch.syspath_prepend(str(tmp_path))
        command = ["{python}", "-m", name]
        target = InProcessTarget(TargetContext("cloud-worker", bench.store, SystemClock()))
    assert bench.work(command, target=target) is None
    assert bench.failed_as == failed_as
    assert "training on cloud-worker" in bench.failure
    assert "Send them." in bench.failure or failed_as == "TargetFailed"
    assert bench.failure.count("Send them") == 1


def test_a_run_cancelled_amid_a_launch_leaves_no_work_behind(bench: Bench) -> None:
    class Slow(Scripted):
        def launch(self, *_: object) -> str:
            signal.raise_signal(signal.SIGINT)
            return "work-1"

    target = Slow(lambda: TargetStatus("running"))
    assert bench.work(["any"], target=target) is None
    assert target.cancelled == ["work-1"]


def test_a_ledger_that_fails_leaves_no_work_behind(bench: Bench) -> None:
    def full(handle: str) -> None:
        raise TargetFailed("The ledger is full.", next_step="")

    target = Scripted(lambda: TargetStatus("running"))
    assert bench.work(["any"], target=target, on_launch=full) is None
    assert "The ledger is full" in bench.failure
    assert target.cancelled == ["work-1"]


def test_cancelling_the_run_cancels_the_work(tmp_path: Path) -> None:
    """As the UI does, by SIGINT to the process of the run. It stays, so that its own end is not what ends the work."""
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        import dagster as dg
        from tests.resources.bindings.test_pipes import Bench, doing
        hangs = doing('Path("pid").write_text(str(os.getpid()))', "threading.Event().wait()")
        with dg.DagsterInstance.ephemeral() as instance:
            try:
                Bench(Path({str(tmp_path / "store")!r}), instance).work(hangs)
            finally:
                print(instance.get_runs()[0].status.value, flush=True)
                sys.stdin.read()
    """)
    root = Path(__file__).parents[3]
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert run.stdout is not None
    try:
        until(lambda: any(path.read_text() for path in tmp_path.glob("store/work/*/pid")))
        (path,) = tmp_path.glob("store/work/*/pid")
        worker = int(path.read_text())
        assert alive(worker)
        run.send_signal(signal.SIGINT)
        assert "FAILURE" in next(line for line in run.stdout if line.strip())
        assert not alive(worker)
        assert run.poll() is None
    finally:
        run.kill()
        run.communicate()
