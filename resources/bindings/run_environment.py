"""What a run's own process says of its environment, in the run's record: whoever tells of the run later has another."""

import os
from collections.abc import Mapping

import dagster as dg
from dagster._core.events import EngineEventData

TOLD = ("HYBRID_", "DAGSTER_", "OPENLINEAGE_")
"""Variables that are told begin so; of those that are a secret, their name only."""
ENVIRONMENT = "environment"
"""Metadata of the event: name → value."""


def tell_environment(context: dg.InitResourceContext) -> None:
    """Put this process's variables, without their secrets, in the record of the run it works on, where it does."""
    run = context.run
    if run is not None and context.instance is not None:
        told = EngineEventData({ENVIRONMENT: dg.MetadataValue.json(told_variables(os.environ))})
        context.instance.report_engine_event("Variables of the process that works on this run.", run, told)


def told_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Those worth telling, without their secrets."""
    from backbone.lineage.secrets import Scrubber, redacted

    return redacted({n: v for n, v in sorted(variables.items()) if n.startswith(TOLD)}, Scrubber.of(variables))
