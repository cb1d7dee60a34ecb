"""`hybrid prune` and the daily run that does the same: what nobody can read any more goes, and is told by table."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from backbone.errors import ConfigurationError, UnknownName
from backbone.sources import Batch
from backbone.windows import WindowRange
from cli.main import app
from hybrid_assets.definitions import build_definitions
from resources.bindings.plants import Plants
from resources.home import Home
from resources.plant import Catalog, Plant

DAY = date(2025, 1, 1)


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Of pumps, whose telemetry was replaced nine days and one day ago; one reading has landed."""
    home = Home(tmp_path / "home").prepare()
    monkeypatch.setenv("HYBRID_HOME", str(home.root))
    monkeypatch.delenv("HYBRID_STATE_URL", raising=False)
    plant = Plant(Catalog(home), "riverside")
    table = plant.table("pump", "telemetry")
    for _ in range(3):
        table.replace(WindowRange("riverside", DAY, DAY), pa.table({"equipment_id": ["P-1"]}), run_id="r")
    for version, days in enumerate((12, 9, 1)):
        aged(table.path / "_delta_log" / f"{version:020d}.json", days)
    for file in table.path.rglob("*.parquet"):
        aged(file, 12)
    rows = pa.table({"equipment_id": ["P-1"], "ts": [datetime.now(UTC)]})
    plant.landing("pump").take_up([Batch("b", "telemetry", DAY, rows, "a test", "")], until=datetime.now(UTC))
    return plant


def aged(file: Path, days: float) -> None:
    at = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    os.utime(file, (at, at))


def hybrid(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["prune", *arguments, "--json"])
    assert result.exit_code == 0, result.exception
    return dict(json.loads(result.stdout))


def files(plant: Plant) -> int:
    return len(list(plant.table("pump", "telemetry").path.rglob("date=*/*.parquet")))


def test_what_was_replaced_longer_ago_goes_and_is_told_by_table(plant: Plant) -> None:
    site = ["--site", "riverside"]
    told = hybrid(*site, "--dry-run")
    assert files(plant) == 3
    assert {name.partition("/")[2] for name in told["tables"]} == {"pump/telemetry", "pump/landing/riverside/telemetry"}
    assert told["removed"]["files"] == 1
    assert told["removed"]["bytes"] > 0
    (telemetry,) = [one for name, one in told["tables"].items() if name.endswith("pump/telemetry")]
    assert (telemetry["data"]["files"], telemetry["kept"]["files"], telemetry["since_version"]) == (1, 2, 1)
    assert hybrid(*site) == {**told, "dry_run": False}
    assert files(plant) == 2
    assert hybrid(*site, "--older-than", "12h")["removed"]["files"] == 1
    assert plant.table("pump", "telemetry").read("riverside").num_rows == 1


def test_people_read_it_as_lines(plant: Plant) -> None:
    lines = CliRunner().invoke(app, ["prune"]).stdout.splitlines()
    assert "pump/telemetry: 1 files (0.0 MB) of data; 2 files (0.0 MB) stay, readable since version 1" in lines[0]
    assert lines[-1] == "gone: 1 files (0.0 MB)"


def test_damaged_parts_of_spools_go_only_where_it_is_asked_for(plant: Plant) -> None:
    damaged = plant.root("edge") / "gateway" / "riverside" / "gw-1" / "spool" / "damaged"
    damaged.mkdir(parents=True)
    for name, days in (("old", 9), ("new", 1)):
        (damaged / name).write_bytes(b"no record")
        aged(damaged / name, days)
    assert hybrid()["damaged"] == {}
    assert hybrid("--damaged", "--dry-run")["damaged"] == {"riverside/gw-1": {"files": 1, "bytes": 9}}
    assert (damaged / "old").exists()
    hybrid("--damaged")
    assert [file.name for file in damaged.iterdir()] == ["new"]


def test_a_table_that_cannot_be_read_is_told_and_keeps_none_of_the_others(plant: Plant) -> None:
    broken = plant.table("pump", "prognoses").path / "_delta_log"
    broken.mkdir(parents=True)
    (broken / f"{0:020d}.json").write_text("{cut")
    result = CliRunner().invoke(app, ["prune", "--json"])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [name.partition("/")[2] for name in told["troubles"]] == ["pump/prognoses"]
    assert files(plant) == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--site", "nowhere"], UnknownName),
        (["--older-than", "week"], ConfigurationError),
        (["--older-than", "30m"], ConfigurationError),
    ],
)
def test_what_makes_no_sense_is_refused(plant: Plant, arguments: list[str], error: type[Exception]) -> None:
    assert isinstance(CliRunner().invoke(app, ["prune", *arguments]).exception, error)
    assert files(plant) == 3


@pytest.fixture
def instance(plant: Plant) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(plant.catalog.home.dagster)) as instance:
        yield instance


def test_it_is_done_every_night(plant: Plant, instance: dg.DagsterInstance) -> None:
    home = plant.catalog.home
    definitions = build_definitions(home, Plants(home=str(home.root)))
    schedule = definitions.get_repository_def().get_schedule_def("prune_daily")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    done = definitions.resolve_job_def(schedule.job_name).execute_in_process(instance=instance)
    assert done.success
    (told,) = [e.step_output_data.metadata for e in done.filter_events(lambda e: e.is_successful_output)]
    assert (told["files"].value, files(plant)) == (1, 2)
