"""From an advisory back to the readings, and from readings forwards: as events tell it, whatever the storage."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from backbone.errors import ConfigurationError, UnknownName
from resources.lineage.impact import Impact, impact
from resources.lineage.impact import lines as impact_lines
from resources.lineage.index import LineageIndex
from resources.lineage.relay import READ
from resources.lineage.trace import Trace, beside_records, lines, parse, trace
from resources.state.answers import Answer, Answers
from resources.state.database import Database
from resources.state.outbox import Outbox
from tests.resources.lineage.plants import FEATURES, ToldPlant, by_run, day

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def index(database: Database) -> LineageIndex:
    return LineageIndex(database)


@pytest.fixture
def plant() -> ToldPlant:
    """Ten days of telemetry, scored, trained on, scored again; then one more day."""
    told = ToldPlant("north")
    told.ingest(*range(10))
    told.score(*range(10))
    told.train()
    told.check("telemetry", *range(10))
    told.ingest(10)
    told.check("telemetry", 10, passed=False)
    told.score(10)
    return told


def _keep(database: Database, *plants: ToldPlant) -> LineageIndex:
    index = LineageIndex(database)
    outbox = Outbox(database, index)
    for plant in plants:
        for run, events in by_run(plant.events):
            outbox.add(run, events, now=NOW)
    return index


def _assets(found: Trace, of: str) -> list[tuple[str, str | None]]:
    """What the step of an asset read: (asset, day), those a step is known to have written."""
    readers = {run_id for run_id, made in found.made.items() if made.step.asset == of}
    return sorted({(link.asset, link.day) for link in found.links if link.reader in readers}, key=str)


def test_a_trace_goes_back_to_the_source(database: Database, plant: ToldPlant) -> None:
    found = trace(_keep(database, plant), f"north/pump/pump-03/{day(10)}")
    assert found.advisory.facts["servedBy"] == "model:v1"
    assert _assets(found, "pump/advisories") == [("pump/prognoses", day(10)), ("pump/rule_assessments", day(10))]
    assert _assets(found, "pump/prognoses") == [("pump/condition_features", day(10)), ("pump/model_release", None)]
    assert ("pump/trained_model", None) in _assets(found, "pump/model_release")
    assert _assets(found, "pump/training_set") == [("pump/condition_features", day(n)) for n in range(10)]
    assert [a for a in _assets(found, "pump/telemetry") if a[1] == day(10)] == [("pump/landing/telemetry", day(10))]
    assert found.sources == ("mqtt://broker:1883 plant/#",)
    landed = [link for link in found.links if link.asset == "pump/landing/telemetry" and link.day == day(10)]
    assert landed[0].facts["hybrid_offsets"]["batches"] == [{"batch": "batch-10", "first": 0, "last": 95, "rows": 96}]


def test_a_trace_says_where_and_what_was_checked(database: Database, plant: ToldPlant) -> None:
    found = trace(_keep(database, plant), f"north/pump/pump-03/{day(10)}")
    steps = {(m.step.asset, m.step.day): m for m in found.made.values()}
    told = {s["asset"]: s for s in found.to_dict()["steps"] if s["day"] in (day(10), None)}
    assert told["pump/trained_model"]["placement"]["location"] == "cloud"
    assert told["pump/trained_model"]["crossings"][0]["bytes"] == 1234
    assert told["pump/model_release"]["outputs"][0]["hybrid_model"]["release"] == 1
    assert [c["success"] for c in steps["pump/telemetry", day(10)].checks] == [True, False]
    assert [c["success"] for c in steps["pump/telemetry", day(3)].checks] == [True, True]
    text = "\n".join(lines(found))
    assert "ran at cloud on worker" in text
    assert "crossed on_prem → cloud: pump/training_set, 1,234 bytes" in text
    assert "✗ stuck_sensors (error)" in text
    assert f"of {day(0)}..{day(9)} (10 windows)" in text
    assert "← mqtt://broker:1883 plant/#" in text


def test_a_trace_follows_the_version_that_was_read_not_the_newest(database: Database) -> None:
    plant = ToldPlant("north")
    first = plant.ingest(0)
    plant.score(0)
    second = plant.ingest(0)
    plant.score(0)
    index = _keep(database, plant)

    def telemetry_runs(advisory: str) -> set[str]:
        return {m.step.source for m in trace(index, advisory).made.values() if m.step.asset == "pump/telemetry"}

    assert telemetry_runs(f"north/pump/pump-01/{day(0)}/e1") == {first}
    assert telemetry_runs(f"north/pump/pump-01/{day(0)}/e2") == {second}


def test_of_several_answers_the_last_holds_and_each_can_be_asked_for(database: Database) -> None:
    plant = ToldPlant("north")
    plant.ingest(0, 1)
    plant.score(0, 1)
    plant.train()
    plant.score(0, instead="blocked")
    index = _keep(database, plant)
    held = trace(index, f"north/pump/pump-01/{day(0)}")
    assert (held.advisory.epoch, held.advisory.facts["fallbackReason"]) == (2, "blocked")
    assert "supersedes north/pump/pump-01/2025-01-01/e1" in "\n".join(lines(held))
    # The rules stood in for the run, from what there was: no model was asked.
    assert "model_release" not in " ".join(m.step.asset for m in held.made.values())
    before = trace(index, f"north/pump/pump-01/{day(0)}/e1")
    assert "superseded by north/pump/pump-01/2025-01-01/e2" in "\n".join(lines(before))


def test_of_a_day_that_a_check_forbade_the_head_names_the_check(database: Database, plant: ToldPlant) -> None:
    plant.score(10, instead="blocked")
    found = trace(_keep(database, plant), f"north/pump/pump-01/{day(10)}")
    head = lines(found)[0]
    assert "says rules because blocked: stuck_sensors of pump/telemetry" in head
    assert [(c["asset"], c["name"]) for c in found.to_dict()["forbidden_by"]] == [("pump/telemetry", "stuck_sensors")]
    text = "\n".join(lines(found))
    assert "in place of the model's answer, which a check forbade" in text
    assert "a run that gave none" not in text
    # What failed on a day that the model answered all the same forbade nothing.
    answered = trace(LineageIndex(database), f"north/pump/pump-01/{day(10)}/e2")
    assert answered.forbidden_by == ()
    assert "stuck_sensors" not in lines(answered)[0]


def test_what_forbade_an_answer_stays_told_when_the_window_is_mended(database: Database, plant: ToldPlant) -> None:
    plant.score(10, instead="blocked")
    plant.ingest(10)
    plant.score(10, instead="blocked")  # mended, and not judged again so far
    plant.check("telemetry", 10, passed=True)
    plant.score(10)
    index, advisory = _keep(database, plant), f"north/pump/pump-01/{day(10)}"

    def verdicts(epoch: int) -> list[bool]:
        made = trace(index, f"{advisory}/e{epoch}").made.values()
        (telemetry,) = (m for m in made if (m.step.asset, m.step.day) == ("pump/telemetry", day(10)))
        return [check["success"] for check in telemetry.checks]

    # Who stands in asks no model, and has features of what was there before; the last answer is made from the mended.
    for epoch, forbidden, found in ((2, 0, [True, False]), (3, 1, [True, False]), (4, 1, [True, False]),
                                    (5, 0, [True, True])):  # fmt: skip
        told = trace(index, f"{advisory}/e{epoch}")
        assert [c["name"] for c in told.forbidden_by] == ["stuck_sensors"] * forbidden, epoch
        assert verdicts(epoch) == found, epoch


def test_the_head_has_the_numbers_of_the_check_and_what_was_said_before(database: Database, plant: ToldPlant) -> None:
    plant.check("telemetry", 10, passed=False, actual="9 of 16 fail", expected="No sensor is stuck.",
                params={"failing": 9, "longest run of pump-01": 12, "site": "north"})  # fmt: skip
    plant.score(10, instead="blocked")
    head = lines(trace(_keep(database, plant), f"north/pump/pump-01/{day(10)}"))[:4]
    assert head[1:] == [
        "  stuck_sensors failed: 9 of 16 fail; pump-01: longest run 12",
        "    it asks: No sensor is stuck.",
        f"  supersedes north/pump/pump-01/{day(10)}/e2: advisory (says model:v1)",
    ]


def test_the_readings_of_an_answer_are_those_that_were_read(database: Database) -> None:
    plant = ToldPlant("north")
    first = plant.ingest(0)
    plant.refuse(0, run=first)
    plant.score(0)
    second = plant.ingest(0)
    plant.refuse(0, run=second)
    plant.score(0)
    index = _keep(database, plant)
    for epoch, run in ((1, first), (2, second)):
        stored = trace(index, f"north/pump/pump-01/{day(0)}/e{epoch}").readings
        assert stored is not None
        assert (stored.asset, stored.version, stored.quarantine_version, stored.run) == (
            "pump/telemetry", epoch - 1, epoch - 1, run)  # fmt: skip


def test_every_step_says_where_it_was_made(database: Database, plant: ToldPlant) -> None:
    found = trace(_keep(database, plant), f"north/pump/pump-03/{day(10)}").to_dict()
    at = {step["asset"]: step["location"] for step in found["steps"]}
    assert at["pump/trained_model"] == "cloud"
    assert at["pump/prognoses"] == "hall"
    assert at["pump/telemetry"] == at["pump/advisories"] == "on_prem"


def test_where_a_run_gave_no_answer_the_trace_says_so(database: Database) -> None:
    plant = ToldPlant("north")
    plant.ingest(0)
    plant.score(0, instead="error")
    text = "\n".join(lines(trace(_keep(database, plant), f"north/pump/pump-01/{day(0)}")))
    assert "in place of a run that gave none: error" in text


@pytest.mark.parametrize(
    ("facts", "head"),
    [
        ({"severity": "ok", "action": "None."}, "ok, nothing to do (says rules)"),
        ({"severity": "ok"}, "ok (says rules)"),
        ({}, "advisory (says rules)"),
        ({"severity": "plan", "action": "Plan work; look at flow."}, "plan, plan work; look at flow (says rules)"),
    ],
)
def test_the_head_is_a_sentence(database: Database, facts: dict[str, str], head: str) -> None:
    plant = ToldPlant("north")
    plant.ingest(0)
    plant.score(0)
    found = trace(_keep(database, plant), f"north/pump/pump-01/{day(0)}")
    told = replace(found.advisory, facts={**facts, "servedBy": "rules"})
    assert lines(replace(found, advisory=told))[0] == f"{told.id}: {head}"


def test_what_the_plant_recorded_later_than_events_were_read_is_told(database: Database) -> None:
    plant = ToldPlant("north")
    plant.ingest(0)
    plant.score(0)
    plant.score(0)
    index, advisory = _keep(database, plant), f"north/pump/pump-01/{day(0)}"

    def told() -> tuple[dict, str]:
        found = beside_records(trace(index, advisory), database)
        return found.to_dict(), "\n".join(lines(found))

    assert told()[0]["read_until"] is None
    Outbox(database, index).set_mark(f"{READ}/a-history", NOW.timestamp())
    answers = Answers(database, "north", "pump")
    for epoch, later in ((1, None), (2, None), (3, {"epoch": 3, "answered_at": "2026-01-01T00:00:00Z",
                                                    "served_by": {"rules": 3}})):  # fmt: skip
        on = date.fromisoformat(day(0))
        answers.record({on: Answer(on, epoch, 3, {"rules": 3}, 3, 0, {"blocked": 3}, NOW)})
        document, text = told()
        assert (document["read_until"], document["recorded_later"]) == ("2026-01-01T00:00:00Z", later)
        assert "events read up to 2026-01-01T00:00:00Z" in text
        assert ("e3 of 2026-01-01T00:00:00Z (rules 3) holds in place of this" in text) == (later is not None)


def test_an_attempt_that_failed_is_not_taken_for_what_wrote_it(database: Database) -> None:
    plant = ToldPlant("north")
    good = plant.ingest(0)
    plant.fail("telemetry", 0)
    plant.score(0)
    found = trace(_keep(database, plant), f"north/pump/pump-01/{day(0)}")
    assert {m.step.source for m in found.made.values() if m.step.asset == "pump/telemetry"} == {good}


def test_plants_in_one_table_are_not_mixed(database: Database, plant: ToldPlant) -> None:
    other = ToldPlant("south", machines=("pump-01", "pump-77"))
    other.ingest(0)
    other.score(0)
    index = _keep(database, plant, other)
    found = trace(index, f"south/pump/pump-77/{day(0)}")
    assert {m.step.site for m in found.made.values()} == {"south"}


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("north/pump/pump-03/2025-01-15", "north/pump/pump-03/2025-01-11"),
        ("north/pump/pump-3/2025-01-11", "north/pump/pump-03/2025-01-11"),
        ("nrth/pump/pump-02/2025-01-11", "north/pump/pump-02/2025-01-11"),
        ("pump-03", "north/pump/pump-03/2025-01-11"),
        ("north/pump/pump-03/2025-01-11/e99", "north/pump/pump-03/2025-01-11/e2"),
        ("north/pump/pump-03/2025-01-11/x", "north/pump/"),
        ("", "north/pump/"),
        ("WO-4711", "north/pump/"),
        ("north/pump/pump-03/yesterday", "north/pump/pump-03/2025-01-11"),
    ],
)
def test_an_unknown_id_is_told_with_near_ones_and_what_one_looks_like(
    database: Database, plant: ToldPlant, text: str, near: str
) -> None:
    with pytest.raises(UnknownName, match="SITE/CLASS/EQUIPMENT/DAY") as caught:
        trace(_keep(database, plant), text)
    assert near in str(caught.value)


def test_without_any_event_an_id_is_unknown(index: LineageIndex) -> None:
    with pytest.raises(UnknownName, match="known: none"):
        trace(index, "north/pump/pump-01/2025-01-01")


def test_ids() -> None:
    assert parse("north/pump/pump-01/2025-01-01/e7") == ("north", "pump", "pump-01", "2025-01-01", 7)
    assert parse("north/pump/pump-01/2025-01-01") == ("north", "pump", "pump-01", "2025-01-01", None)
    assert parse("north/pump/pump-01") is None


# ---- forwards


def _impact(
    index: LineageIndex, first: int, last: int, equipment: str = "pump-03", sensor: str = "vibration"
) -> Impact:
    return impact(index, equipment, sensor, date.fromisoformat(day(first)), date.fromisoformat(day(last)), "north")


def test_a_bad_sensor_touches_its_columns_windows_models_and_advisories(database: Database, plant: ToldPlant) -> None:
    found = _impact(_keep(database, plant), 8, 10)
    assert list(found.columns["pump/condition_features"]) == [c for c in FEATURES if c.startswith("vibration")]
    assert found.columns["pump/advisories"] == {"action": "INDIRECT"}
    assert found.windows["pump/condition_features"] == [day(8), day(9), day(10)]
    assert [(m.release, m.windows) for m in found.models] == [(1, 2)]
    own = {a.told.day: (a.open, a.through) for a in found.advisories if a.told.equipment == "pump-03"}
    assert own == {
        day(8): (False, ("readings",)),
        day(9): (False, ("readings",)),
        day(10): (True, ("readings", "fitted")),
    }
    others = {a.told.id: a.through for a in found.advisories if a.told.equipment != "pump-03"}
    assert others == {f"north/pump/{m}/{day(10)}/e2": ("fitted",) for m in ("pump-01", "pump-02")}
    text = "\n".join(impact_lines(found))
    assert "release v1: 2 touched windows in its training set" in text
    assert "open advisories: 3" in text


def test_later_windows_rest_on_state_that_is_carried(database: Database, plant: ToldPlant) -> None:
    index = _keep(database, plant)
    days = date.fromisoformat(day(7)), date.fromisoformat(day(8))
    found = impact(index, "pump-03", "vibration", *days, None, carries=("condition_features",))
    assert found.windows["pump/condition_features"] == [day(7), day(8)]
    assert found.carried["pump/condition_features"] == found.carried["pump/advisories"] == [day(9), day(10)]
    assert [m.windows for m in found.models] == [2]
    own = {a.told.day: a.through for a in found.advisories if a.told.equipment == "pump-03"}
    assert own[day(9)] == ("carried",)
    assert own[day(10)] == ("carried", "fitted")


def test_what_was_trained_before_is_not_touched(database: Database, plant: ToldPlant) -> None:
    found = _impact(_keep(database, plant), 10, 10)
    assert found.models == ()
    assert found.windows["pump/condition_features"] == [day(10)]
    assert [a.told.id for a in found.advisories] == [f"north/pump/pump-03/{day(10)}/e2"]


def test_a_window_that_a_check_kept_from_training_touches_no_model(database: Database) -> None:
    plant = ToldPlant("north")
    plant.ingest(0, 1)
    plant.score(0, 1)
    plant.check("telemetry", 1, passed=False)
    plant.train()
    assert _impact(_keep(database, plant), 1, 1).models == ()
    plant.check("telemetry", 1, passed=True)
    plant.train()
    assert [(m.release, m.windows) for m in _impact(_keep(database, plant), 0, 1).models] == [(2, 2), (1, 1)]


def test_a_later_release_without_the_bad_window_is_not_touched(database: Database) -> None:
    plant = ToldPlant("north")
    plant.ingest(0)
    plant.score(0)
    plant.train()
    plant.check("telemetry", 0, passed=False)
    plant.ingest(1)
    plant.train()
    plant.score(1)
    found = _impact(_keep(database, plant), 0, 0)
    assert [m.release for m in found.models] == [1]
    assert {a.told.day for a in found.advisories} == {day(0)}, "v2 answered for the day after"


def test_a_machine_that_was_silent_touches_nothing(database: Database) -> None:
    plant = ToldPlant("north")
    plant.ingest(0, 1)
    plant.score(0)
    plant.machines = ("pump-01", "pump-02")
    plant.score(1)
    plant.machines = ("pump-01", "pump-02", "pump-03")
    plant.score(1, instead="blocked")  # who stands in answers for the silent, too
    index = _keep(database, plant)
    assert (_impact(index, 1, 1).windows, _impact(index, 1, 1).advisories) == ({}, ())
    assert _impact(index, 0, 1).windows["pump/telemetry"] == [day(0)]
    assert _impact(index, 0, 1, equipment="pump-01").windows["pump/telemetry"] == [day(0), day(1)]


def test_a_window_nobody_has_an_answer_for_may_hold_readings(database: Database, plant: ToldPlant) -> None:
    plant.ingest(11)
    assert _impact(_keep(database, plant), 11, 11).windows == {"pump/telemetry": [day(11)]}


def test_a_safe_default_rests_on_nothing_that_was_fitted(database: Database, plant: ToldPlant) -> None:
    index = _keep(database, plant)
    days = date.fromisoformat(day(8)), date.fromisoformat(day(8))
    found = impact(index, "pump-03", "vibration", *days, "north", constant=("model:v1",))
    assert [a.told.day for a in found.advisories if a.told.equipment == "pump-03"] == [day(8)]


def test_later_windows_made_before_the_bad_one_came_carry_nothing(database: Database) -> None:
    plant = ToldPlant("north")
    plant.ingest(1)
    plant.score(1)
    plant.ingest(0)
    plant.score(0)
    plant.ingest(2)
    plant.score(2)
    first = date.fromisoformat(day(0))
    found = impact(_keep(database, plant), "pump-03", "vibration", first, first, None, carries=("condition_features",))
    assert found.carried["pump/condition_features"] == [day(2)]


def test_a_column_that_nothing_is_made_from_touches_nothing(database: Database, plant: ToldPlant) -> None:
    found = _impact(_keep(database, plant), 8, 10, sensor="note")
    assert (found.columns, found.windows, found.models, found.advisories) == ({}, {}, (), ())


def test_assets_whose_columns_are_not_made_from_it_are_not_touched(database: Database) -> None:
    plant = ToldPlant("north")
    plant.ingest(0)
    plant.score(0)
    found = _impact(_keep(database, plant), 0, 0, sensor="tag")
    # Of the assessments no columns are told: they may rest on any.
    assert found.windows.keys() == {"pump/telemetry", "pump/condition_features", "pump/rule_assessments"}
    assert found.advisories == ()


def test_days_without_readings_touch_nothing(database: Database, plant: ToldPlant) -> None:
    found = _impact(_keep(database, plant), 50, 60)
    assert (found.windows, found.models, found.advisories) == ({}, (), ())
    assert "none: events tell of no reading of it on these days" in "\n".join(impact_lines(found))


def test_an_unknown_machine_or_sensor_is_told_with_near_ones(database: Database, plant: ToldPlant) -> None:
    index = _keep(database, plant, ToldPlant("south"))
    with pytest.raises(UnknownName, match=r"equipment at north named 'pump-30'; known: .*pump-03"):
        _impact(index, 0, 1, equipment="pump-30")
    with pytest.raises(UnknownName, match=r"column of pump/telemetry named 'vibratoin'; known: .*vibration"):
        _impact(index, 0, 1, sensor="vibratoin")
    with pytest.raises(ConfigurationError, match="lies before"):
        _impact(index, 1, 0)


def test_a_machine_at_two_plants_needs_a_site(database: Database, plant: ToldPlant) -> None:
    other = ToldPlant("south")
    other.ingest(0)
    other.score(0)
    index = _keep(database, plant, other)
    with pytest.raises(ConfigurationError, match=r"at more than one place: north \(pump\), south \(pump\)"):
        impact(index, "pump-03", "flow", date(2025, 1, 1), date(2025, 1, 1), None)
