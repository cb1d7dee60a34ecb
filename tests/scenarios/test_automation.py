"""What sensor and schedules ask for, evaluated on a real instance for a plant that is served and one that is new."""

from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg

from hybrid_assets.definitions import build_definitions
from resources.bindings.plants import Plants
from tests.scenarios.installation import Installation

NIGHT = datetime(2025, 6, 1, 2, tzinfo=UTC)


def requests(installation: Installation, schedule: str) -> dict[str, str]:
    """Fleet → partition that a schedule asks for."""
    repository = build_definitions(installation.home).get_repository_def()
    context = dg.build_schedule_context(
        scheduled_execution_time=NIGHT,
        resources={"plants": Plants(home=str(installation.home.root))},
        repository_def=repository,
    )
    asked = repository.get_schedule_def(schedule).evaluate_tick(context).run_requests or []
    assert len({r.run_key for r in asked}) == len(asked)
    return {r.tags["hybrid/fleet"]: str(r.partition_key) for r in asked}


def test_schedules_ask_for_plants_that_have_something_to_do(served: Installation) -> None:
    assert requests(served, "pump_scoring_hourly") == {"pump/north": "2025-03-01|north"}
    assert requests(served, "pump_training_nightly") == {"pump/north": "north"}


def test_schedules_of_an_empty_installation_say_why_they_skip(installation: Installation) -> None:
    for schedule in ("pump_scoring_hourly", "pump_training_nightly"):
        assert requests(installation, schedule) == {}


def test_the_landing_sensor_asks_once_for_what_a_new_plant_needs(copied: Callable[[], Installation]) -> None:
    installation = copied()
    repository = build_definitions(installation.home).get_repository_def()
    sensor = repository.get_sensor_def("pump_landing")
    with dg.DagsterInstance.from_config(str(installation.home.dagster)) as instance:
        keys = []
        for _ in range(2):
            context = dg.build_sensor_context(
                instance=instance,
                resources={"plants": Plants(home=str(installation.home.root))},
                repository_def=repository,
            )
            (request,) = sensor.evaluate_tick(context).run_requests or []
            assert (request.job_name, request.tags["hybrid/fleet"]) == ("pump_ingest", "pump/riverside")
            assert request.tags["dagster/asset_partition_range_start"].endswith("|riverside")
            keys.append(request.run_key)
    assert keys[0] == keys[1], "the same need is the same run"
