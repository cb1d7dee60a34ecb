"""A job on the subprocess target, less its own function, against starting Python and importing what the job imports.

The job is a training's: all that its module imports, in the session every asset opens, its results verified. The
function itself does nothing, so that all the time there is, is spent outside it.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Benchmark, interleaved, line

IMPORTS = "import hybrid_assets.workers.train"
JOB = f"{IMPORTS}\nfrom hybrid_assets.workers.session import run_worker\nrun_worker(lambda job: {{}})"


def _rows() -> Iterator[str]:
    import dagster as dg

    from backbone.sites import TargetConfig
    from backbone.targets import TargetContext
    from resources.bindings.pipes import run_on_target
    from resources.clock import SystemClock
    from resources.targets.subprocess import SPEC

    medians: list[tuple[float, float]] = []
    clock, config = SystemClock(), TargetConfig("worker", "cloud", "subprocess")
    environment = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "TZ")}

    def peer() -> None:
        subprocess.run([sys.executable, "-c", IMPORTS], check=True, env=environment)

    with tempfile.TemporaryDirectory() as store:
        target = SPEC.open(TargetContext("worker", Path(store), clock))

        @dg.asset
        def measured(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            def ours() -> None:
                command = ["{python}", "-c", JOB]
                run_on_target(
                    context, target, config, Path(store), "training", command, inputs={}, extras={}, clock=clock
                )

            medians.append(interleaved(ours, peer))
            return dg.MaterializeResult()

        with dg.DagsterInstance.ephemeral() as instance, contextlib.redirect_stderr(io.StringIO()):
            dg.materialize([measured], instance=instance)
    yield line("subprocess target, job less its function / Python and the job's imports", *medians[0], "≤ 1.5×")


SPEC = Benchmark("subprocess_target", _rows)
