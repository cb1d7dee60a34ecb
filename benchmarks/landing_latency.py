"""From a file landing to its advisories, at a plant under `hybrid up`, against the same graph on a plain sensor.

The peer has the same assets, the same job and the same steps, asked for by a `@dg.sensor` with all of Dagster's
defaults: 30 seconds between two looks, a queue that is looked at every five, a process for each step. Both are up
all the time, each in a home of its own; a file lands at the one and at the other, each at a random time after what the
last one has started has ended. What is timed begins when a day's file is in the drop folder, and ends when the day's
advisories can be read. Takes half an hour.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._fed_plant import FLEET, SITE, fed_plant, landings
from benchmarks.measure import Benchmark

if TYPE_CHECKING:
    import dagster as dg

    from tests.scenarios.installation import Installation

LANDINGS = 22
"""Of each; the first two are not counted."""
UNCOUNTED = 2
WITHIN_S = 30.0
"""Landings come at a random time within this long, as long as the peer's sensor waits between two looks."""
MOST_S = 300.0
_POLL_S, _SEED = 0.05, 5
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Took:
    """Seconds from a landing to its advisories, and to what happens on the way: the run asked for, its process
    started, its first step started."""

    whole: float
    asked: float
    started: float
    stepped: float


def measure(folder: Path, count: int, sides: tuple[str, ...] = ("ours", "peer")) -> dict[str, list[Took]]:
    """What each landing took, by side."""
    made = fed_plant(folder / "ours", count + 1)
    homes = {"ours": made} | ({"peer": _copy(made, folder / "peer")} if "peer" in sides else {})
    begun: dict[str, Any] = {"ours": _ours, "peer": _peer}
    took: dict[str, list[Took]] = {side: [] for side in sides}
    chance = random.Random(_SEED)  # noqa: S311 - when files land
    waits = [chance.uniform(0, WITHIN_S) for _ in range(count)]
    with _all(begun[side](homes[side]) for side in sides):
        coming = {side: landings(homes[side], count) for side in sides}

        def land(side: str, wait_s: float) -> Took:
            with _instance(homes[side]) as instance:
                _until_idle(instance)
                time.sleep(wait_s)
                return _timed(homes[side], instance, next(coming[side]))

        with ThreadPoolExecutor(len(sides)) as pool:
            for number, wait_s in enumerate(waits):
                # Apart from each other, so that mostly the one is done when the other begins.
                later = (wait_s + WITHIN_S / 2) % WITHIN_S
                for side, found in zip(sides, pool.map(land, sides, (wait_s, later)), strict=False):
                    took[side].append(found)
                    print(f"landing {number + 1} of {count}, {side}: {found.whole:.1f} s", file=sys.stderr, flush=True)
    return took


def _timed(installation: Installation, instance: dg.DagsterInstance, day: date) -> Took:
    import dagster as dg

    landed, began = time.time(), time.monotonic()
    table = installation.plant(SITE).advisories(FLEET)
    while not table.read(SITE, day, day, columns=["date"]).num_rows:
        if time.monotonic() - began > MOST_S:
            raise TimeoutError(f"{day} has no advisories {MOST_S:g} s after it landed.")
        time.sleep(_POLL_S)
    whole = time.monotonic() - began
    runs = instance.get_run_records(dg.RunsFilter(job_name=f"{FLEET}_serve"), limit=1)
    steps = instance.all_logs(runs[0].dagster_run.run_id, of_type={dg.DagsterEventType.STEP_START})
    asked, started = runs[0].create_timestamp.timestamp(), runs[0].start_time or 0.0
    return Took(whole, asked - landed, started - landed, min(s.timestamp for s in steps) - landed)


def _until_idle(instance: dg.DagsterInstance) -> None:
    """Until no run is under way, and none is asked for: at ours, the day is then judged."""
    import dagster as dg

    from resources.bindings.partitions import UNFINISHED

    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 7:  # longer than a sensor needs to ask for the next
        if instance.get_runs_count(dg.RunsFilter(statuses=UNFINISHED)):
            quiet_since = time.monotonic()
        time.sleep(0.5)


@contextmanager
def _all(contexts: Iterator[Any]) -> Iterator[None]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


@contextmanager
def _instance(installation: Installation) -> Iterator[dg.DagsterInstance]:
    import dagster as dg

    with dg.DagsterInstance.from_config(str(installation.home.dagster)) as instance:
        yield instance


def _copy(plant: Installation, target: Path) -> Installation:
    """The same plant in another home, with a Dagster instance that is all defaults."""
    from resources.home import Home
    from tests.scenarios.installation import Installation

    shutil.copytree(plant.home.root, target)
    home = Home(target)
    shutil.rmtree(home.dagster)
    home.dagster.mkdir()
    (home.dagster / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    made = Installation(home)
    with _instance(made) as instance:  # its databases are made by one process, before others open them
        _ = instance.run_storage, instance.event_log_storage, instance.schedule_storage
    return made


def _ours(installation: Installation) -> Any:
    from tests.browser.demo_plant import hybrid_up

    return hybrid_up(installation.home.root)


@contextmanager
def _peer(installation: Installation) -> Iterator[None]:
    """Dagster's daemon, with a code server of its own."""
    home = installation.home
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "HYBRID", "PYTHONDONTWRITE"))}
    variables |= {"HYBRID_HOME": str(home.root), "DAGSTER_HOME": str(home.dagster)}
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-m", "benchmarks._plain_sensor"]
    with (home.root / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-d", str(_ROOT)], cwd=_ROOT, env=variables, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def _quantiles(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=20, method="inclusive")[-1]


def _rows() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        took = {side: some[UNCOUNTED:] for side, some in measure(Path(folder), LANDINGS).items()}
    yield from rows(took)


def rows(took: Mapping[str, list[Took]]) -> Iterator[str]:
    ours, peer = (_quantiles([t.whole for t in took[side]]) for side in ("ours", "peer"))
    for name, a, b in zip(("p50", "p95"), ours, peer, strict=True):
        what = f"from a file landing to its advisories, {name} of {len(took['ours'])} / on a plain sensor"
        yield f"| {what} | {a:.1f} s | {b:.1f} s | {b / a:.1f}× | ≥ 5× |"
    for part in ("asked", "started", "stepped"):
        a, b = (_quantiles([getattr(t, part) for t in took[side]])[0] for side in ("ours", "peer"))
        yield f"| of this until {_PARTS[part]}, p50 | {a:.1f} s | {b:.1f} s | | |"


_PARTS = {"asked": "the run is asked for", "started": "its process runs", "stepped": "its first step starts"}

SPEC = Benchmark("landing_latency", _rows)
