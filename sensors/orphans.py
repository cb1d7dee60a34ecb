"""The orphans sensor: work whose run died is ended where it still runs, and written off."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from backbone.errors import HybridError
from backbone.sites import Site
from resources.bindings.partitions import UNFINISHED
from resources.bindings.plants import Plants
from resources.plant import Plant

if TYPE_CHECKING:
    from resources.state.works import Work

WHY = "lost: the run that launched it ended without it"


def orphans_sensor(equipment_class: str, sites: Sequence[Site]) -> dg.SensorDefinition:
    """One sensor for every plant of a class. What is an orphan follows from the ledger and the history of runs.

    A run that ends in order ends its work itself; one that is killed cannot. On this machine its processes end with
    it; a job on a cluster goes on, takes a place there and costs money.
    """

    @dg.sensor(
        name=f"{equipment_class}_orphans",
        asset_selection=dg.AssetSelection.assets(dg.AssetKey([equipment_class, "advisories"])),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends work that was left behind by a run that was killed.",
    )
    def orphans(context: dg.SensorEvaluationContext, plants: Plants) -> dg.SkipReason:
        ended = []
        for site in sites:
            plant = plants.plant(site.name)
            for work in left_behind(context.instance, plant, equipment_class):
                try:
                    end(plant, work)
                except HybridError as error:
                    context.log.warning(f"{work.handle} at {work.target} cannot be ended now: {error}")
                else:
                    ended.append(f"{work.workload} of run {work.run_id} at {work.target}")
        return dg.SkipReason(f"Ended {', '.join(ended)}." if ended else "No work was left behind.")

    return orphans


def left_behind(instance: dg.DagsterInstance, plant: Plant, equipment_class: str) -> list["Work"]:
    """Work that is not known to have ended, of runs that have."""
    works = [w for w in plant.works.left_running() if w.fleet == f"{equipment_class}/{plant.site.name}"]
    if not works:
        return []
    going = instance.get_runs(dg.RunsFilter(run_ids=list({w.run_id for w in works}), statuses=UNFINISHED))
    alive = {run.run_id for run in going}
    return [w for w in works if w.run_id not in alive]


def end(plant: Plant, work: "Work") -> None:
    """Cancel the work at its target and write it off.

    Raises:
        TargetFailed: the target cannot be reached; the work stays on the list.
    """
    if work.handle is not None:
        plant.target(work.target).cancel(work.handle)
    seconds = max((plant.clock.now() - work.began).total_seconds(), 0.0)
    cost = plant.site.location(work.location).price_per_hour * seconds / 3600
    plant.works.write_off(work.id, seconds=seconds, cost=cost, why=work.why or WHY)
