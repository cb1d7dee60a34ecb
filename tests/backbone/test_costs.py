"""What work has cost, and would have cost elsewhere."""

from typing import Any

import pytest

from backbone.costs import Done, Elsewhere, elsewhere
from backbone.requirements import LocationKind

KINDS: dict[str, LocationKind] = {"sky": "cloud", "other-sky": "cloud", "hall": "on_prem"}


def candidate(target: str, location: str, cost: float, *forbidden: str) -> dict[str, Any]:
    rejected = [{"stage": "policy", "rule": rule, "why": ""} for rule in forbidden]
    return {
        "target": target,
        "location": location,
        "alternative": "scoring",
        "expected_cost": cost,
        "rejected": rejected,
    }


def done(target: str, location: str, cost: float, *candidates: dict[str, Any], succeeded: bool = True) -> Done:
    placement = {"target": target, "alternative": "scoring", "candidates": list(candidates)}
    return Done("scoring", location, succeeded, 1.0, 0.0, cost, placement)


SERVER = candidate("server", "hall", 2.0)


def test_work_is_priced_at_the_cheapest_target_that_policy_allows() -> None:
    work = done(
        "server", "hall", 2.5, SERVER, candidate("a", "sky", 1.0, "residency"), candidate("b", "other-sky", 4.0)
    )
    assert elsewhere([work], "cloud", KINDS) == Elsewhere("cloud", 4.0, 0, 0)
    assert elsewhere([work], "on_prem", KINDS) == Elsewhere("on_prem", 2.5, 0, 0)


def test_where_policy_allows_none_the_cheapest_is_named_and_counted() -> None:
    work = done("server", "hall", 2.5, SERVER, candidate("a", "sky", 1.0, "residency"), candidate("b", "sky", 4.0, "x"))
    assert elsewhere([work], "cloud", KINDS) == Elsewhere("cloud", 1.0, 1, 0)
    assert elsewhere([work], "edge", KINDS) == Elsewhere("edge", 0.0, 0, 1)


def test_what_failed_is_paid_where_it_failed() -> None:
    table = (SERVER, candidate("a", "sky", 1.0))
    works = [done("a", "sky", 0.75, *table, succeeded=False), done("server", "hall", 2.5, *table)]
    assert elsewhere(works, "cloud", KINDS).cost == pytest.approx(1.75)
    assert elsewhere(works, "on_prem", KINDS).cost == pytest.approx(2.5)
    assert elsewhere(works[:1], "on_prem", KINDS).cost == 0
