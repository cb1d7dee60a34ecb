"""A rehearsal of ten simulated days: it takes as long as all others together, and so stands by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from backbone.sites import Site
from chaos.rehearsal import rehearse
from chaos.scenario import drawn_scenario
from tests.chaos.outcome import assert_holds


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_faults_leave_every_window_answered_and_made_good(
    commissioned: Callable[[], Path], site: Site
) -> None:
    outcome = rehearse(commissioned(), site, drawn_scenario(site, seed=7, faults=1_000))
    assert_holds(outcome)
    assert sum(counts["faults"] for counts in outcome.by_fault.values()) == 1_000
    assert sum(counts["struck"] for counts in outcome.by_fault.values()) > 500
    assert all(counts["struck"] for counts in outcome.by_fault.values()), "a kind that meets nobody proves nothing"
