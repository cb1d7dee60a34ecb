"""The fallback sensor looks at each run that ended badly once, oldest first, and at no more than it can in one tick."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.bindings.plants import Plants
from sensors import fallback


@dg.op
def nothing() -> None:
    pass


@dg.job
def rules() -> None:
    nothing()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def ended_badly(instance: dg.DagsterInstance) -> str:
    run = dg.DagsterRun(job_name="serve", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    instance.report_run_failed(run)
    return run.run_id


class Sensor:
    """The sensor, its cursor, and the runs it looked at in each tick."""

    def __init__(self, instance: dg.DagsterInstance, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._instance, self._plants, self._cursor = instance, Plants(home=str(home)), None
        self._sensor: Any = fallback.fallback_sensor("pump", [], {"fallback": rules, "plan": rules})
        self._looked: list[str] = []

        def look(*arguments: Any) -> list[dg.RunRequest]:
            self._looked.append(arguments[4].dagster_run.run_id)
            return []

        monkeypatch.setattr(fallback, "requests_in_place", look)

    def tick(self) -> list[str]:
        self._looked = []
        context = dg.build_sensor_context(
            instance=self._instance, cursor=self._cursor, resources={"plants": self._plants}
        )
        self._cursor = self._sensor.evaluate_tick(context).cursor
        return self._looked


def test_a_new_cursor_gets_through_a_long_history_in_several_ticks(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "_MOST_AT_ONCE", 4)
    sensor = Sensor(instance, tmp_path, monkeypatch)
    ended = [ended_badly(instance) for _ in range(10)]
    ticks = [sensor.tick() for _ in range(4)]
    assert [run for tick in ticks for run in tick] == ended
    assert [len(tick) for tick in ticks] == [4, 4, 2, 0]
    later = ended_badly(instance)
    assert (sensor.tick(), sensor.tick()) == ([later], [])


def test_runs_that_ended_at_the_same_time_are_all_looked_at(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "_MOST_AT_ONCE", 2)
    at = datetime.now(UTC)
    monkeypatch.setattr("dagster._core.storage.runs.sql_run_storage.get_current_datetime", lambda: at)
    sensor = Sensor(instance, tmp_path, monkeypatch)
    ended = {ended_badly(instance) for _ in range(7)}
    looked = [run for _ in range(5) for run in sensor.tick()]
    assert set(looked) == ended
    assert len(looked) == len(ended)
