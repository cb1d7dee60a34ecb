"""What lineage costs a run, in processor time: a window scored with it and without; the relay's own apart.

A run emits nothing. What it does for lineage is to note which versions it opens and to tell them with its results; that
is what is taken away for the peer. Runs in one process, its children counted.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks.measure import Benchmark, line

if TYPE_CHECKING:
    from resources.home import Home

ROUNDS = 15
WARM = 2
SITE = """\
description = "Sixteen pumps that fail often"

[calendar]
first_day = 2025-01-01
last_day = 2025-02-01

[fleets.pump]
source = { kind = "simulator", seed = 2, pumps = 16, readings_per_day = 12, mean_life_days = 12 }
"""


def _processor_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _taken(work: Callable[[], object]) -> float:
    before = _processor_s()
    work()
    return _processor_s() - before


@contextlib.contextmanager
def served_home() -> Iterator[Home]:
    """A home whose plant was served, which this process's environment names."""
    from resources.home import Home
    from tests.scenarios.installation import Installation

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        installation = Installation(Home(Path(folder) / "home").prepare())
        installation.add_site("north", SITE)
        installation.hybrid("run", "--site", "north")
        os.environ["HYBRID_HOME"] = str(installation.home.root)
        os.environ["DAGSTER_HOME"] = str(installation.home.dagster)
        yield installation.home


def _rows() -> Iterator[str]:
    with served_home() as home:
        yield from _compared(home)


def _compared(home: Any) -> Iterator[str]:
    import dagster as dg

    from hybrid_assets import versions
    from hybrid_assets.definitions import build_definitions
    from resources.bindings.lineage_relay import relay_of
    from resources.bindings.partitions import run_tags
    from resources.bindings.plants import Plants
    from resources.clock import SystemClock
    from resources.stores.opened import Opened

    plants, instance = Plants(home=str(home.root)), dg.DagsterInstance.get()
    defs = build_definitions(home, plants)
    job, graph = defs.resolve_job_def("pump_score"), defs.resolve_asset_graph()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

    def run() -> None:
        tags = run_tags("pump", "north") | {"dagster/partition": "2025-01-31|north"}
        done = job.execute_in_process(
            instance=instance, partition_key="2025-01-31|north", tags=tags, run_config=quiet, raise_on_error=True
        )
        assert done.success

    def without() -> None:
        with (
            mock.patch.object(versions, "_told", lambda result, *_: result),
            mock.patch.object(Opened, "noting", return_value=nullcontext()),
        ):
            run()

    with_s, without_s, relayed = [], [], []
    relay = relay_of(instance, plants, graph=graph, clock=SystemClock())
    relay.relay(600.0)
    events = 0
    for number in range(ROUNDS + WARM):
        # Every other pair begins with the other, so that each as often finds what the other left.
        first, second = (run, without) if number % 2 else (without, run)
        taken = {first: _taken(first), second: _taken(second)}
        with_s.append(taken[run])
        without_s.append(taken[without])
        if number >= WARM:
            done: list[Any] = []
            relayed.append(_taken(lambda kept=done: kept.append(relay.relay(600.0))))
            events = done[0].new
    instance.dispose()
    ratio = statistics.median(a / b for a, b in zip(with_s[WARM:], without_s[WARM:], strict=True))
    ours, peer = statistics.median(with_s[WARM:]), statistics.median(without_s[WARM:])
    yield line("a window scored with lineage / without, processor time", ours, peer, "≤ 1.02×", ratio=ratio)
    own = statistics.median(relayed)
    yield line(f"the relay's own, for two such runs ({events} events) / the two runs", own, 2 * ours, "told")


SPEC = Benchmark("lineage_cost", _rows)
