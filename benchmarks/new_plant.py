"""A new demonstration plant under `hybrid up`: how long until it has advisories, and until all of it is judged.

What `make run` starts, in an empty home. Processor time is that of all processes of the plant, by /proc. The end is
when every window of every product has its verdict, and the UI an evaluation of each of its checks.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Benchmark

if TYPE_CHECKING:
    from resources.home import Home
    from resources.plant import Plant

SITE, FLEET = "riverside", "pump"
MOST_S = 1800.0
_POLL_S = 1.0


def _rows() -> Iterator[str]:
    from resources.home import Home
    from resources.plant import Catalog, Plant
    from tests.browser.demo_plant import hybrid_up

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home").prepare()
        plant = Plant(Catalog(home), SITE)
        with hybrid_up(home.root) as up:
            began = time.monotonic()
            _until(lambda: bool(_served(plant)), began)
            served, served_cpu = time.monotonic() - began, _processor_s(up.process.pid)
            _until(lambda: _all_judged(plant), began)
            judged, judged_cpu = time.monotonic() - began, _processor_s(up.process.pid)
            windows, evaluations = len(_served(plant)), _evaluations(home)
    yield f"| a new plant of {windows} windows until its first advisories, wall time | {served:.0f} s | | | |"
    yield f"| the same, processor time | {served_cpu:.0f} s | | | |"
    seen = f"from these until every window is judged and seen ({evaluations:,} evaluations)"
    yield f"| {seen}, wall time | {judged - served:.0f} s | | | |"
    yield f"| the same, processor time, with the serving meanwhile | {judged_cpu - served_cpu:.0f} s | | | |"


def _until(true: Callable[[], bool], began: float) -> None:
    while not true():
        if time.monotonic() - began > MOST_S:
            raise TimeoutError(f"not so far after {MOST_S:g} s")
        time.sleep(_POLL_S)


def _served(plant: Plant) -> dict[object, str]:
    return dict(plant.progress(FLEET).served)


def _all_judged(plant: Plant) -> bool:
    """Every window but the newest, which is written again and again, and no run that evaluates is under way."""
    from quality.judged import BY_WINDOW
    from sensors.quality import unjudged

    newest = max(_served(plant))
    return not [day for day in unjudged(plant, FLEET, BY_WINDOW) if day != newest] and not _judging(plant)


def _judging(plant: Plant) -> int:
    import dagster as dg

    from resources.bindings.partitions import HISTORY, UNFINISHED

    with dg.DagsterInstance.from_config(str(plant.catalog.home.dagster)) as instance:
        return instance.get_runs_count(dg.RunsFilter(tags={HISTORY: "yes"}, statuses=UNFINISHED))


def _evaluations(home: Home) -> int:
    """Windows and checks that the UI has an evaluation of."""
    import sqlite3

    with sqlite3.connect(home.dagster / "history" / "event_log.db") as connection:
        query = (
            "SELECT count(*) FROM (SELECT DISTINCT asset_key, check_name, partition FROM asset_check_executions "
            "WHERE execution_status IN ('SUCCEEDED', 'FAILED') AND partition IS NOT NULL)"
        )
        return int(connection.execute(query).fetchone()[0])


def _processor_s(pid: int) -> float:
    """Of a process, all below it, and all that has ended below it."""
    from tests.browser.demo_plant import family_of

    ticks = 0
    for member in family_of(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended; its parent has its time
        ticks += sum(int(value) for value in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


SPEC = Benchmark("new_plant", _rows)
