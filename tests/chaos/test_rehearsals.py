"""Rehearsals hold on a plant that is whole, and say so on one that is not."""

from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from backbone.sites import Site
from chaos.mischief import WorkerKilled
from chaos.rehearsal import rehearse
from chaos.scenario import SHIPPED, PlannedFault, Scenario, drawn_scenario, read_scenario
from tests.chaos.outcome import assert_holds

KEYS = {
    *("seed", "faults", "scenario", "answers_due", "answers_given", "answers_missing", "applied_twice"),
    *("windows_degraded", "windows_made_good", "by_rung", "by_fault", "violations"),
    *("time_to_fallback_p99_s", "time_to_recover_p99_s"),
}


def killed(*, after: int) -> Scenario:
    """The run that serves the first window dies after so many steps."""
    fault = PlannedFault("worker_killed", 0, time(12, 0), minutes=60, after=after)
    return Scenario("killed", "", 1, 0, (fault,))


def killed_last() -> Scenario:
    """No readings come any more after the run that dies, so that no later run serves its window by the way."""
    fault = PlannedFault("worker_killed", 0, time(23, 59), minutes=60)
    return Scenario("killed last", "", 1, 0, (fault,))


@pytest.mark.slow
def test_a_drawn_rehearsal_holds_and_a_seed_gives_it_again(commissioned: Callable[[], Path], site: Site) -> None:
    scenario = drawn_scenario(site, seed=5, faults=20)
    first, second = (rehearse(commissioned(), site, scenario) for _ in range(2))
    assert_holds(first)
    assert first.to_dict().keys() == KEYS
    assert first.windows_degraded > 0
    assert sum(counts["struck"] for counts in first.by_fault.values()) > 5
    assert first.to_dict() == second.to_dict()


@pytest.mark.parametrize("without", ["fallback", "recovery"])
def test_a_plant_without_its_sensor_is_caught(commissioned: Callable[[], Path], site: Site, without: str) -> None:
    # Dead before it has stored anything: whoever answers next is the fallback, second best.
    outcome = rehearse(commissioned(), site, killed_last(), without=[f"_{without}"])
    assert outcome.violations
    if without == "recovery":
        assert outcome.windows_made_good < outcome.windows_degraded


def test_answers_under_the_wrong_epoch_are_caught(
    commissioned: Callable[[], Path], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.stores.answers import AnswerTable

    add = AnswerTable.add
    monkeypatch.setattr(AnswerTable, "add", lambda *a, epoch, **k: add(*a, epoch=epoch + 1, **k))
    outcome = rehearse(commissioned(), site, Scenario("no faults", "", 1, 0, ()))
    assert any("the record says" in violation for violation in outcome.violations)


def test_a_sensor_that_cannot_be_evaluated_is_caught(
    commissioned: Callable[[], Path], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensors import orphans

    monkeypatch.setattr(orphans, "left_behind", lambda *_: 1 / 0)
    outcome = rehearse(commissioned(), site, Scenario("no faults", "", 1, 0, ()))
    assert [v.rpartition(" ended ")[0] for v in outcome.violations] == ["pump_orphans: ZeroDivisionError"]


def test_a_run_that_dies_between_giving_answers_and_recording_them_has_given_them(
    commissioned: Callable[[], Path], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.stores.answers import AnswerTable

    add, died = AnswerTable.add, []

    def dying(*args: Any, **how: Any) -> None:
        add(*args, **how)
        if not died:
            died.append(True)
            raise WorkerKilled

    monkeypatch.setattr(AnswerTable, "add", dying)
    assert_holds(rehearse(commissioned(), site, Scenario("no faults", "", 1, 0, ())))
    assert died


def test_a_window_is_not_made_good_from_features_of_fewer_readings(
    commissioned: Callable[[], Path], site: Site
) -> None:
    """Two runs die before they have made features of the last readings; those of noon are there."""
    at = time(23, 59)
    twice = tuple(PlannedFault("worker_killed", 0, at, minutes=60, after=after) for after in (14, 40))
    assert_holds(rehearse(commissioned(), site, Scenario("twice", "", 1, 0, twice)))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_the_scenarios_that_ship_hold(commissioned: Callable[[], Path], site: Site, path: Path) -> None:
    outcome = rehearse(commissioned(), site, read_scenario(path, site))
    assert_holds(outcome)
    if path.stem == "cloud_cut":
        assert "training-small on plant-worker succeeded" in outcome.details["work"]
        assert outcome.details["work"]["training-full on cloud-worker succeeded"] == 2, "at first, and afterwards"


@pytest.mark.slow
@pytest.mark.parametrize("after", range(1, 110, 6))
def test_wherever_a_run_is_killed_its_windows_are_answered_and_made_good(
    commissioned: Callable[[], Path], site: Site, after: int
) -> None:
    assert_holds(rehearse(commissioned(), site, killed(after=after)))
