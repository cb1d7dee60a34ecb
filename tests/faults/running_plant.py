"""A small plant served by real processes, and what a test does to them: ask for runs, find them, and end them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import dagster as dg

from backbone.windows import WindowRange
from resources.bindings.partitions import PARTITION, STEP, range_tags, run_tags
from resources.home import Home
from resources.plant import Plant
from resources.state.answers import Answer
from resources.state.works import Work
from tests.browser.demo_plant import DemoPlant, alive, at_home, hybrid_up
from tests.scenarios.installation import Installation

T = TypeVar("T")

SITE = "riverside"
"""Named like the plant that ships, whose place it takes: two plants would share two processors."""
FLEET = "pump"
LAST_SERVED = date(2025, 2, 9)
PATIENCE_S = 150.0
"""How long anything may take on a busy machine; what is measured is said in the test's properties."""
_POLL_S = 0.1

SCORING_LATE_S = 4.0
"""Scoring is told done so much later: time enough for a fault to come between."""

SUBPROCESS = 'kind = "subprocess"\ntimeout_s = 120'

_SITE_FILE = """\
description = "Sixteen pumps that fail often, in the hands of tests that kill"

[calendar]
first_day = 2025-01-01
last_day = {last_day}

[[locations]]
name = "edge"
kind = "edge"
zone = "plant-floor"
jurisdiction = "DE"

[[locations]]
name = "on_prem"
kind = "on_prem"
zone = "plant-operations"
jurisdiction = "DE"
{store}

[[locations]]
name = "cloud"
kind = "cloud"
zone = "cloud-training"
jurisdiction = "IE"

[[targets]]
name = "plant-server"
location = "on_prem"
kind = "faulty"
wraps = {{ kind = "in_process" }}
late = {late}
late_s = {late_s}

[[targets]]
name = "plant-worker"
location = "on_prem"
kind = "subprocess"
timeout_s = 120

[[targets]]
name = "cloud-worker"
location = "cloud"
{cloud}

[workloads.training]
any_of = ["training-full", "training-small"]

[workloads.training-full]
kinds = ["cloud"]

[workloads.training-small]
targets = ["plant-worker"]
budget = 0.3

[workloads.evaluation]
targets = ["plant-worker"]

[workloads.scoring]
targets = ["plant-server"]

[fleets.pump]
source = {{ kind = "simulator", seed = 2, pumps = 16, readings_per_day = 4, mean_life_days = 8, faults = {faults} }}
"""
_FAULTS = "{ spike = 0.003, duplicate = 0.003, late = 0.01, nan = 0.002, dropout = 0.01 }"

_LAUNCH = """mutation($run: ExecutionParams!) { launchRun(executionParams: $run) {
  __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on PythonError { message }
} }"""
_TERMINATE = "mutation($run: String!) { terminateRun(runId: $run) { __typename } }"


@dataclass(frozen=True)
class Layout:
    """What tests vary of the site file.

    Attributes:
        last_day: of the calendar; days after `LAST_SERVED` are landed as soon as the daemon looks.
        cloud: kind and settings of the target in the cloud, as TOML.
        store: of the premises; None: in the home.
    """

    last_day: date = LAST_SERVED
    cloud: str = SUBPROCESS
    store: Path | None = None
    late: bool = True

    def write(self, home: Home) -> None:
        text = _SITE_FILE.format(
            last_day=self.last_day,
            cloud=self.cloud,
            store=f'store = "{self.store}"' if self.store else "",
            late=1.0 if self.late else 0.0,
            late_s=SCORING_LATE_S,
            faults=_FAULTS,
        )
        path = home.sites / f"{SITE}.toml"
        partial = path.with_name(f".{path.name}")
        partial.write_text(text)
        partial.replace(path)  # a run may read it at any time


def commission(home: Home) -> Installation:
    """A plant with forty days served by a release, in an empty home; takes most of a minute."""
    made = Installation(home.prepare())
    Layout(late=False).write(home)
    made.hybrid("run", "--site", SITE)
    fleet = made.plant(SITE).registry(FLEET)
    assert len(fleet.versions()) == 1, "the plant these tests need has a release"
    return made


def copy_of(made: Installation, target: Path) -> Installation:
    """The same plant in another home."""
    shutil.copytree(made.home.root, target)
    settings = target / "dagster" / "dagster.yaml"
    settings.write_text(settings.read_text().replace(str(made.home.root), str(target)))
    return Installation(Home(target))


@dataclass
class RunningPlant:
    """`hybrid up` over one home; may be started again after its daemon was killed."""

    installation: Installation
    _stack: ExitStack = field(default_factory=ExitStack)
    _up: DemoPlant | None = None

    @property
    def home(self) -> Home:
        return self.installation.home

    @property
    def up(self) -> DemoPlant:
        assert self._up is not None, "hybrid up is not running"
        return self._up

    def start(self) -> None:
        self._up = self._stack.enter_context(hybrid_up(self.home.root))
        self.wait(lambda: self._answers(), "the web server answers")

    def stop(self) -> None:
        """End what runs, and whatever of this home is left."""
        try:
            self._stack.close()
        finally:
            self._stack, self._up = ExitStack(), None
            for pid in at_home(self.home.root):
                if pid != os.getpid():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.up.automations())
        return False

    def services(self, program: str) -> list[int]:
        """Processes of this home that run a program of this name."""
        found = []
        for pid in at_home(self.home.root):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if any(Path(word).name == program for word in words[:2]):
                    found.append(pid)
        return found

    def module(self, name: str) -> int | None:
        """The process of this home that runs a module of ours as its program."""
        for pid in at_home(self.home.root):
            with contextlib.suppress(OSError):
                if f"\0-m\0{name}\0" in Path(f"/proc/{pid}/cmdline").read_bytes().decode():
                    return pid
        return None

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.home.dagster))

    @cached_property
    def plant(self) -> Plant:
        """As the site file had it when it was last changed."""
        return self.installation.plant(SITE)

    def change(self, layout: Layout) -> None:
        """Change the site file; runs that start from now on go by it."""
        layout.write(self.home)
        self.__dict__.pop("plant", None)

    def wait(self, condition: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
        """The condition's first answer that is true."""
        deadline = time.monotonic() + timeout_s
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}\n{self._told()}"
            time.sleep(_POLL_S)
        return answer

    def _told(self) -> str:
        runs = [f"{r.job_name} {r.status.value} {dict(r.tags)}" for r in self.instance.get_runs(limit=6)]
        answers = [repr(a) for a in self.plant.answers(FLEET).all().values() if a.mendable]
        logs = [p.read_text(errors="replace")[-1500:] for p in (self.home.root / "logs").glob("daemon.log")]
        return "\n".join([*runs, *answers, *logs])

    def launch(self, kind: str, tags: Mapping[str, str]) -> str:
        """Ask the web server for a run, as its UI does; the run's id."""
        params = {
            "selector": {
                "repositoryLocationName": "hybrid_assets",
                "repositoryName": "__repository__",
                "jobName": f"{FLEET}_{kind}",
            },
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in {**tags, STEP: kind}.items()]},
        }
        told = self.up.ask(_LAUNCH, run=params)["launchRun"]
        assert told["__typename"] == "LaunchRunSuccess", told
        return str(told["run"]["runId"])

    def serve(self, first: date, last: date | None = None) -> str:
        windows = WindowRange(SITE, first, last or first)
        return self.launch("serve", run_tags(FLEET, SITE) | range_tags(windows))

    def train(self) -> str:
        return self.launch("train", run_tags(FLEET, SITE, training=True) | {PARTITION: SITE})

    def terminate(self, run_id: str) -> None:
        """What the UI's button does."""
        told = self.up.ask(_TERMINATE, run=run_id)["terminateRun"]
        assert told["__typename"] == "TerminateRunSuccess", told

    def status(self, run_id: str) -> str:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return str(run.status.value)

    def ended(self, run_id: str, timeout_s: float = PATIENCE_S) -> str:
        """The status it ended with."""
        over = ("SUCCESS", "FAILURE", "CANCELED")
        return self.wait(
            lambda: status if (status := self.status(run_id)) in over else "", f"run {run_id} ends", timeout_s
        )

    def log(self, run_id: str) -> list[str]:
        return [e.user_message or e.message for e in self.instance.all_logs(run_id)]

    def failures(self, run_id: str) -> list[str]:
        """What its failed steps told people."""
        of_type = dg.DagsterEventType.STEP_FAILURE
        events = [e.dagster_event for e in self.instance.all_logs(run_id, of_type=of_type)]
        return [e.step_failure_data.error_display_string for e in events if e is not None]

    def worker(self, run_id: str) -> int:
        """The process of a run, as its launcher told it."""

        def told() -> int:
            found = (re.search(r"Started process for run \(pid: (\d+)\)", line) for line in self.log(run_id))
            return next((int(m[1]) for m in found if m), 0)

        return self.wait(told, f"run {run_id} has a process")

    def working(self, run_id: str, workload: str) -> Work:
        """The run's work, once it is under way and has a handle."""

        def under_way() -> Work | None:
            of_run = self.plant.works.all(run_id=run_id)
            mine = (w for w in of_run if w.workload == workload and w.handle and w.state == "running")
            return next(mine, None)

        found = self.wait(under_way, f"run {run_id} has its {workload} under way")
        assert found is not None
        return found

    def process_of(self, work: Work) -> int:
        """The process that does a piece of work of a target on this machine: it works in the work's folder."""
        folder = (self.plant.store(work.location) / "work" / str(work.handle)).resolve()

        def at_work() -> int:
            for entry in Path("/proc").glob("[0-9]*/cwd"):
                with contextlib.suppress(OSError):
                    if entry.readlink() == folder and alive(int(entry.parent.name)):
                        return int(entry.parent.name)
            return 0

        return self.wait(at_work, f"a process works in {folder}")

    def answer(self, day: date) -> Answer:
        return self.plant.answers(FLEET).all()[day]

    def runs_in_place_of(self, run_id: str) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(dg.RunsFilter(tags={"hybrid/in_place_of": run_id})))

    def idle(self) -> bool:
        """No run is under way, and every landed window is served as it has landed."""
        unfinished = [s for s in dg.DagsterRunStatus if s.value not in ("SUCCESS", "FAILURE", "CANCELED")]
        if self.instance.get_runs_count(dg.RunsFilter(statuses=unfinished)):
            return False
        progress = self.plant.progress(FLEET)
        return bool(progress.landed) and progress.served == progress.landed

    def made_good(self, since: datetime, timeout_s: float = PATIENCE_S) -> float:
        """Wait until no window waits for a better answer; seconds from `since` to the last one that came."""
        answers = self.plant.answers(FLEET)
        self.wait(
            lambda: self.idle() and not any(a.mendable for a in answers.all().values()), "all is made good", timeout_s
        )
        return (max(a.answered_at for a in answers.all().values()) - since).total_seconds()

    def forgive(self) -> None:
        """Let blocks lapse at once: tests share a plant, and need not wait minutes for one another."""
        with contextlib.closing(sqlite3.connect(self.home.root / "state.db", timeout=30)) as database, database:
            for table in ("left_alone", "breakers"):
                if database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                    database.execute(f"DELETE FROM {table}")  # noqa: S608 - our own two tables


@contextmanager
def running(installation: Installation) -> Iterator[RunningPlant]:
    """The plant with all its services up, and idle."""
    plant = RunningPlant(installation)
    try:
        plant.start()
        plant.wait(plant.idle, "everything that landed is served")
        yield plant
    finally:
        plant.stop()
