"""Schedules: score the newest window every hour, train every night."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from backbone.sites import Site
from resources.bindings.partitions import run_tags, window_key
from resources.bindings.plants import Plants


def scoring_schedule(equipment_class: str, sites: Sequence[Site], jobs: Mapping[str, Any]) -> dg.ScheduleDefinition:
    """Every hour, the newest landed window of each plant that has a baseline is served again."""

    @dg.schedule(
        name=f"{equipment_class}_scoring_hourly",
        job=jobs["serve"],
        cron_schedule="5 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Serves the newest window of every plant again, with whatever release is current.",
    )
    def scoring(context: dg.ScheduleEvaluationContext, plants: Plants) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time.isoformat()
        asked = 0
        for site in sites:
            progress = plants.plant(site.name).progress(equipment_class)
            if progress.commissioned and progress.landed:
                asked += 1
                yield dg.RunRequest(
                    run_key=f"{equipment_class}/{site.name}/{at}",
                    partition_key=window_key(site.name, max(progress.landed)),
                    tags=run_tags(equipment_class, site.name),
                )
        if not asked:
            yield dg.SkipReason("No plant has a window to score.")

    return scoring


def training_schedule(equipment_class: str, sites: Sequence[Site], jobs: Mapping[str, Any]) -> dg.ScheduleDefinition:
    """Every night at two, each plant that has telemetry trains; a release follows only if it is better."""

    @dg.schedule(
        name=f"{equipment_class}_training_nightly",
        job=jobs["train"],
        cron_schedule="0 2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Trains on everything known so far; releases only what is better.",
    )
    def training(context: dg.ScheduleEvaluationContext, plants: Plants) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time.isoformat()
        asked = 0
        for site in sites:
            if plants.plant(site.name).progress(equipment_class).ingested:
                asked += 1
                yield dg.RunRequest(
                    run_key=f"{equipment_class}/{site.name}/{at}",
                    partition_key=site.name,
                    tags=run_tags(equipment_class, site.name, training=True),
                )
        if not asked:
            yield dg.SkipReason("No plant has telemetry to learn from.")

    return training
