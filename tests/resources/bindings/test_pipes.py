"""A worker's end is believed only when it says that it has finished."""

from pathlib import Path

import dagster as dg
import pytest

from resources.bindings.pipes import run_on_target
from resources.bindings.plants import failures
from resources.home import Home
from resources.plant import Catalog, Plant

SAYS = """
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    pipes.log.info("half way")
    {then}
"""


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    home = Home(tmp_path / "home").prepare()
    shipped = (Path(__file__).parents[3] / "resources" / "sites" / "riverside.toml").read_text()
    (home.sites / "riverside.toml").write_text(shipped.replace("timeout_s = 900", "timeout_s = 20"))
    return Plant(Catalog(home), "riverside")


def materialize(plant: Plant, program: str) -> tuple[dg.ExecuteInProcessResult, list[dict[str, object]]]:
    records = []

    @dg.asset
    def work(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        with failures():
            command = ["{python}", "-c", program]
            records.append(run_on_target(context, plant, "training", command, inputs={}, extras={"seed": 7}))
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([work], instance=instance, raise_on_error=False), records


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.filter_events(lambda e: e.is_step_failure)
    return event.step_failure_data.user_failure_data.description


def test_the_record_sent_last_is_what_comes_back(plant: Plant) -> None:
    result, records = materialize(
        plant, SAYS.format(then="pipes.report_custom_message({'completed': {'seed': pipes.get_extra('seed')}})")
    )
    assert result.success
    assert records == [{"seed": 7}]


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (SAYS.format(then="pass"), "ended without saying that it had finished"),
        ("pass", "ended without saying that it had finished"),
        (SAYS.format(then="import os; os.kill(os.getpid(), 9)"), "killed by SIGKILL"),
        (SAYS.format(then="raise ValueError('no')"), "ended with exit code 1"),
        ("import os; os._exit(0)", "ended without saying"),
    ],
)
def test_a_worker_that_does_not_finish_fails_its_asset(plant: Plant, program: str, says: str) -> None:
    result, records = materialize(plant, program)
    assert not result.success
    assert says in failure_of(result)
    assert records == []


def test_a_worker_that_hangs_is_ended(plant: Plant, tmp_path: Path) -> None:
    settings = plant.catalog.home.sites / "riverside.toml"
    settings.write_text(settings.read_text().replace("timeout_s = 20", "timeout_s = 1"))
    hanging = Plant(Catalog(plant.catalog.home), "riverside")
    result, _ = materialize(hanging, "import threading; threading.Event().wait()")
    assert "still running after 1 s" in failure_of(result)
