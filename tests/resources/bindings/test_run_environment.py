"""What a run had in its environment is what its own process said, not what whoever relays it has."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.bindings.lineage import events_of_run
from resources.bindings.plants import Plants
from resources.bindings.run_environment import told_variables
from resources.home import Home

SECRET = "k3y-of-the-run"  # noqa: S105


@dg.asset
def first(plants: Plants) -> None:
    """Has the plants at hand, as all that is made of a plant."""
    if os.environ["HYBRID_FAILS"]:
        raise ValueError("it does not work")


@dg.asset
def alone() -> None:
    """Knows of no plant."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home.dagster)) as found:
        yield found


def variables_of(found: list[dict[str, Any]]) -> dict[str, str]:
    """Those that the end of the run tells."""
    (end,) = [e for e in found if e["eventType"] != "START" and e["run"]["facets"]["hybrid_run"]["kind"] == "run"]
    told = end["run"]["facets"].get("environmentVariables", {"environmentVariables": []})
    return {one["name"]: one["value"] for one in told["environmentVariables"]}


@pytest.mark.parametrize("fails", ["", "yes"])
def test_a_run_tells_what_its_own_process_had_and_no_secret_of_it(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    plants = Plants(home=str(home.root))
    with monkeypatch.context() as of_the_run:
        of_the_run.setenv("HYBRID_TARGET", "of the run")
        of_the_run.setenv("HYBRID_FAILS", fails)
        of_the_run.setenv("HYBRID_API_TOKEN", SECRET)
        of_the_run.setenv("OPENLINEAGE_URL", f"http://u:{SECRET}@h")
        of_the_run.setenv("MINE", "no")
        done = dg.materialize([first], instance=instance, resources={"plants": plants}, raise_on_error=False)
    monkeypatch.setenv("HYBRID_TARGET", "of the relay")
    monkeypatch.setenv("HYBRID_ONLY_THE_RELAY", "yes")
    found = events_of_run(instance, done.run_id, Plants(home=str(home.root)))
    told = variables_of(found)
    assert (told["HYBRID_TARGET"], told["HYBRID_API_TOKEN"], told["HYBRID_FAILS"]) == ("of the run", "***", fails)
    assert {"HYBRID_ONLY_THE_RELAY", "MINE", "PATH"} & set(told) == set()
    assert SECRET not in json.dumps(found)
    record = " ".join(str(log.dagster_event) for log in instance.all_logs(done.run_id))
    assert "HYBRID_API_TOKEN" in record
    assert SECRET not in record


def test_a_run_that_did_not_say_tells_none(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_TARGET", "of the relay")
    done = dg.materialize([alone], instance=instance)
    assert variables_of(events_of_run(instance, done.run_id, Plants(home=str(home.root)))) == {}


def test_secrets_do_not_leave_the_process() -> None:
    told = told_variables({"HYBRID_PASSWORD": "hunter2-x", "HYBRID_NOTE": "use hunter2-x", "HOME": "/root"})
    assert told == {"HYBRID_NOTE": "use ***", "HYBRID_PASSWORD": "***"}
