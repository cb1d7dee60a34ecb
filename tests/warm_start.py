"""The command in a process of its own, forked from one that has its imports behind it.

Most of a short command's processor time is imports, the same each time. What is imported ahead holds no state of a
home: its definitions are built by the command, from its files as they are then.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

IMPORTED = (
    "alembic.command",
    "cli.doctor",
    "cli.impact",
    "cli.lineage",
    "cli.main",
    "cli.run",
    "cli.trace",
    "dagster._core.execution.api",
    "dagster._core.execution.execute_in_process",
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.executor.multiprocess",
    "dagster._core.instance.factory",
    "dagster._core.storage.event_log",
    "dagster._core.storage.legacy_storage",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.storage.runs",
    "dagster._core.storage.schedules",
    "deltalake",
    "hybrid_assets.advisories",
    "hybrid_assets.assets.advisories",
    "hybrid_assets.assets.features",
    "hybrid_assets.assets.ingestion",
    "hybrid_assets.assets.scoring",
    "hybrid_assets.assets.training",
    "hybrid_assets.features",
    "hybrid_assets.ingestion",
    "hybrid_assets.scoring",
    "hybrid_assets.training",
    "maintenance.compiled_kernels",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "onnxruntime",
    "pandas",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "quality.document_checks",
    "quality.documents",
    "quality.evaluations",
    "quality.reconciliation_check",
    "quality.serving",
    "quality.window_checks",
    "resources.bindings.event_log",
    "resources.bindings.lineage_relay",
    "resources.bindings.run_storage",
    "resources.stores.documents",
    "sensors.landing",
    "sensors.orphans",
    "sensors.quality",
    "sensors.recovery",
    "sensors.schedules",
    "sqlalchemy.dialects.sqlite",
)
"""A process has one server to fork from: the first to ask for it decides what that imports."""


def run_warm(
    arguments: Sequence[str], variables: Mapping[str, str], *, timeout: float
) -> subprocess.CompletedProcess[str]:
    """`hybrid` with these arguments and environment variables.

    Raises:
        subprocess.TimeoutExpired: it did not end in this many seconds; it is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = _warm().Process(target=_hybrid, args=(tuple(arguments), dict(variables), Path.cwd(), out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["hybrid", *arguments], timeout)
        return subprocess.CompletedProcess(
            ["hybrid", *arguments], process.exitcode, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
        )


@cache
def _warm() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def _hybrid(arguments: Sequence[str], variables: Mapping[str, str], folder: Path, out: Path, err: Path) -> None:
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    for number, file in ((1, out), (2, err)):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["hybrid", *arguments]
    from cli.main import main

    main()
