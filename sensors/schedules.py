"""Schedules: score the newest window every hour, train every night, prune what nobody needs any more every day."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from backbone.sites import Site
from backbone.windows import PlantState
from resources.bindings.partitions import run_tags, window_key
from resources.bindings.plants import Plants


def scoring_schedule(equipment_class: str, sites: Sequence[Site], jobs: Mapping[str, Any]) -> dg.ScheduleDefinition:
    """Every hour, the newest landed window of each plant that has a baseline is served again."""

    def newest(site: str, progress: PlantState) -> str | None:
        return window_key(site, max(progress.landed)) if progress.commissioned and progress.landed else None

    return _schedule(
        equipment_class,
        sites,
        newest,
        name=f"{equipment_class}_scoring_hourly",
        job=jobs["serve"],
        cron="5 * * * *",
        description="Serves the newest window of every plant again, with whatever release is current.",
        nothing="No plant has a window to score.",
    )


def training_schedule(equipment_class: str, sites: Sequence[Site], jobs: Mapping[str, Any]) -> dg.ScheduleDefinition:
    """Every night at two, each plant that has telemetry trains; a release follows only if it is better."""

    def whole_site(site: str, progress: PlantState) -> str | None:
        return site if progress.ingested else None

    return _schedule(
        equipment_class,
        sites,
        whole_site,
        name=f"{equipment_class}_training_nightly",
        job=jobs["train"],
        cron="0 2 * * *",
        description="Trains on everything known so far; releases only what is better.",
        nothing="No plant has telemetry to learn from.",
        training=True,
    )


def prune_schedule(job: Any) -> dg.ScheduleDefinition:
    """Every night at half past three, after training."""
    return dg.ScheduleDefinition(
        name="prune_daily",
        job=job,
        cron_schedule="30 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Removes what was replaced in tables a week ago.",
    )


def _schedule(
    equipment_class: str,
    sites: Sequence[Site],
    due: Callable[[str, PlantState], str | None],
    *,
    name: str,
    job: Any,
    cron: str,
    description: str,
    nothing: str,
    training: bool = False,
) -> dg.ScheduleDefinition:
    """A run of `job` for each plant, on the partition that `due` gives for it; None: that plant has none."""

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    def schedule(context: dg.ScheduleEvaluationContext, plants: Plants) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time.isoformat()
        partitions = {site.name: due(site.name, plants.plant(site.name).progress(equipment_class)) for site in sites}
        asked = {site: partition for site, partition in partitions.items() if partition is not None}
        for site, partition in asked.items():
            yield dg.RunRequest(
                run_key=f"{equipment_class}/{site}/{at}",
                partition_key=partition,
                tags=run_tags(equipment_class, site, training=training),
            )
        if not asked:
            yield dg.SkipReason(nothing)

    return schedule
