"""What the quality sensor asks for: the newest windows first, each content once, again where a run died."""

from collections.abc import Callable, Collection, Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from backbone.windows import WindowRange
from resources.bindings.partitions import HISTORY, RANGE_END, RANGE_START, WRITES
from resources.home import Home
from resources.state.verdicts import Verdict
from resources.stores.fingerprints import fingerprint, fingerprints
from sensors.quality import unjudged
from tests.scenarios.installation import Installation
from tests.scenarios.played_daemon import PlayedDaemon, played_daemon

LAST = date(2025, 3, 1)
FIRST, OLDER = date(2025, 1, 1), date(2025, 2, 1)
PRODUCTS = [
    "telemetry", "telemetry_quarantine", "maintenance_history", "condition_features", "prognoses", "rule_assessments",
    "advisories", "maintenance_plan",
]  # fmt: skip


@pytest.fixture
def daemon(copied: Callable[[], Installation]) -> Iterator[PlayedDaemon]:
    with played_daemon(copied().home) as daemon:
        yield daemon


@pytest.fixture
def judged(daemon: PlayedDaemon, judging: Callable[[Home], None]) -> PlayedDaemon:
    """Where what was asked for is executed."""
    judging(Home(Path(daemon.plants.home)))
    return daemon


def judged_by_hand(daemon: PlayedDaemon, *, but_for: Collection[tuple[str, date]] = ()) -> None:
    """Verdicts on all that is stored, as if it had been judged."""
    plant = daemon.plant()
    now = plant.clock.now()
    whole = fingerprint(plant.table("pump", "training_set"), "north")
    first = plant.site.first_day
    if ("training_set", first) not in but_for:
        plant.verdicts("pump").record([Verdict("training_set", first, str(whole), "passed", {}, "by hand", now)])
    plant.verdicts("pump").record(
        [
            Verdict(product, day, content, "passed", {}, "by hand", now)
            for product in PRODUCTS
            for day, content in fingerprints(plant.table("pump", product), "north").items()
            if (product, day) not in but_for
        ]
    )


def test_the_newest_windows_come_first_and_the_history_after_them_in_pieces(daemon: PlayedDaemon) -> None:
    (request,) = daemon.tick("pump_quality")
    assert request.job_name == "pump_quality"
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("2025-02-23|north", "2025-03-01|north")
    assert HISTORY not in request.tags
    asked = {(key.asset_key.path[-1], key.name) for key in request.asset_check_keys or []}
    assert {product for product, _ in asked} == {*PRODUCTS, "training_set"}
    assert {("telemetry", "completeness"), ("prognoses", "sane"), ("condition_features", "drift")} <= asked
    assert "hybrid/step" not in request.tags, "it is no step that should have answered"
    assert daemon.tick("pump_quality") == [], "the same is asked for once"
    judged_by_hand(daemon, but_for={("telemetry", FIRST + timedelta(days=n)) for n in range(40)})
    (older,) = daemon.tick("pump_quality")
    assert (older.tags[RANGE_START], older.tags[RANGE_END]) == ("2025-01-10|north", "2025-02-09|north")
    assert older.tags[HISTORY] == "yes"
    assert int(older.tags["dagster/priority"]) < 0


def unfinished(daemon: PlayedDaemon, request: dg.RunRequest) -> str:
    """A run of what was asked for that is under way."""
    run = dg.DagsterRun(str(request.job_name), status=dg.DagsterRunStatus.STARTED, tags=dict(request.tags))
    return daemon.instance.add_run(run).run_id


def test_what_lands_while_older_windows_are_judged_does_not_wait_for_them(daemon: PlayedDaemon) -> None:
    judged_by_hand(daemon, but_for={("telemetry", OLDER), ("telemetry", FIRST)})
    (older,) = daemon.tick("pump_quality")
    assert older.tags[RANGE_END] == f"{OLDER}|north"
    unfinished(daemon, older)
    assert daemon.tick("pump_quality") == [], "one run of older windows at a time"
    cut(daemon, LAST)
    (newest,) = daemon.tick("pump_quality")
    assert newest.tags[RANGE_START] == newest.tags[RANGE_END] == f"{LAST}|north"
    unfinished(daemon, newest)
    cut(daemon, LAST)
    assert daemon.tick("pump_quality") == [], "the same window once at a time"


def test_telemetry_is_judged_while_it_is_answered_and_the_answers_when_all_are_there(daemon: PlayedDaemon) -> None:
    judged_by_hand(daemon, but_for={("advisories", LAST), ("telemetry", OLDER)})
    serving = dg.DagsterRun("pump_serve", status=dg.DagsterRunStatus.STARTED, tags={WRITES: "pump/north"})
    daemon.instance.add_run(serving)
    assert daemon.tick("pump_quality") == []
    cut(daemon, LAST)
    (request,) = daemon.tick("pump_quality")
    assert {key.asset_key.path[-1] for key in request.asset_check_keys or []} == {"advisories", "telemetry"}
    daemon.instance.delete_run(serving.run_id)
    judged_by_hand(daemon, but_for={("advisories", LAST)})
    (request,) = daemon.tick("pump_quality")
    assert {key.asset_key.path[-1] for key in request.asset_check_keys or []} == {"advisories"}


def test_only_what_was_written_since_is_judged(daemon: PlayedDaemon) -> None:
    judged_by_hand(daemon, but_for={("advisories", LAST)})
    assert unjudged(daemon.plant(), "pump", PRODUCTS) == {LAST: ["advisories"]}
    (request,) = daemon.tick("pump_quality")
    assert request.tags[RANGE_START] == request.tags[RANGE_END] == "2025-03-01|north"
    assert {key.asset_key.path[-1] for key in request.asset_check_keys or []} == {"advisories"}


def test_where_nothing_is_due_nothing_is_read_the_next_time(
    daemon: PlayedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by_hand(daemon)
    assert daemon.tick("pump_quality") == []

    def never(*_: object) -> None:
        raise AssertionError("the tables are as they were")

    monkeypatch.setattr("sensors.quality.unjudged", never)
    assert daemon.tick("pump_quality") == []


def test_a_run_that_died_is_made_again_after_a_while(judged: PlayedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_by_hand(judged, but_for={("advisories", LAST)})
    (request,) = judged.tick("pump_quality")
    with monkeypatch.context() as broken:
        broken.setattr("quality.evaluations.judge", lambda *_, **__: 1 / 0)
        assert not judged.execute(request).success
    assert judged.tick("pump_quality") == [], "not at once"
    judged.wait(minutes=2)
    (again,) = judged.tick("pump_quality")
    assert again.run_key != request.run_key
    result = judged.execute(again)
    assert result.success
    held = judged.plant().verdicts("pump").all()["advisories", LAST]
    assert (held.run_id, held.standing) == (result.run_id, "passed")
    assert judged.tick("pump_quality") == []


def cut(daemon: PlayedDaemon, day: date) -> None:
    """Half of the machines are not heard that day."""
    table = daemon.plant().table("pump", "telemetry")
    rows = table.read("north", day, day)
    machines = sorted(set(rows["equipment_id"].to_pylist()))
    heard = pc.is_in(rows["equipment_id"], value_set=pa.array(machines[: len(machines) // 2]))
    table.replace(WindowRange("north", day, day), rows.filter(heard), run_id="cut")


def headline(daemon: PlayedDaemon) -> str | None:
    """The window whose completeness the UI shows as that of the telemetry."""
    key = dg.AssetCheckKey(dg.AssetKey(["pump", "telemetry"]), "completeness")
    record = daemon.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert record.event is not None
    return record.event.get_dagster_event().asset_check_evaluation_data.partition


def test_every_window_is_evaluated_and_the_newest_stays_the_headline_while_older_ones_are(judged: PlayedDaemon) -> None:
    cut(judged, OLDER)
    judged_by_hand(judged, but_for={("telemetry", OLDER - timedelta(days=n)) for n in range(3)} | {("telemetry", LAST)})
    (newest,) = judged.tick("pump_quality")
    assert judged.execute(newest).success
    assert headline(judged) == f"{LAST}|north"
    (older,) = judged.tick("pump_quality")
    result = judged.execute(older)
    assert result.success
    evaluated = [
        event.asset_check_evaluation_data
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    mine = {e.partition: e.passed for e in evaluated if e.check_name == "completeness"}
    assert list(mine) == [f"{day}|north" for day in (*(OLDER - timedelta(days=n) for n in (2, 1, 0)), LAST)]
    assert not mine[f"{OLDER}|north"]
    assert headline(judged) == f"{LAST}|north"
    assert judged.plant().verdicts("pump").all()["telemetry", OLDER].standing == "blocked"
    assert unjudged(judged.plant(), "pump", PRODUCTS) == {}


def test_some_checks_of_a_product_are_no_verdict_on_it(judged: PlayedDaemon) -> None:
    judged_by_hand(judged, but_for={("advisories", LAST)})
    (request,) = judged.tick("pump_quality")
    schema = [key for key in request.asset_check_keys or [] if key.name == "schema"]
    result = judged.execute(request._replace(asset_check_keys=schema))
    assert result.success
    evaluated = [
        event.asset_check_evaluation_data
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    assert [(e.check_name, e.partition, e.passed) for e in evaluated] == [("schema", "2025-03-01|north", True)]
    assert ("advisories", LAST) not in judged.plant().verdicts("pump").all()


def test_the_training_set_is_judged_as_a_whole(judged: PlayedDaemon) -> None:
    judged_by_hand(judged, but_for={("training_set", judged.plant().site.first_day)})
    (request,) = judged.tick("pump_quality")
    assert {key.asset_key.path[-1] for key in request.asset_check_keys or []} == {"training_set"}
    result = judged.execute(request)
    assert result.success
    found = {
        event.asset_check_evaluation_data.check_name: event.asset_check_evaluation_data
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    }
    rows = judged.plant().table("pump", "training_set").read("north").num_rows
    assert {name: (e.passed, e.metadata["rows"].value) for name, e in found.items()} == dict.fromkeys(
        ("schema", "not_null", "in_range", "unique"), (True, rows)
    )
    assert judged.tick("pump_quality") == []
