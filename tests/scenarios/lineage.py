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


def assert_what_is_read_was_written(events: Sequence[Event], before: Sequence[Event] = ()) -> None:
    """Every input but the landing's, in the version that was read, is what a run before it wrote.

    Args:
        events: oldest first.
        before: events of runs before them, in another folder: what those wrote may be read in any version.
    """
    written: set[tuple[str, str]] = set()
    earlier = {d["name"] for event in before for d in event["outputs"]}
    names = set(earlier)
    for event in events:
        for dataset in event["inputs"]:
            name, facets = dataset["name"], dataset["facets"]
            if "/landing/" in name:
                continue
            known = "version" not in facets or name in earlier or (name, version(dataset)) in written
            assert known, (name, facets["version"])
            # What failed before it read anything names what it needs, in no version.
            assert "version" in facets or name in names or event["eventType"] != "COMPLETE", name
        if event["eventType"] == "COMPLETE":
            written |= {(d["name"], version(d)) for d in event["outputs"] if "version" in d["facets"]}
            names |= {d["name"] for d in event["outputs"]}


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
