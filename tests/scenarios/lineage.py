"""Events of every run of an installation, as tests of scenarios ask for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from hybrid_assets.definitions import build_definitions
from resources.bindings.lineage import events_of_run
from resources.bindings.plants import Plants
from resources.home import Home

Event = dict[str, Any]


def events_of_home(home: Home, *, since: Sequence[str] = ()) -> list[Event]:
    """Events of all runs, oldest run first, but for those of the runs given."""
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        return events_of_instance(home, instance, since=since)


def events_of_instance(home: Home, instance: dg.DagsterInstance, *, since: Sequence[str] = ()) -> list[Event]:
    plants = Plants(home=str(home.root))
    graph = build_definitions(home, plants).resolve_asset_graph()
    runs = [r.dagster_run.run_id for r in instance.get_run_records(ascending=True)]
    return [e for run in runs if run not in since for e in events_of_run(instance, run, plants, graph=graph)]


def runs_of_home(home: Home) -> list[str]:
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        return [r.dagster_run.run_id for r in instance.get_run_records()]


def of_asset(events: Sequence[Event], asset: str, kind: str = "COMPLETE", window: str | None = None) -> list[Event]:
    """Events of one type of an asset's runs, of one partition or of all."""
    return [
        e
        for e in events
        if e["job"]["name"] == asset
        and e["eventType"] == kind
        and (window is None or e["run"]["facets"]["hybrid_run"].get("partition") == window)
    ]


def inputs(event: Event) -> dict[str, dict[str, Any]]:
    """The last two parts of its name → data set."""
    return {short(d["name"]): d for d in event["inputs"]}


def short(name: str) -> str:
    return "/".join(Path(name).parts[-2:])


def version(dataset: dict[str, Any]) -> str:
    return str(dataset["facets"]["version"]["datasetVersion"])
