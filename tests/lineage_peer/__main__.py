"""What dagster-openlineage says of the same runs as ours, row by row of the table in docs/lineage.md.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install dagster-openlineage==0.2.1 dagster==1.13.27
    .venv/bin/python -m tests.lineage_peer /tmp/peer/bin/python [--plant HYBRID_HOME]

The peer's Python executes the scenarios, with the peer's event log storage in place; then its sensor is evaluated over
the same history until it has nothing more to say; then we are asked for our events of that history. So there is one
history and three files of events: `storage` and `sensor` are the peer's two ways, of which it says to use one.
With a plant's home, its history is told by the peer's sensor and by us; rows about data need one. It is copied first.

Each row is decided from the events by a function of this module; `yes`, `partly` or `no`, with what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = ROOT.parent / "shared" / "tools" / "openlineage_validate.py"
Event = dict[str, Any]
SCENARIOS = ("success", "breaks", "breaks_once", "stones", "no_yeast", "waits", "range", "looking")

_WRAPPED = """\
telemetry: {{enabled: false}}
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config: {{base_dir: {home}/history}}
event_log_storage:
  module: dagster_openlineage.storage
  class: OpenLineageEventLogStorage
  config:
    wrapped:
      module: dagster._core.storage.event_log
      class: ConsolidatedSqliteEventLogStorage
      config: {{base_dir: {home}/history}}
"""
_PLAIN = """\
telemetry: {{enabled: false}}
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config: {{base_dir: {home}/history}}
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {{base_dir: {home}/history}}
"""

_EXECUTE = """\
import os, signal, subprocess, sys, time, warnings
warnings.filterwarnings("ignore")
import dagster as dg
from tests.resources.bindings import mill

home, scenario = sys.argv[1:]
job = {"looking": mill.looking, "success": mill.one_process, "range": mill.one_process, "waits": mill.one_process}
job = job.get(scenario, mill.several_processes)
tags = {"dagster/partition": "2025-01-02|north"}
if scenario == "range":
    ends = {"start": "2025-01-01|north", "end": "2025-01-20|north"}
    tags = {f"dagster/asset_partition_range_{at}": window for at, window in ends.items()}
if scenario == "looking":
    tags = {}
tags |= {mill.MODE: scenario, mill.MARKS: os.environ["MILL_MARKS"]}
with dg.DagsterInstance.from_config(home) as instance:
    dg.execute_job(dg.reconstructable(job), instance, tags=tags, raise_on_error=False)
"""

_CANCEL = """\
import sys, dagster as dg
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        instance.report_run_canceling(record.dagster_run)
"""

_SENSOR = """\
import sys, warnings
warnings.filterwarnings("ignore")
import dagster as dg
from dagster_openlineage import openlineage_sensor

sensor, cursor = openlineage_sensor(include_asset_events=True, record_filter_limit=1000), None
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    while True:
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        told = sensor.evaluate_tick(context)
        if told.cursor == cursor:
            break
        cursor = told.cursor
"""

_OURS = """\
import sys, warnings
warnings.filterwarnings("ignore")
import dagster as dg
from backbone.lineage.events import canonical
from resources.bindings.lineage import events_of_run
from resources.bindings.plants import Plants
from tests.resources.bindings import mill

graph = mill.DEFINITIONS.resolve_asset_graph()
with dg.DagsterInstance.from_config(sys.argv[1]) as instance, open(sys.argv[3], "wb") as out:
    for record in instance.get_run_records(ascending=True):
        for event in events_of_run(instance, record.dagster_run.run_id, Plants(home=sys.argv[2]), graph=graph):
            out.write(canonical(event) + b"\\n")
"""


_OUR_PLANT = """\
import sys, warnings
warnings.filterwarnings("ignore")
from pathlib import Path
from backbone.lineage.events import canonical
from resources.home import Home
from tests.scenarios.lineage import events_of_home

with open(sys.argv[2], "wb") as out:
    for event in events_of_home(Home(Path(sys.argv[1]))):
        out.write(canonical(event) + b"\\n")
"""


class Failed(Exception):
    """A process ended badly; its last words."""


def _run(python: str, program: str, *arguments: object, **variables: str) -> None:
    command = [python, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise Failed(f"{python} failed:\n{done.stderr[-3000:]}")


def _client(file: Path) -> dict[str, str]:
    """Settings of the standard client that write to a file."""
    return {
        "OPENLINEAGE__TRANSPORT__TYPE": "file",
        "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(file),
        "OPENLINEAGE__TRANSPORT__APPEND": "true",
    }


def collect(peer: str, folder: Path) -> dict[str, dict[str, list[Event]]]:
    """Scenario → who → events."""
    found: dict[str, dict[str, list[Event]]] = {}
    for scenario in SCENARIOS:
        home = folder / scenario
        marks = home / "marks"
        marks.mkdir(parents=True)
        files = {who: home / f"{who}.ndjson" for who in ("storage", "sensor", "ours")}
        (home / "dagster.yaml").write_text(_WRAPPED.format(home=home))
        variables = {"MILL_MARKS": str(marks), "OPENLINEAGE_NAMESPACE": "mill"}
        _execute(peer, home, scenario, variables | _client(files["storage"]))
        (home / "dagster.yaml").write_text(_PLAIN.format(home=home))
        _run(peer, _SENSOR, home, **variables, **_client(files["sensor"]))
        _run(sys.executable, _OURS, home, home / "plants", files["ours"], **variables)
        found[scenario] = {who: _read(file) for who, file in files.items()}
        print(f"{scenario}: " + ", ".join(f"{who} {len(e)} events" for who, e in found[scenario].items()), flush=True)
    return found


def on_default_storage(peer: str, folder: Path) -> tuple[Finding, Finding]:
    """What we and the peer's sensor say of a run on Dagster's default storage, a file for each run."""
    home = folder / "default"
    (home / "marks").mkdir(parents=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    _run(peer, _EXECUTE, home, "success", MILL_MARKS=str(home / "marks"))
    files = {who: home / f"{who}.ndjson" for who in ("ours", "sensor")}
    _run(sys.executable, _OURS, home, home / "plants", files["ours"])
    try:
        _run(peer, _SENSOR, home, **_client(files["sensor"]))
        words = ""
    except Failed as error:
        words = "; it raises: " + next((w for w in str(error).splitlines() if "get_event_records`" in w), "").strip()
    counts = {who: len(_read(file)) for who, file in files.items()}
    ours, sensor = (Finding("yes" if n else "no", f"{n} events on the default storage") for n in counts.values())
    return ours, Finding(sensor.holds, sensor.found + words)


def collect_plant(peer: str, home: Path, folder: Path) -> dict[str, list[Event]]:
    """Who → events of a plant's history."""
    files = {who: folder / f"plant-{who}.ndjson" for who in ("sensor", "ours")}
    history = folder / "plant"
    shutil.copytree(home / "dagster" / "history", history / "history")
    (history / "dagster.yaml").write_text(_PLAIN.format(home=history))
    _run(peer, _SENSOR, history, OPENLINEAGE_NAMESPACE="plant", **_client(files["sensor"]))
    _run(sys.executable, _OUR_PLANT, home, files["ours"])
    return {who: _read(file) for who, file in files.items()}


def _execute(peer: str, home: Path, scenario: str, variables: Mapping[str, str]) -> None:
    if scenario != "waits":
        return _run(peer, _EXECUTE, home, scenario, **variables)
    # A run that is cancelled in the middle of a step, as the launcher does it.
    command = [peer, "-c", _EXECUTE, str(home), scenario]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | dict(variables), **quiet)
    try:
        for _ in range(1200):
            if (home / "marks" / "waiting").exists() or process.poll() is not None:
                break
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        _run(peer, _CANCEL, home, **variables)
        process.terminate()
        process.wait(120)
    finally:
        process.kill()
    return None


def _read(file: Path) -> list[Event]:
    return [json.loads(line) for line in file.read_text().splitlines() if line.strip()] if file.exists() else []


# ---- the rows
@dataclass(frozen=True)
class Finding:
    """Whether a row holds; `found` says what was seen."""

    holds: str
    found: str


Told = Mapping[str, list[Event]]
"""Scenario → events of one of those who tell."""
TERMINAL = ("COMPLETE", "FAIL", "ABORT")


def _facets(event: Event) -> dict[str, Any]:
    return dict(event.get("run", {}).get("facets", {}))


def _of(events: Sequence[Event], asset: str, *kinds: str) -> list[Event]:
    return [e for e in events if e.get("job", {}).get("name") == asset and e.get("eventType") in (kinds or TERMINAL)]


def _assets(events: Sequence[Event]) -> list[Event]:
    return [e for e in events if e.get("job", {}).get("name", "").startswith("mill/") and "run" in e]


def own_run_id(told: Told) -> Finding:
    starts = [e for e in _assets(told["range"]) if e["job"]["name"] == "mill/crumbs" and e["eventType"] == "START"]
    ids = {e["run"]["runId"] for e in starts}
    retried = {e["run"]["runId"] for e in _of(told["breaks_once"], "mill/bran", "START", *TERMINAL)}
    good = len(ids) == 20 and len(retried) == 2
    return Finding("yes" if good else "no", f"{len(ids)} run ids for 20 windows, {len(retried)} for 2 attempts")


def one_start_one_end(told: Told) -> Finding:
    lives: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for scenario, events in told.items():
        for event in events:
            if "run" in event:
                lives[scenario, event["run"]["runId"]][event["eventType"]] += 1
    bad = sum(c["START"] != 1 or sum(c[k] for k in TERMINAL) != 1 for c in lives.values())
    return Finding("no" if bad or not lives else "yes", f"{bad} of {len(lives)} runs have other than one of each")


def right_asset_fails(told: Told) -> Finding:
    failed = Counter(e["job"]["name"] for e in _assets(told["breaks"]) if e["eventType"] == "FAIL")
    errors = [_facets(e).get("errorMessage", {}) for e in _of(told["breaks"], "mill/bran", "FAIL")]
    real = any("the stone broke" in e.get("message", "") and e.get("stackTrace") for e in errors)
    good = set(failed) == {"mill/bran"} and real
    return Finding("yes" if good else "no", f"FAIL of {', '.join(sorted(failed)) or 'none'}; real error: {real}")


def parent_and_root(told: Told) -> Finding:
    children = [e for events in told.values() for e in _assets(events)]
    with_root = sum("root" in _facets(e).get("parent", {}) for e in children)
    good = children and with_root == len(children)
    return Finding("yes" if good else "no", f"{with_root} of {len(children)} events of assets")


def real_inputs(told: Told) -> Finding:
    done = _of(told["success"], "mill/bread", "COMPLETE")
    good = [e for e in done if any(d["name"].endswith("mill/flour") for d in e["inputs"]) and e["outputs"]]
    return Finding("yes" if done and len(good) == len(done) else "no", f"{len(good)} of {len(done)} COMPLETE of bread")


def physical_names(told: Told) -> Finding:
    named = [d for e in _assets(told["success"]) for d in (*e.get("inputs", ()), *e.get("outputs", ()))]
    sources = sum("://" in d["namespace"] or d["namespace"] == "file" for d in named)
    links = sum("symlinks" in d.get("facets", {}) for d in named)
    good = named and sources == len(named) == links
    return Finding("yes" if good else "no", f"{sources} of {len(named)} name a data source, {links} have a symlink")


def explicit_lineage(told: Told) -> Finding:
    found = sum(
        "lineage" in e.get("job", {}).get("facets", {})
        or any("lineage" in d.get("facets", {}) for d in e.get("outputs", ()))
        for e in told["success"]
    )
    return Finding("yes" if found else "no", f"{found} events with the facet")


def partitions(told: Told) -> Finding:
    done = _of(told["range"], "mill/crumbs", "COMPLETE")
    nominal = {_facets(e).get("nominalTime", {}).get("nominalStartTime", "")[:10] for e in done} - {""}
    subsets = sum("subset" in d.get("outputFacets", {}) for e in done for d in e["outputs"])
    good = len(nominal) == 20 and subsets == 20
    state = "yes" if good else "partly" if nominal or subsets else "no"
    return Finding(state, f"{len(nominal)} nominal times and {subsets} subsets for 20 windows")


def checks(told: Told) -> Finding:
    found = [
        (a, _facets(e))
        for e in told["stones"]
        for d in e.get("inputs", ())
        for a in d.get("inputFacets", {}).get("dataQualityAssertions", {}).get("assertions", ())
    ]
    has = {name: sum(bool(a.get(name)) for a, _ in found) for name in ("severity", "expected", "actual")}
    tests = sum("test" in facets for _, facets in found)
    good = found and tests and all(has.values())
    state = "yes" if good else "partly" if found else "no"
    text = ", ".join(f"{name} {n}" for name, n in has.items())
    return Finding(state, f"{len(found)} assertions: {text}, test facet {tests}")


def job_facets(told: Told) -> Finding:
    done = [e["job"].get("facets", {}) for e in _of(told["success"], "mill/grain", "COMPLETE")]
    names = ("jobType", "ownership", "documentation", "sourceCodeLocation", "tags")
    has = [name for name in names if done and all(name in facets for facets in done)]
    return Finding("yes" if len(has) == len(names) else "partly" if has else "no", ", ".join(has) or "none of them")


def execution(told: Told) -> Finding:
    names = ("processing_engine", "executionParameters")
    has = {n for events in told.values() for e in events if "run" in e for n in names if n in _facets(e)}
    leaks = sum("hunter2-and-more" in json.dumps(e) for events in told.values() for e in events)
    state = "yes" if len(has) == len(names) and not leaks else "partly" if has else "no"
    return Finding(state, f"{', '.join(sorted(has)) or 'none'}; the secret stands in {leaks} events")


def context_kept(told: Told) -> Finding:
    observed = [e for e in told["looking"] if "mill/weather" in json.dumps(e) and e.get("run")]
    skipped = [e for e in _of(told["no_yeast"], "mill/bread") if e["inputs"] or _facets(e).get("parent")]
    cancelled = [e for e in _of(told["waits"], "mill/bran", "ABORT") if _facets(e).get("parent")]
    has = [n for n, f in (("observed", observed), ("skipped", skipped), ("cancelled", cancelled)) if f]
    return Finding("yes" if len(has) == 3 else "partly" if has else "no", f"kept: {', '.join(has) or 'none'}")


def published_schemas(told: Told, schemas: Path | None) -> Finding:
    report = _validate([e for events in told.values() for e in events], schemas)
    custom = report["custom_facets"]
    missing = sum("no schema supplied" in v for v in report["violation_list"])
    if not custom:
        return Finding("no", "no custom facet at all")
    return Finding("no" if missing else "yes", f"{', '.join(sorted(custom))}: {missing} without a schema")


def valid(told: Told, schemas: Path | None) -> Finding:
    counts: Counter[str] = Counter()
    for events in told.values():
        counts.update(_validate(events, schemas)["violations_by_rule"])
    text = ", ".join(f"{rule} {n}" for rule, n in counts.most_common())
    return Finding("no" if counts else "yes", text or "no violation")


def _validate(events: Sequence[Event], schemas: Path | None) -> dict[str, Any]:
    if not VALIDATOR.exists():
        raise SystemExit(f"{VALIDATOR} is needed to compare.")
    with tempfile.NamedTemporaryFile("w", suffix=".ndjson") as file:
        file.write("".join(json.dumps(e) + "\n" for e in events))
        file.flush()
        command = [sys.executable, VALIDATOR, "--strict", "--closed-parents", "--json", file.name]
        command += ["--custom-schemas", schemas] if schemas else []
        done = subprocess.run(command, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def _made(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Data sets that runs of a plant's assets made."""
    done = [e for e in events if e.get("eventType") == "COMPLETE" and e["job"]["name"].startswith("pump/")]
    return [d for e in done for d in e.get("outputs", ())]


def _with(datasets: Sequence[Mapping[str, Any]], bag: str, names: Sequence[str]) -> Finding:
    counts = {n: sum(n in d.get(bag, {}) for d in datasets) for n in names}
    holds = "yes" if all(counts.values()) else "partly" if any(counts.values()) else "no"
    return Finding(holds, f"of {len(datasets)} outputs: " + ", ".join(f"{n} {c}" for n, c in counts.items()))


def columns(events: Sequence[Event]) -> Finding:
    return _with(_made(events), "facets", ("schema", "columnLineage"))


def versions(events: Sequence[Event]) -> Finding:
    read = sum("version" in d.get("facets", {}) for e in events for d in e.get("inputs", ()))
    made = _with(_made(events), "facets", ("version",))
    return Finding("yes" if made.holds == "yes" and read else "no", f"{made.found}; {read} inputs with one")


def statistics(events: Sequence[Event]) -> Finding:
    read = sum("inputStatistics" in d.get("inputFacets", {}) for e in events for d in e.get("inputs", ()))
    kept = _with(_made(events), "facets", ("storage", "lifecycleStateChange"))
    rows = _with(_made(events), "outputFacets", ("outputStatistics",))
    good = read and kept.holds == rows.holds == "yes"
    return Finding("yes" if good else "no", f"{kept.found}; {rows.found.rpartition(': ')[2]}; {read} inputs counted")


def environment(events: Sequence[Event]) -> Finding:
    ends = [e for e in events if _facets(e).get("hybrid_run", {}).get("kind") == "run" and e["eventType"] != "START"]
    runs = ends or [e for e in events if "run" in e and e["eventType"] in ("COMPLETE", "FAIL", "ABORT")]
    said = sum("environmentVariables" in _facets(e) for e in runs)
    return Finding("yes" if runs and said == len(runs) else "no", f"{said} of {len(runs)} runs say what they had")


def models(events: Sequence[Event]) -> Finding:
    asked = [e for e in events if e.get("job", {}).get("name") == "pump/prognoses" and e["eventType"] == "COMPLETE"]
    types = [d["facets"].get("datasetType", {}) for e in asked for d in e["inputs"] if "facets" in d]
    found = sum(t.get("datasetType") == "MODEL" for t in types)
    return Finding("yes" if asked and found == len(asked) else "no", f"{found} of {len(asked)} prognoses name a model")


def placement(events: Sequence[Event]) -> Finding:
    names = ("hybrid_placement", "hybrid_crossings", "hybrid_answer")
    counts = {n: sum(n in _facets(e) for e in events) for n in names}
    return Finding("yes" if all(counts.values()) else "no", ", ".join(f"{n} {c}" for n, c in counts.items()))


PLANT_ROWS: Mapping[str, Callable[[Sequence[Event]], Finding]] = {
    "8 schema and column lineage": columns,
    "10 data set versions": versions,
    "12 statistics, storage, lifecycle": statistics,
    "14 variables of the run's own process": environment,
    "19 models as data sets": models,
    "20 placement, crossings, fallback": placement,
}
ROWS: Mapping[str, Callable[[Told], Finding]] = {
    "1 run id per asset, partition and attempt": own_run_id,
    "2 one START and one terminal event each": one_start_one_end,
    "3 the right asset fails, with its error": right_asset_fails,
    "4 parent and root on every child": parent_and_root,
    "5 real inputs, repeated on COMPLETE": real_inputs,
    "6 physical names, asset key as symlink": physical_names,
    "7 explicit lineage": explicit_lineage,
    "9 nominal time, subset": partitions,
    "11 assertions, test facet": checks,
    "13 job type, ownership, documentation, code, tags": job_facets,
    "14 engine, parameters, no secret": execution,
    "15 observed, skipped, cancelled keep context": context_kept,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare with dagster-openlineage.")
    parser.add_argument("peer", help="a Python that has dagster-openlineage")
    parser.add_argument("--keep", type=Path, help="folder for histories and events; default: none are kept")
    parser.add_argument("--plant", type=Path, help="HYBRID_HOME of a plant of pumps that was served")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        found = collect(arguments.peer, folder)
        told = {who: {s: found[s][who] for s in SCENARIOS} for who in ("ours", "storage", "sensor")}
        schemas = {"ours": ROOT / "resources" / "lineage" / "schemas", "storage": None, "sensor": None}
        print("\n| row | ours | its storage | its sensor |\n|---|---|---|---|")
        table: dict[str, Callable[[str], Finding]] = {
            row: (lambda who, check=check: check(told[who])) for row, check in ROWS.items()
        }
        table["16 schemas of custom facets"] = lambda who: published_schemas(told[who], schemas[who])
        table["every event valid (`--strict --closed-parents`)"] = lambda who: valid(told[who], schemas[who])
        for row, check in table.items():
            cells = (check(who) for who in ("ours", "storage", "sensor"))
            print(f"| {row} | " + " | ".join(f"**{c.holds}**: {c.found}" for c in cells) + " |", flush=True)
        ours, sensor = on_default_storage(arguments.peer, folder)
        print(
            f"| 18 any storage | **{ours.holds}**: {ours.found} | – | **{sensor.holds}**: {sensor.found} |", flush=True
        )
        if arguments.plant:
            plant = collect_plant(arguments.peer, arguments.plant, folder)
            for row, about in PLANT_ROWS.items():
                ours, sensor = (about(plant[who]) for who in ("ours", "sensor"))
                print(
                    f"| {row} | **{ours.holds}**: {ours.found} | – | **{sensor.holds}**: {sensor.found} |", flush=True
                )


if __name__ == "__main__":
    main()
