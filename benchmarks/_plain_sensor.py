"""The peer of `landing_latency`: the same assets, job and steps on a plain sensor, with all of Dagster as it comes."""

from collections.abc import Iterator

import dagster as dg

from backbone.windows import next_step
from benchmarks._fed_plant import FLEET, SITE
from hybrid_assets.definitions import build_definitions
from resources.bindings.partitions import UNFINISHED
from resources.bindings.plants import Plants
from resources.collector import collect, due_until
from resources.home import Home
from sensors.jobs import fleet_jobs
from sensors.landing import step_request

_JOBS = fleet_jobs(FLEET)


@dg.sensor(job=_JOBS["serve"], default_status=dg.DefaultSensorStatus.RUNNING)
def landing(context: dg.SensorEvaluationContext, plants: Plants) -> Iterator[dg.RunRequest]:
    plant = plants.plant(SITE)
    now = plant.clock.now()
    for _ in collect(plant, FLEET, until=due_until(plant, FLEET, now), now=now):
        pass
    under_way = context.instance.get_runs_count(dg.RunsFilter(statuses=UNFINISHED))
    if not under_way and (step := next_step(plant.progress(FLEET))):
        yield step_request(FLEET, SITE, step, _JOBS)


def _plain() -> dg.Definitions:
    ours = build_definitions(Home.from_environment())
    return dg.Definitions(
        assets=ours.assets,
        asset_checks=ours.asset_checks,
        resources=ours.resources,
        jobs=[_JOBS["serve"]],
        sensors=[landing],
    )


defs = _plain()
