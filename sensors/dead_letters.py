"""The dead letters sensor: has what the gateways of a class's plants could not use told where people look."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from backbone.errors import HybridError
from backbone.sites import Site
from resources.bindings.partitions import PARTITION, STEP, UNFINISHED
from resources.bindings.plants import Plants

LOOK_S = 30
MOST_AGAIN = 3
"""How often a run that failed is made again, for the same letters."""
ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_CAUSE = "hybrid/dead_letters"


def dead_letters_sensor(equipment_class: str, sites: Sequence[Site], job: Any) -> dg.SensorDefinition:
    """One sensor for every plant of a class that has a gateway.

    Once a day, and after each look that finds new ones: letters come without a reading, so that no window is due then.
    A plant that has none is first told of when it is served: until then it has other things to do.
    """

    @dg.sensor(
        name=f"{equipment_class}_dead_letters",
        job=job,
        minimum_interval_seconds=LOOK_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Counts what gateways took in for every {equipment_class} and could not use.",
    )
    def dead_letters(context: dg.SensorEvaluationContext, plants: Plants) -> Iterator[dg.RunRequest | dg.SkipReason]:
        requests: list[dg.RunRequest | dg.SkipReason] = []
        for site in sites:
            plant = plants.plant(site.name)
            try:
                letters = sum(plant.dead_letters().counts(site.name).values())
                if not letters and not plant.progress(equipment_class).served:
                    continue
            except HybridError as error:  # one plant's trouble holds up none of the others
                context.log.error(f"{site.name}: {error}")
                continue
            cause = f"{plant.clock.now().date()}/{letters}"
            mine = {PARTITION: site.name}
            if context.instance.get_runs_count(dg.RunsFilter(job_name=job.name, tags=mine, statuses=UNFINISHED)):
                continue
            ended = dg.RunsFilter(job_name=job.name, tags=mine | {_CAUSE: cause}, statuses=ENDED_BADLY)
            again = min(context.instance.get_runs_count(ended), MOST_AGAIN)
            requests.append(
                dg.RunRequest(
                    job_name=job.name,
                    run_key=f"{equipment_class}/{site.name}/dead_letters/{cause}/{again}",
                    partition_key=site.name,
                    tags={STEP: "dead_letters", _CAUSE: cause},
                )
            )
        yield from requests
        if not requests:
            yield dg.SkipReason("No plant has dead letters or is served yet, or a run is under way.")

    return dead_letters
