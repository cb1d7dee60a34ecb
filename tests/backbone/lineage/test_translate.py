from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.lineage.events import canonical
from backbone.lineage.history import Entry, Failure, RunHistory, Verdict
from backbone.lineage.translate import translate
from tests.backbone.lineage.histories import (
    FACTS,
    OTHER_WINDOW,
    RUN,
    WINDOW,
    any_history,
    at,
    entry,
    history,
)

TERMINAL = {"COMPLETE", "FAIL", "ABORT"}
PROGNOSES = "pump/prognoses"
ROWS = "dagster/partition_row_count"


def events(*entries: Entry, **more: Any) -> list[dict[str, Any]]:
    return translate(history(*entries, **more), FACTS)


def told(found: list[dict[str, Any]], job: str | None = None) -> list[tuple[str, str, str | None]]:
    """(job, type, partition) of each event."""
    return [
        (e["job"]["name"], e["eventType"], e["run"]["facets"]["hybrid_run"].get("partition"))
        for e in found
        if job is None or e["job"]["name"] == job
    ]


def only(found: list[dict[str, Any]], job: str, kind: str) -> dict[str, Any]:
    (event,) = (e for e in found if e["job"]["name"] == job and e["eventType"] == kind)
    return event


def scored(*middle: Entry, partitions: tuple[str, ...] = (WINDOW,)) -> tuple[Entry, ...]:
    planned = (entry("planned", 0, "score", PROGNOSES, partition=p) for p in partitions)
    return (*planned, entry("run_started", 1), *middle)


# ---- laws
@given(any_history())
def test_each_run_has_one_start_and_one_end(any_: RunHistory) -> None:
    by_run = defaultdict(list)
    for event in translate(any_, FACTS):
        by_run[event["run"]["runId"]].append(event)
    ended = any(e.kind in ("run_succeeded", "run_failed", "run_cancelled") for e in any_.entries)
    for run in by_run.values():
        kinds = [e["eventType"] for e in run]
        assert kinds[0] == "START"
        assert len(kinds) == 1 or (len(kinds) == 2 and kinds[1] in TERMINAL)
        assert len({e["job"]["name"] for e in run}) == 1
        assert run[-1]["eventTime"] >= run[0]["eventTime"]
        assert len(kinds) == 2 or not ended


@given(any_history(), st.integers(0, 30))
def test_a_longer_history_changes_no_event_and_no_order(any_: RunHistory, length: int) -> None:
    shorter = translate(replace(any_, entries=any_.entries[:length]), FACTS)
    longer = translate(any_, FACTS)
    assert [canonical(e) for e in longer[: len(shorter)]] == [canonical(e) for e in shorter]


@given(any_history())
def test_the_same_history_is_the_same_bytes(any_: RunHistory) -> None:
    assert [canonical(e) for e in translate(any_, FACTS)] == [canonical(e) for e in translate(any_, FACTS)]


@given(any_history())
def test_no_two_events_share_run_type_and_time(any_: RunHistory) -> None:
    keys = [(e["run"]["runId"], e["eventType"], e["eventTime"]) for e in translate(any_, FACTS)]
    assert len(keys) == len(set(keys))


@given(any_history())
def test_every_child_has_a_parent_and_a_root_that_began_before_it(any_: RunHistory) -> None:
    begun: dict[str, str] = {}
    for event in translate(any_, FACTS):
        run, job = event["run"], event["job"]["name"]
        if event["eventType"] == "START":
            begun[run["runId"]] = job
        parent = run["facets"].get("parent")
        assert (parent is None) == (run["runId"] == RUN)
        if parent is not None:
            assert begun[parent["run"]["runId"]] == parent["job"]["name"]
            assert parent["root"]["run"]["runId"] == RUN


# ---- what becomes of assets
def test_each_partition_of_an_asset_is_a_run_of_its_own() -> None:
    found = events(
        *scored(
            entry("step_started", 2, "score"),
            entry("materialized", 3, "score", PROGNOSES, partition=WINDOW),
            entry("materialized", 4, "score", PROGNOSES, partition=OTHER_WINDOW),
            entry("step_succeeded", 5, "score"),
            entry("run_succeeded", 6),
            partitions=(WINDOW, OTHER_WINDOW),
        )
    )
    assert told(found) == [
        ("pump_serve", "START", None),
        ("score", "START", None),
        (PROGNOSES, "START", WINDOW),
        (PROGNOSES, "START", OTHER_WINDOW),
        (PROGNOSES, "COMPLETE", WINDOW),
        (PROGNOSES, "COMPLETE", OTHER_WINDOW),
        ("score", "COMPLETE", None),
        ("pump_serve", "COMPLETE", None),
    ]
    assert len({e["run"]["runId"] for e in found}) == 4


def test_of_a_step_that_fails_what_was_made_stays_made_and_the_rest_fails_with_the_error() -> None:
    broken = Failure("StorageFull", "No room left.", "Traceback…\nStorageFull: No room left.")
    found = events(
        *scored(
            entry("planned", 1, "later", "pump/advisories", partition=WINDOW),
            entry("step_started", 2, "score"),
            entry("materialized", 3, "score", PROGNOSES, partition=WINDOW),
            entry("step_failed", 4, "score", failure=broken),
            entry("run_failed", 5, failure=Failure("RunFailed", "Steps failed: ['score'].")),
            partitions=(WINDOW, OTHER_WINDOW),
        )
    )
    assert told(found, PROGNOSES)[2:] == [(PROGNOSES, "COMPLETE", WINDOW), (PROGNOSES, "FAIL", OTHER_WINDOW)]
    error = only(found, PROGNOSES, "FAIL")["run"]["facets"]["errorMessage"]
    assert error["message"] == "StorageFull: No room left."
    assert error["stackTrace"].startswith("Traceback")
    assert only(found, "pump_serve", "FAIL")["run"]["facets"]["errorMessage"]["message"].startswith("StorageFull")
    assert not told(found, "pump/advisories")


def test_each_attempt_is_a_run_of_its_own() -> None:
    found = events(
        *scored(
            entry("step_started", 2, "score"),
            entry("step_to_retry", 3, "score", failure=Failure("Busy", "Held.")),
            entry("step_started", 4, "score"),
            entry("materialized", 5, "score", PROGNOSES, partition=WINDOW),
            entry("step_succeeded", 6, "score"),
            entry("run_succeeded", 7),
        )
    )
    runs = [e["run"]["runId"] for e in found if e["job"]["name"] == PROGNOSES]
    assert [kind for _, kind, _ in told(found, PROGNOSES)] == ["START", "FAIL", "START", "COMPLETE"]
    assert runs[0] == runs[1] != runs[2] == runs[3]
    assert [e["run"]["facets"]["hybrid_run"]["attempt"] for e in found if e["job"]["name"] == PROGNOSES] == [0, 0, 1, 1]
    assert "errorMessage" not in only(found, "pump_serve", "COMPLETE")["run"]["facets"]


def test_what_is_open_when_the_worker_dies_fails_with_what_monitoring_says() -> None:
    lost = Failure("RunFailed", "Detected run worker status FAILED.")
    found = events(*scored(entry("step_started", 2, "score"), entry("run_failed", 60, failure=lost)))
    assert [kind for _, kind, _ in told(found, PROGNOSES)] == ["START", "FAIL"]
    assert "Detected run worker" in only(found, PROGNOSES, "FAIL")["run"]["facets"]["errorMessage"]["message"]


def test_what_is_open_when_a_run_is_cancelled_is_aborted_and_keeps_its_context() -> None:
    stopped = Failure("DagsterExecutionInterruptedError", "", interrupted=True)
    found = events(
        *scored(
            entry("step_started", 2, "score"),
            entry("step_failed", 3, "score", failure=stopped),
            entry("run_cancelled", 4),
        )
    )
    aborted = only(found, PROGNOSES, "ABORT")
    assert [d["name"] for d in aborted["inputs"]] == [
        "/stores/on_prem/pump/condition_features",
        "/stores/on_prem/pump/registry/north",
    ]
    assert [d["name"] for d in aborted["outputs"]] == ["/stores/on_prem/pump/prognoses"]
    assert aborted["run"]["facets"]["parent"]["run"]["runId"] == RUN
    assert only(found, "pump_serve", "ABORT")


def test_a_run_that_is_cancelled_before_it_begins_has_a_start_and_an_end() -> None:
    found = events(entry("planned", 0, "score", PROGNOSES, partition=WINDOW), entry("run_cancelled", 9))
    assert told(found) == [("pump_serve", "START", None), ("pump_serve", "ABORT", None)]


def test_what_a_given_up_process_says_later_changes_nothing() -> None:
    before = scored(entry("step_started", 2, "score"), entry("run_failed", 60))
    late = (entry("materialized", 61, "score", PROGNOSES, partition=WINDOW), entry("step_succeeded", 62, "score"))
    assert events(*before, *late) == events(*before)


def test_a_step_begun_again_by_another_worker_is_another_attempt() -> None:
    found = events(*scored(entry("step_started", 2, "score"), entry("step_started", 30, "score")))
    assert [kind for _, kind, _ in told(found, PROGNOSES)] == ["START", "FAIL", "START"]
    assert "lost" in only(found, PROGNOSES, "FAIL")["run"]["facets"]["errorMessage"]["message"]


def test_what_is_not_made_is_complete_without_output_and_says_why() -> None:
    found = events(
        entry("planned", 0, "release", "pump/model_release", partition="north"),
        entry("run_started", 1),
        entry("step_started", 2, "release"),
        entry(
            "observed",
            3,
            "release",
            "pump/model_release",
            partition="north",
            metadata={"not_made_because": "The rules are better."},
        ),
        entry("step_succeeded", 4, "release"),
    )
    done = only(found, "pump/model_release", "COMPLETE")
    assert done["outputs"] == []
    assert done["run"]["facets"]["hybrid_notMade"]["reason"] == "The rules are better."


def test_a_skipped_step_is_aborted_with_its_context() -> None:
    found = events(*scored(entry("step_skipped", 2, "score")))
    assert [kind for _, kind, _ in told(found, PROGNOSES)] == ["START", "ABORT"]
    assert only(found, PROGNOSES, "ABORT")["inputs"]


def test_an_observation_is_a_run_that_only_reads() -> None:
    found = events(
        entry("run_started", 1), entry("observed", 2, "look", "pump/telemetry", partition=WINDOW, metadata={"rows": 3})
    )
    seen = only(found, "pump/telemetry/observation", "COMPLETE")
    assert [d["name"] for d in seen["inputs"]] == ["/stores/on_prem/pump/telemetry"]
    assert seen["outputs"] == []
    assert seen["run"]["facets"]["hybrid_observation"]["values"] == {"rows": 3}


def test_a_later_run_goes_on_from_its_parent_and_root() -> None:
    found = events(entry("run_started", 1), parent=("b" * 8, "pump_serve"), root=("a" * 8, "pump_first"))
    parent = found[0]["run"]["facets"]["parent"]
    assert parent["run"]["runId"] == "b" * 8
    assert parent["root"] == {
        "run": {"runId": "a" * 8},
        "job": {"namespace": "plants", "name": "pump_first"},
    }


# ---- what is said of data sets
def made(**metadata: Any) -> dict[str, Any]:
    """The end of condition_features that told this."""
    found = events(
        entry("planned", 0, "features", "pump/condition_features", partition=WINDOW),
        entry("run_started", 1),
        entry("step_started", 2, "features"),
        entry("materialized", 3, "features", "pump/condition_features", partition=WINDOW, metadata=metadata),
    )
    return only(found, "pump/condition_features", "COMPLETE")


def test_versions_are_those_read_and_written() -> None:
    done = made(
        reads={"/stores/on_prem/pump/telemetry": 7, "/stores/on_prem/pump/condition_features": 8},
        rows_read={"/stores/on_prem/pump/telemetry": 55},
        sizes_read={"/stores/on_prem/pump/telemetry": [4000, 3]},
        writes={"/stores/on_prem/pump/condition_features": 9},
        sizes_written={"/stores/on_prem/pump/condition_features": [900, 2]},
        rows=12,
    )
    (read,), (written,) = done["inputs"], done["outputs"]
    assert read["name"] == "/stores/on_prem/pump/telemetry"
    assert read["facets"]["version"]["datasetVersion"] == "7"
    assert written["facets"]["version"]["datasetVersion"] == "9"
    assert written["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "OVERWRITE"
    assert counted(written["outputFacets"]["outputStatistics"]) == (12, 900, 2)
    assert counted(read["inputFacets"]["inputStatistics"]) == (55, 4000, 3)
    assert written["facets"]["symlinks"]["identifiers"][0]["name"] == "pump/condition_features"


def test_of_many_windows_read_at_once_each_tells_its_own_rows_where_they_are_known() -> None:
    path, made = "/stores/on_prem/pump/telemetry", "/stores/on_prem/pump/condition_features"
    told_of = {
        "reads": {path: 7},
        "rows_read": {path: 90},
        "sizes_read": {path: [9000, 3]},
        "writes": {made: 8},
        "sizes_written": {made: [700, 2]},
    }
    landed = {ROWS: 40, "window_sizes_written": {path: [2000, 1]}}
    of_window = {WINDOW: {"window_sizes_written": {made: [300, 1]}}, OTHER_WINDOW: {}}
    windows = (WINDOW, OTHER_WINDOW)
    found = events(
        *(entry("planned", 0, "ingestion", "pump/telemetry", partition=w) for w in windows),
        *(entry("planned", 0, "features", "pump/condition_features", partition=w) for w in windows),
        entry("run_started", 1),
        entry("materialized", 2, "ingestion", "pump/telemetry", partition=WINDOW, metadata=landed),
        entry("step_started", 3, "features"),
        *(
            entry(
                "materialized", 4, "features", "pump/condition_features", partition=w, metadata=told_of | of_window[w]
            )
            for w in windows
        ),
        entry("step_succeeded", 5, "features"),
    )
    ends = [e for e in found if e["job"]["name"] == "pump/condition_features" and e["eventType"] == "COMPLETE"]
    reads = [counted(e["inputs"][0]["inputFacets"].get("inputStatistics", {})) for e in ends]
    assert reads == [(40, 2000, 1), (None, None, None)]
    written = [counted(e["outputs"][0]["outputFacets"].get("outputStatistics", {})) for e in ends]
    assert written == [(None, 300, 1), (None, None, None)]
    step = only(found, "features", "COMPLETE")
    assert counted(step["inputs"][0]["inputFacets"]["inputStatistics"]) == (90, 9000, 3)
    assert counted(step["outputs"][0]["outputFacets"]["outputStatistics"]) == (None, 700, 2)


@pytest.mark.parametrize("size", [[1], "12", [1, "2"], {"bytes": 1}, None])
def test_a_size_that_somebody_else_told_in_another_way_is_none(size: object) -> None:
    path = "/stores/on_prem/pump/condition_features"
    (written,) = made(rows=3, writes={path: 1}, sizes_written={path: size})["outputs"]
    assert counted(written["outputFacets"]["outputStatistics"]) == (3, None, None)


def counted(statistics: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Rows, bytes and files, as far as they are told."""
    return statistics.get("rowCount"), statistics.get("size"), statistics.get("fileCount")


def test_what_was_read_counts_and_not_what_should_have_been() -> None:
    done = made(reads={"/stores/on_prem/pump/registry/north": 2}, writes={})
    assert [(d["name"], d["facets"]["version"]["datasetVersion"]) for d in done["inputs"]] == [
        ("/stores/on_prem/pump/registry/north", "2")
    ]


def test_column_lineage_tells_of_columns_in_the_schema_and_of_data_sets_that_were_read() -> None:
    facet = made(reads={"/stores/on_prem/pump/telemetry": 7}, writes={})["outputs"][0]["facets"]["columnLineage"]
    assert set(facet["fields"]) == {"ts", "flow.last"}
    (flow,) = facet["fields"]["flow.last"]["inputFields"]
    assert flow["field"] == "flow"
    assert flow["transformations"] == [{"type": "DIRECT", "subtype": "TRANSFORMATION"}]
    assert [d["field"] for d in facet["dataset"]] == ["speed"]


def test_a_window_has_its_nominal_time_and_is_a_subset() -> None:
    done = made(reads={"/stores/on_prem/pump/telemetry": 7}, writes={})
    nominal = done["run"]["facets"]["nominalTime"]
    assert nominal["nominalStartTime"] == "2025-02-01T00:00:00.000000Z"
    assert nominal["nominalEndTime"] == "2025-02-02T00:00:00.000000Z"
    (condition,) = done["outputs"][0]["outputFacets"]["subset"]["outputCondition"]["partitions"]
    assert condition == {"identifier": WINDOW, "dimensions": {"site": "north", "date": "2025-02-01"}}


def test_a_step_of_several_assets_says_what_goes_into_which() -> None:
    reads = {"/stores/on_prem/pump/telemetry": 1, "/stores/on_prem/pump/prognoses": 2}
    found = events(
        entry("planned", 0, "both", "pump/condition_features", partition=WINDOW),
        entry("planned", 0, "both", "pump/advisories", partition=WINDOW),
        entry("run_started", 1),
        entry("step_started", 2, "both"),
        entry("materialized", 3, "both", "pump/condition_features", partition=WINDOW, metadata={"reads": reads}),
        entry("materialized", 3, "both", "pump/advisories", partition=WINDOW, metadata={"reads": reads}),
        entry("step_succeeded", 4, "both"),
    )
    pairs = {
        made["name"].rpartition("/")[2]: [s["name"].rpartition("/")[2] for s in made["inputs"]]
        for made in only(found, "both", "COMPLETE")["job"]["facets"]["lineage"]["entries"]
    }
    assert pairs == {"condition_features": ["telemetry"], "advisories": ["prognoses"]}
    assert [d["name"] for d in only(found, "pump/advisories", "COMPLETE")["inputs"]] == [
        "/stores/on_prem/pump/prognoses"
    ]


def test_checks_are_a_run_with_assertions_and_tests() -> None:
    bad = Verdict("in_range", passed=False, severity="error", blocking=True)
    metadata = {"expected": "0 to 3600", "observed": "3 rows above", "rows": 40, "columns": {"flow": {"nulls": 2}}}
    found = events(
        entry("check_planned", 0, "checks", "pump/telemetry", check="in_range"),
        entry("run_started", 1),
        entry("step_started", 2, "checks"),
        entry("checked", 3, "checks", "pump/telemetry", partition=WINDOW, metadata=metadata, verdict=bad),
        entry("step_failed", 4, "checks", failure=Failure("DagsterAssetCheckFailedError", "A check failed.")),
    )
    failed = only(found, "pump/telemetry/checks", "FAIL")
    (assertion,) = failed["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["success"], assertion["severity"]) == (False, "error")
    assert (assertion["expected"], assertion["actual"]) == ("0 to 3600", "3 rows above")
    assert assertion["params"]["partition"] == WINDOW
    metrics = failed["inputs"][0]["inputFacets"]["dataQualityMetrics"]
    assert metrics["rowCount"] == 40
    assert metrics["columnMetrics"] == {"flow": {"nullCount": 2}}
    assert failed["run"]["facets"]["test"]["tests"][0]["status"] == "fail"


def test_a_check_that_died_before_it_said_anything_fails() -> None:
    found = events(
        entry("check_planned", 0, "checks", "pump/telemetry", check="in_range"),
        entry("run_started", 1),
        entry("step_started", 2, "checks"),
        entry("step_failed", 4, "checks", failure=Failure("ValueError", "Worse.")),
    )
    assert (
        only(found, "pump/telemetry/checks", "FAIL")["run"]["facets"]["errorMessage"]["message"] == "ValueError: Worse."
    )


def test_placement_crossings_and_answer_are_those_of_the_work() -> None:
    tags = {"hybrid/fleet": "pump/north", "hybrid/serves": "blocked", "hybrid/in_place_of": "c" * 8}
    answer = {"epoch": 4, "served_by": {"rules": 2}, "fallback_reasons": {"blocked": 2}, "degraded": 2, "holds": True}
    found = events(
        entry("planned", 0, "score", PROGNOSES, partition=WINDOW),
        entry("run_started", 1),
        entry("step_started", 10, "score"),
        entry("materialized", 20, "score", PROGNOSES, partition=WINDOW, metadata={"answer": answer}),
        tags=tags,
    )
    facets = only(found, PROGNOSES, "COMPLETE")["run"]["facets"]
    assert facets["hybrid_placement"]["target"] == "server"
    assert facets["hybrid_placement"]["failedTries"] == [{"target": "box", "location": "edge", "why": "it fell over"}]
    assert [c["digest"][7] for c in facets["hybrid_crossings"]["crossings"]] == ["0"]
    assert facets["hybrid_answer"]["servedBy"] == {"rules": 2}
    assert facets["hybrid_answer"]["because"] == "blocked"
    assert facets["hybrid_answer"]["insteadOf"] == "c" * 8


def test_a_model_is_a_data_set_with_a_version() -> None:
    manifest = {"version": 3, "model": ["extra_trees"], "training_run": "t", "metrics": {"rmse": 2.5}}
    found = events(
        entry("planned", 0, "release", "pump/model_release", partition="north"),
        entry("run_started", 1),
        entry("step_started", 2, "release"),
        entry(
            "materialized",
            3,
            "release",
            "pump/model_release",
            partition="north",
            metadata={"manifest": manifest, "writes": {"/stores/on_prem/pump/registry/north": 3}},
        ),
    )
    (model,) = only(found, "pump/model_release", "COMPLETE")["outputs"]
    assert model["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert model["facets"]["version"]["datasetVersion"] == "3"
    assert model["facets"]["hybrid_model"]["trainingRun"] == "t"


def test_times_are_utc_with_microseconds() -> None:
    assert events(entry("run_started", 1.25))[0]["eventTime"] == "2025-03-01T12:00:01.250000Z"


def test_an_end_lies_never_before_its_start() -> None:
    found = events(*scored(entry("step_started", 9, "score"), entry("step_succeeded", 2, "score")))
    assert only(found, PROGNOSES, "COMPLETE")["eventTime"] == only(found, PROGNOSES, "START")["eventTime"]
    assert at(9).isoformat()[:19] == only(found, PROGNOSES, "START")["eventTime"][:19]


# ---- secrets
def test_no_secret_is_in_any_event() -> None:
    leaky = "connect to postgres://plant:hunter2-and-more@db failed; token=abcdef123456"
    settings = {"ops": {"x": {"config": {"password": "p4ss", "note": "tell-nobody-1"}}}}
    found = events(
        *scored(
            entry("step_started", 2, "score"),
            entry("step_failed", 3, "score", failure=Failure("Broken", leaky, leaky)),
            entry("observed", 4, None, "pump/telemetry", metadata={"api_key": "k3y-in-metadata", "note": leaky}),
            entry("step_started", 4, "checks"),
            entry(
                "checked",
                4,
                "checks",
                "pump/telemetry",
                metadata={"observed": leaky},
                verdict=Verdict("in_range", passed=False, severity="error", description=leaky),
            ),
            entry(
                "checked",
                4,
                "checks",
                "pump/telemetry",
                verdict=Verdict("unique", passed=False, severity="error", description=leaky),
            ),
            entry("environment", 4, metadata={"HYBRID_API_TOKEN": "k", "HYBRID_TARGET": "https://hunter2@h"}),
            entry("step_succeeded", 4, "checks"),
            entry("run_failed", 5),
        ),
        tags={"hybrid/fleet": "pump/north", "note": "tell-nobody-1"},
        settings=settings,
    )
    text = b"\n".join(canonical(e) for e in found).decode()
    for secret in ("hunter2", "abcdef123456", "p4ss", "tell-nobody-1", "k3y-in-metadata"):
        assert secret not in text
    (variables,) = told_variables(found)
    assert {"name": "HYBRID_API_TOKEN", "value": "***"} in variables
    assert {"name": "HYBRID_TARGET", "value": "https://***@h"} in variables


def told_variables(found: list[dict[str, Any]]) -> list[list[dict[str, str]]]:
    facet = "environmentVariables"
    return [e["run"]["facets"][facet][facet] for e in found if facet in e["run"]["facets"]]


def test_variables_are_those_that_the_processes_of_a_run_said_they_had() -> None:
    said = [{"HYBRID_A": "1", "HYBRID_B": "2", "odd": 3}, {"HYBRID_B": "3"}]
    one, other = (entry("environment", 2 + n, metadata=metadata) for n, metadata in enumerate(said))
    found = events(entry("run_started", 1), one, other, entry("run_succeeded", 4))
    assert told_variables(found) == [[{"name": "HYBRID_A", "value": "1"}, {"name": "HYBRID_B", "value": "3"}]]
    assert found[-1]["eventType"] == "COMPLETE"


def test_a_run_that_did_not_say_has_no_variables() -> None:
    assert told_variables(events(entry("run_started", 1), entry("run_succeeded", 2))) == []
