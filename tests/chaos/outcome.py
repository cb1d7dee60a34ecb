"""What must hold of a rehearsal's outcome, whatever befell the plant."""

from chaos.floor.rehearsal import FloorOutcome
from chaos.rehearsal import Outcome


def assert_holds(outcome: Outcome) -> None:
    assert outcome.violations == []
    assert outcome.answers_given == outcome.answers_due > 0
    assert (outcome.answers_missing, outcome.applied_twice) == (0, 0)
    assert outcome.windows_made_good == outcome.windows_degraded


def assert_floor_holds(outcome: FloorOutcome) -> None:
    assert outcome.violations == []
    assert outcome.acknowledged == outcome.stored + outcome.dead_lettered + outcome.spooled + outcome.damaged > 0
    assert (outcome.missing, outcome.twice) == (0, 0)
    assert outcome.dead_lettered > 0
