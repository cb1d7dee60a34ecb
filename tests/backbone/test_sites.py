"""A plant as data: what its tables mean, and what a new row adds."""

import copy
from datetime import UTC, date, datetime, time
from typing import Any

import pytest

from backbone.errors import ConfigurationError, UnknownName
from backbone.placement import Situation, place
from backbone.site_files import site_from_toml
from backbone.sites import Site

ANCHOR = date(2026, 1, 1)
DOCUMENT: dict[str, Any] = {
    "calendar": {"first_day": date(2025, 1, 1)},
    "fleets": {"fan": {"source": {"kind": "files"}}},
    "locations": [
        {"name": "cell", "kind": "edge", "zone": "cell", "jurisdiction": "DE"},
        {"name": "hall", "kind": "on_prem", "zone": "plant", "jurisdiction": "DE"},
        {"name": "sky", "kind": "cloud", "zone": "sky", "jurisdiction": "IE"},
    ],
    "targets": [{"name": "worker", "location": "hall", "kind": "subprocess", "timeout_s": 9, "nice": 3}],
}


def site(**changes: Any) -> Site:
    return site_from_toml({**copy.deepcopy(DOCUMENT), **changes}, name="north", anchor=ANCHOR)


def test_a_target_keeps_its_own_settings_apart_from_those_every_target_has() -> None:
    config = site().target("worker")
    assert (config.timeout_s, config.settings) == (9, {"nice": 3})


def test_a_candidate_has_what_its_location_has() -> None:
    hall = DOCUMENT["locations"][1] | {
        "price_per_hour": 2,
        "price_per_gb": 0.5,
        "priced_on": date(2026, 1, 1),
        "price_source": "the invoice",
        "latency_ms": 250,
        "capacity": 4,
        "gpus": 1,
        "memory_gb": 8,
        "clearance": "restricted",
    }
    (candidate,) = site(locations=[DOCUMENT["locations"][0], hall, DOCUMENT["locations"][2]]).candidates()
    assert (candidate.target, candidate.kind, candidate.timeout_s) == ("worker", "subprocess", 9)
    assert (candidate.location, candidate.location_kind, candidate.jurisdiction) == ("hall", "on_prem", "DE")
    assert (candidate.price_per_hour, candidate.price_per_gb, candidate.latency_s) == (2, 0.5, 0.25)
    assert (candidate.capacity, candidate.gpus, candidate.memory_gb) == (4, 1, 8)
    assert candidate.clearance == "restricted"


def test_a_location_is_added_in_one_row() -> None:
    """With its targets in the row, it is a candidate at once, and the one chosen where it is the one that will do."""
    row = {
        "name": "lab",
        "kind": "on_prem",
        "zone": "lab",
        "jurisdiction": "CH",
        "gpus": 2,
        "targets": [{"name": "lab-box", "kind": "subprocess"}],
    }
    grown = site(locations=[*DOCUMENT["locations"], row], workloads={"training": {"gpus": 1}})
    assert [(c.target, c.location) for c in grown.candidates()] == [("worker", "hall"), ("lab-box", "lab")]
    placement = place(
        "training",
        grown.workloads["training"],
        grown.candidates(),
        Situation(),
        now=datetime.combine(ANCHOR, time(), UTC),
    )
    assert placement.chosen is not None
    assert placement.chosen.candidate.target == "lab-box"


def test_several_locations_of_a_kind_are_fine_and_the_first_is_where_its_assets_lie() -> None:
    second = DOCUMENT["locations"][1] | {"name": "annex"}
    assert site(locations=[*DOCUMENT["locations"], second]).at("on_prem").name == "hall"


@pytest.mark.parametrize("table", ["location", "target"])
def test_two_of_a_name_are_refused(table: str) -> None:
    twice = {f"{table}s": [*DOCUMENT[f"{table}s"], DOCUMENT[f"{table}s"][0]]}
    with pytest.raises(ConfigurationError, match=f"two {table}s named"):
        site(**twice)


def test_a_kind_of_location_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no location of kind 'cloud'"):
        site(locations=DOCUMENT["locations"][:2])


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.location("moon"), r"'moon'; known: cell, hall, sky"),
        (lambda s: s.target("moon"), r"'moon'; known: worker"),
        (lambda s: s.fleet("moon"), r"'moon'; known: fan"),
    ],
)
def test_asking_for_what_is_not_there_lists_what_is(ask: Any, says: str) -> None:
    with pytest.raises(UnknownName, match=says):
        ask(site())


def test_a_site_that_cannot_place_a_workload_shows_every_candidate() -> None:
    with pytest.raises(ConfigurationError) as caught:
        site(workloads={"training": {"kinds": ["edge"], "residency": ["FR"]}})
    told = str(caught.value)
    assert "no target can ever take training" in told
    assert "training on worker (hall): rejected, kinds: hall is on_prem, not edge; residency: hall is in DE" in told
    assert caught.value.at == ("workloads", "training")


def test_an_alternative_that_can_never_be_is_told_before_it_is_needed() -> None:
    ways = {"training": {"any_of": ["without", "on-gpus"]}, "on-gpus": {"gpus": 8}, "without": {}}
    with pytest.raises(ConfigurationError, match=r"no target can ever take on-gpus:\n.*needs 8, hall has 0") as caught:
        site(workloads=ways)
    assert caught.value.at == ("workloads", "on-gpus")


def test_a_site_without_any_target_says_so() -> None:
    with pytest.raises(ConfigurationError, match="it has no target at all"):
        site(targets=[])
