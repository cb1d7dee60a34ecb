"""The peer of `landing_latency`: the same assets, job and steps on a plain sensor, with all of Dagster as it comes."""

from collections.abc import Iterator

import dagster as dg

from backbone.windows import next_step
from benchmarks._fed_plant import FLEET, SITE
from hybrid_assets.definitions import build_definitions
from resources.bindings.plants import Plants
from resources.collector import collect, due_until
from resources.home import Home
from sensors.jobs import fleet_jobs
from sensors.landing import step_request

_JOBS = fleet_jobs(FLEET)


@dg.sensor(job=_JOBS["serve"], default_status=dg.DefaultSensorStatus.RUNNING)
def landing(plants: Plants) -> Iterator[dg.RunRequest]:
    plant = plants.plant(SITE)
    now = plant.clock.now()
    for _ in collect(plant, FLEET, until=due_until(plant, FLEET, now), now=now):
        pass
    if step := next_step(plant.progress(FLEET)):
        yield step_request(FLEET, SITE, step, _JOBS)


_OURS = build_definitions(Home.from_environment())
defs = dg.Definitions(
    assets=_OURS.assets,
    asset_checks=_OURS.asset_checks,
    resources=_OURS.resources,
    jobs=[_JOBS["serve"]],
    sensors=[landing],
)
