"""One Dagster Pipes session for every kind of compute target."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from backbone.errors import TargetFailed
from backbone.targets import COMPLETED, ComputeTarget, TargetStatus
from resources.plant import Plant

_POLL_S = 0.2


def run_on_target(
    context: dg.AssetExecutionContext,
    plant: Plant,
    workload: str,
    command: Sequence[str],
    *,
    inputs: Mapping[str, Path],
    extras: Mapping[str, Any],
) -> dict[str, Any]:
    """Run a worker where the site sends the workload, with one Pipes session whatever the kind of target.

    Log lines and metrics of the worker show in the UI while it runs; cancelling the run cancels the work.

    Args:
        command: see `backbone.targets.ComputeTarget.launch`.
        inputs: name → path in the store of the target's location.
        extras: JSON settings the worker reads from its Pipes context.

    Returns:
        The worker's completion record.

    Raises:
        TargetFailed: it could not be started, failed, took longer than the target's `timeout_s`, or ended without
            a completion record.
    """
    config = plant.site.target_for(workload)
    target = plant.target(config.name)
    exchange = plant.store(config.location) / "pipes" / context.run_id / context.asset_key.to_python_identifier()
    exchange.mkdir(parents=True, exist_ok=True)
    with dg.open_pipes_session(
        context=context,
        context_injector=dg.PipesFileContextInjector(str(exchange / "context.json")),
        message_reader=dg.PipesFileMessageReader(str(exchange / "messages"), cleanup_file=True),
        extras=dict(extras),
    ) as session:
        handle = target.launch(command, session.get_bootstrap_env_vars(), inputs)
        context.log.info(f"{workload} runs on {config.name} at {config.location} as {handle}")
        try:
            status = _wait(target, handle, config.timeout_s)
        finally:
            target.cancel(handle)
            print(target.logs(handle), end="")
    records = [m[COMPLETED] for m in session.get_custom_messages() if isinstance(m, dict) and COMPLETED in m]
    if status.state != "succeeded":
        raise TargetFailed(
            f"{workload} on {config.name} was lost: {status.detail}.",
            next_step="Its output is in the step's compute log. Materialize the asset again when the cause is mended.",
        )
    if not records:
        raise TargetFailed(
            f"{workload} on {config.name} ended without saying that it had finished.",
            next_step="Nothing of it was used. Read the step's compute log, then materialize the asset again.",
        )
    return dict(records[-1])


def _wait(target: ComputeTarget, handle: str, timeout_s: float) -> TargetStatus:
    deadline = time.monotonic() + timeout_s
    while (status := target.poll(handle)).running:
        if time.monotonic() > deadline:
            return TargetStatus("failed", f"still running after {timeout_s:g} s")
        time.sleep(_POLL_S)
    return status
