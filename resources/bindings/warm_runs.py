"""Processes of runs that start from one that has its imports behind it.

Dagster's code server gives every run a process of its own, started anew: seconds of a processor are imports, the same
each time. Here the process is forked from a server that Python's `multiprocessing` keeps for that and that has imported
them; nothing else differs. The run is terminated, watched and cleaned up after as ever, by the same code server.

What is imported ahead holds no state of a home: its definitions are built in the run, from its files as they are then.
"""

from collections.abc import Sequence

WARM_RUNS = "HYBRID_WARM_RUNS"
"""Environment variable: runs of a code server that is started with it start warm."""
# Imported where a run needs them: what serves or judges a window needs most of these. One that is missing is left out.
_NEEDED = (
    "dagster._core.execution.api",
    "resources.bindings.event_log",
    "resources.bindings.run_storage",
    "deltalake",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "numpy",
    "onnxruntime",
    "pandas",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "sqlalchemy.dialects.sqlite",
)


def start_runs_warm(modules: Sequence[str] = ()) -> None:
    """Have the code server that this process is start its runs warm. Does nothing in a run, or where there is no fork.

    Args:
        modules: what to import ahead, besides what every run needs.
    """
    import multiprocessing
    import multiprocessing.forkserver

    from dagster._grpc.server import DagsterApiServer

    if multiprocessing.parent_process() or "forkserver" not in multiprocessing.get_all_start_methods():
        return
    warm = multiprocessing.get_context("forkserver")
    warm.set_forkserver_preload(["dagster._grpc.impl", *_NEEDED, *modules])
    # Dagster has no setting for what starts its runs: a server has it in this attribute.
    always_warm = property(lambda _: warm, lambda _, context: None)  # noqa: ARG005
    DagsterApiServer._mp_ctx = always_warm  # type: ignore[assignment]
    multiprocessing.forkserver.ensure_running()
