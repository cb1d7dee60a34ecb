"""A day of telemetry that checks refuse: what is sent, what a plant makes of it, and how it is caught otherwise."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbone.sites import Site
from backbone.sources import Batch
from chaos.rehearsal import Outcome, rehearse
from chaos.scenario import SHIPPED, FaultKind, PlannedFault, Scenario, read_scenario
from chaos.stage import EQUIPMENT_CLASS, FIRST_DAY, HISTORY_DAYS, Stage
from resources.home import Home
from resources.lineage.transports import NdjsonFile
from tests.openlineage_validator import assert_valid

DAY = FIRST_DAY + timedelta(days=HISTORY_DAYS)


def sent(home: Path, site: Site, kind: FaultKind) -> tuple[list[Batch], list[Batch]]:
    """What arrives of the day of a fault of thirty hours, and what comes when it has ended."""
    stage = Stage(Home(home), site, Scenario("bad", "", 2, 1, (PlannedFault(kind, 0, time(0), minutes=1800),)))
    source, start = stage.plant().source(EQUIPMENT_CLASS), stage.clock.start
    spoilt = [b for b in source.batches(start.isoformat(), start + timedelta(days=1)) if isinstance(b, Batch)]
    for batch in spoilt:
        source.taken_up(batch)
    stage.clock.wait_until(1800 * 60)
    position = spoilt[-1].position
    later = [b for b in source.batches(position, start + timedelta(days=1)) if isinstance(b, Batch)]
    assert {b.position for b in later} == {position}, "what comes again moves nothing on"
    for batch in later:
        source.taken_up(batch)
    assert not [b for b in source.batches(position, start + timedelta(days=1)) if b.txn in {x.txn for x in later}]
    return [b for b in spoilt if b.stream == "telemetry"], later


def machines(batches: list[Batch]) -> set[str]:
    return {machine for batch in batches for machine in batch.rows["equipment_id"].to_pylist()}


def test_half_of_the_machines_are_silent_and_heard_later(tmp_path: Path, site: Site) -> None:
    spoilt, later = sent(tmp_path, site, "telemetry_missing")
    assert len(machines(spoilt)) == len(machines(later)) // 2 == 4
    assert not {b.txn for b in spoilt} & {b.txn for b in later}


def test_stuck_values_come_at_other_times_than_true_ones(tmp_path: Path, site: Site) -> None:
    spoilt, later = sent(tmp_path, site, "telemetry_stuck")
    one = sorted(machines(spoilt))[0]
    rows = [r for b in spoilt for r in b.rows.to_pylist() if r["equipment_id"] == one]
    assert len(rows) > 8
    assert len({r["vibration_mm_s"] for r in rows}) == 1
    true = [r for b in later for r in b.rows.to_pylist() if r["equipment_id"] == one]
    assert len({r["vibration_mm_s"] for r in true}) > 1
    assert not {r["ts"] for r in rows} & {r["ts"] for r in true}, "else the first of them would be kept for ever"


def bad_day(home: Path, site: Site, **how: Any) -> Outcome:
    return rehearse(home, site, read_scenario(SHIPPED / "bad_telemetry.toml", site), **how)


@pytest.mark.slow
def test_a_bad_day_is_answered_by_the_rules_once_and_made_good_and_told(
    commissioned: Callable[[], Path], site: Site, tmp_path: Path
) -> None:
    home = commissioned()
    outcome = bad_day(home, site)
    assert outcome.violations == []
    assert outcome.details["blocked"]["windows"] == outcome.details["blocked"]["stood in"] == 1
    assert outcome.details["blocked"]["kept from a training"] == 1
    assert outcome.windows_made_good == outcome.windows_degraded == 1
    assert outcome.by_rung["rules"] > 0
    told = [json.loads(line) for line in (home / "lineage" / "events.ndjson").read_bytes().splitlines()]
    assert any(event["job"]["name"] == "pump_quality" for event in told)
    assert_valid(told, tmp_path)


@pytest.mark.slow
def test_a_plant_that_does_not_judge_is_caught(commissioned: Callable[[], Path], site: Site) -> None:
    outcome = bad_day(commissioned(), site, without=["_quality"])
    assert any("written and never judged" in violation for violation in outcome.violations)


@pytest.mark.slow
def test_a_model_that_answers_what_is_blocked_is_caught(
    commissioned: Callable[[], Path], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensors import quality

    monkeypatch.setattr(quality, "answers_in_place", lambda *_: [])
    outcome = bad_day(commissioned(), site)
    assert any("and the model's answer stood" in violation for violation in outcome.violations)


@pytest.mark.slow
def test_a_model_that_is_asked_what_is_blocked_is_caught(
    commissioned: Callable[[], Path], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid_assets import scoring

    def all_may_be(_: Any, asked: Any, __: Any) -> tuple[Any, Any]:
        return asked, replace(asked, features=asked.features.take(np.array([], int)))

    monkeypatch.setattr(scoring, "_kept_from_the_model", all_may_be)
    outcome = bad_day(commissioned(), site)
    assert any("a model answered what a check had blocked" in violation for violation in outcome.violations)


@pytest.mark.slow
def test_what_rests_on_a_blocked_day_is_caught(
    commissioned: Callable[[], Path], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid_assets import features, training
    from maintenance.condition_features import compute_features

    monkeypatch.setattr(features, "compute_features_without", lambda _, *how: compute_features(*how))
    monkeypatch.setattr(training, "plant_readings", lambda plant, cls: features._readings(plant, cls, None, None))
    told = bad_day(commissioned(), site).violations
    assert f"{DAY}: blocked, and in a training set" in told
    assert any(violation.startswith(f"{DAY + timedelta(days=1)}: its features are not") for violation in told)


@pytest.mark.slow
def test_lineage_that_is_told_twice_or_not_at_all_is_caught(
    commissioned: Callable[[], Path], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = NdjsonFile.send
    monkeypatch.setattr(NdjsonFile, "send", lambda self, bodies: send(self, [*bodies[:1], *bodies[:-1]]))
    told = rehearse(commissioned(), site, Scenario("no faults", "", 1, 0, ())).violations
    assert any(violation.startswith("lineage: 2 events are") for violation in told)
    assert any("are on file" in violation for violation in told)
