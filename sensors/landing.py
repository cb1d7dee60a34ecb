"""The landing sensor: takes up what a plant's source has to give, and starts what the plant needs next."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from backbone.errors import HybridError, Transient
from backbone.sites import Site
from backbone.windows import Step, WindowRange, next_step
from resources.bindings.partitions import FLEET, UNFINISHED, WRITES, range_tags, run_tags, window_key
from resources.bindings.plants import Plants
from sensors.waiting import looks


def landing_sensor(equipment_class: str, sites: Sequence[Site], jobs: Mapping[str, Any]) -> dg.SensorDefinition:
    """One sensor for every plant of a class.

    What to run follows from what has landed and what was served, not from a cursor: a daemon that was down
    misses nothing. While a run of a fleet is unfinished, nothing more is requested for it. The trouble of
    one plant does not stop the others; the tick fails and names it.
    """

    @dg.sensor(
        name=f"{equipment_class}_landing",
        jobs=list(jobs.values()),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Takes up telemetry of every {equipment_class} and serves the windows it belongs to.",
    )
    def landing(context: dg.SensorEvaluationContext, plants: Plants) -> Iterator[dg.RunRequest | dg.SkipReason]:
        for _ in looks():
            requests: list[dg.RunRequest] = []
            troubles: dict[str, HybridError] = {}
            idle: list[str] = []
            for site in sites:
                try:
                    request = _request(context, plants, equipment_class, site, jobs)
                except HybridError as error:
                    troubles[site.name] = error
                    continue
                if isinstance(request, dg.RunRequest):
                    requests.append(request)
                else:
                    idle.append(f"{site.name}: {request}")
            if requests or troubles:
                break
        told = [f"{name}: {error}" for name, error in troubles.items()]
        for trouble in told:
            context.log.error(trouble)
        if told and not requests:
            # Only now: a failed tick loses its requests, and the healthy plants would wait for the sick one. The
            # cause is one that does not pass by itself, where there is one.
            worst = min(troubles.values(), key=lambda error: isinstance(error, Transient))
            raise dg.Failure(" ".join(told)) from worst
        yield from requests
        if not requests:
            yield dg.SkipReason("; ".join(idle))

    return landing


def _request(
    context: dg.SensorEvaluationContext, plants: Plants, equipment_class: str, site: Site, jobs: Mapping[str, Any]
) -> dg.RunRequest | str:
    from resources.collector import collect, due_until

    plant = plants.plant(site.name)
    now = plant.clock.now()
    for landed in collect(plant, equipment_class, until=due_until(plant, equipment_class, now), now=now):
        note = f", refused: {landed.receipt.note}" if landed.receipt.note else ""
        context.log.info(f"{site.name}: {landed.receipt.rows} rows of {landed.stream} from {landed.origin}{note}")
    progress = plant.progress(equipment_class)
    step = next_step(progress)
    if step is None:
        return "nothing new"
    request = step_request(equipment_class, site.name, step, jobs)
    # A new plant is first served when its first training has ended; later, training holds nothing up.
    waits_for = WRITES if progress.served else FLEET
    under_way = dg.RunsFilter(tags={waits_for: request.tags[waits_for]}, statuses=UNFINISHED)
    return "a run is under way" if context.instance.get_runs_count(under_way) else request


def step_request(equipment_class: str, site: str, step: Step, jobs: Mapping[str, Any]) -> dg.RunRequest:
    """The run that a step asks for; the same step asked twice is one run."""
    key = f"{equipment_class}/{site}/{step.kind}/{step.first}..{step.last}/{step.cause}"
    if step.kind == "train":
        tags = run_tags(equipment_class, site, training=True)
        return dg.RunRequest(run_key=key, job_name=jobs["train"].name, partition_key=site, tags=tags)
    windows = WindowRange(site, step.first, step.last)
    tags = run_tags(equipment_class, site)
    if len(windows) == 1:
        window = window_key(site, step.first)
        return dg.RunRequest(run_key=key, job_name=jobs[step.kind].name, partition_key=window, tags=tags)
    return dg.RunRequest(run_key=key, job_name=jobs[step.kind].name, tags=tags | range_tags(windows))
