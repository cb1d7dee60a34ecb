"""Where work runs, and why nowhere else."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.placement import (
    BlockedTarget,
    Candidate,
    Estimate,
    NoCandidate,
    Placement,
    Situation,
    estimate,
    place,
)
from backbone.requirements import CLASSIFICATIONS, LOCATION_KINDS, Alternative, Requirements

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
JURISDICTIONS = ("DE", "FR", "IE", "US")

EDGE = Candidate("box", "in_process", "edge", "edge", "DE", "restricted", price_per_hour=4, latency_s=0.001)
PREMISES = Candidate("server", "subprocess", "hall", "on_prem", "DE", "restricted", price_per_hour=2, latency_s=0.01)
CLOUD = Candidate(
    "worker", "ray", "sky", "cloud", "IE", "internal", price_per_hour=1, price_per_gb=10, latency_s=0.1, gpus=1
)
ALL = (EDGE, PREMISES, CLOUD)


def decide(
    *ways: Requirements, candidates: Sequence[Candidate] = ALL, situation: Situation | None = None, **more: Any
) -> Placement:
    alternatives = [Alternative(f"way-{n}", needs) for n, needs in enumerate(ways or (Requirements(),))]
    return place("work", alternatives, candidates, situation or Situation(), now=NOW, **more)


def chosen(*ways: Requirements, **more: Any) -> str | None:
    placement = decide(*ways, **more)
    return placement.chosen.candidate.target if placement.chosen else None


def rules(placement: Placement) -> dict[str, list[str]]:
    """Target → by which rules it was rejected."""
    return {v.candidate.target: [r.rule for r in v.rejections] for v in placement.verdicts}


# Policy.


def test_the_cheapest_is_chosen_and_every_other_is_ranked() -> None:
    placement = decide(Requirements(expected_s=3600))
    assert {v.candidate.target: (v.rank, v.expected_cost) for v in placement.verdicts} == {
        "worker": (1, 1),
        "server": (2, 2),
        "box": (3, 4),
    }


@pytest.mark.parametrize(
    ("needs", "rejected"),
    [
        (Requirements(targets=("box",)), {"server": ["targets"], "worker": ["targets"]}),
        (Requirements(kinds=("edge", "on_prem")), {"worker": ["kinds"]}),
        (Requirements(residency=("DE", "FR")), {"worker": ["residency"]}),
        (Requirements(classification="internal"), {}),
        (Requirements(classification="confidential"), {"worker": ["classification"]}),
        (Requirements(classification="restricted"), {"worker": ["classification"]}),
        (Requirements(gpus=1), {"box": ["gpus"], "server": ["gpus"]}),
        (
            Requirements(residency=("DE",), gpus=2),
            {"box": ["gpus"], "server": ["gpus"], "worker": ["residency", "gpus"]},
        ),
        (Requirements(deadline_s=1.05, expected_s=1), {"worker": ["deadline"]}),
        (Requirements(expected_s=3600, max_cost=2), {"box": ["max_cost"]}),
    ],
)
def test_what_work_needs_rules_out_what_has_it_not(needs: Requirements, rejected: dict[str, list[str]]) -> None:
    found = rules(decide(needs))
    assert found == {"box": [], "server": [], "worker": []} | rejected


def test_memory_is_asked_of_those_that_say_how_much_they_have() -> None:
    small = replace(CLOUD, memory_gb=4)
    assert rules(decide(Requirements(memory_gb=4), candidates=[small]))["worker"] == []
    assert rules(decide(Requirements(memory_gb=4.5), candidates=[small]))["worker"] == ["memory"]
    assert rules(decide(Requirements(memory_gb=1e6), candidates=[CLOUD]))["worker"] == []


def test_further_policies_forbid_by_name_and_reason() -> None:
    def german(c: Candidate) -> str | None:
        return None if c.jurisdiction == "DE" else f"{c.jurisdiction} is abroad"

    placement = decide(policies=[("anybody", lambda _: None), ("works council", german)])
    (rejection,) = next(v for v in placement.verdicts if v.candidate == CLOUD).rejections
    assert (rejection.stage, rejection.rule, rejection.why) == ("policy", "works council", "IE is abroad")
    assert placement.chosen is not None
    assert placement.chosen.candidate == PREMISES


def test_every_reason_is_given_not_only_the_first() -> None:
    situation = Situation(blocked=[BlockedTarget(NOW + timedelta(hours=1), "it hung", target="worker")])
    needs = Requirements(residency=("DE",), deadline_s=0.5, expected_s=1)
    assert rules(decide(needs, situation=situation))["worker"] == ["residency", "blocked", "deadline"]


# State.


@pytest.mark.parametrize(
    ("wild", "kept"),
    [
        ({"target": "worker"}, {"box", "server"}),
        ({"location": "sky"}, {"box", "server"}),
        ({"workload": "work"}, set()),
        ({"workload": "other"}, {"box", "server", "worker"}),
        ({"workload": "way-0"}, set()),
        ({}, set()),
        ({"location": "sky", "workload": "work"}, {"box", "server"}),
        ({"target": "worker", "location": "hall"}, {"box", "server", "worker"}),
    ],
)
def test_a_block_covers_what_it_names_and_all_of_what_it_does_not(wild: dict[str, str], kept: set[str]) -> None:
    block = BlockedTarget(NOW + timedelta(seconds=1), "it died", **wild)
    placement = decide(situation=Situation(blocked=[block]))
    assert {v.candidate.target for v in placement.verdicts if v.rank} == kept


def test_a_block_of_more_than_a_target_says_of_what() -> None:
    until, why = NOW + timedelta(hours=1), "the cluster is moved"
    blocked = [
        BlockedTarget(until, why, location="sky"),
        BlockedTarget(until, why, target="server", workload="way-0"),
        BlockedTarget(until, why, target="box"),
    ]
    placement = decide(situation=Situation(blocked=blocked))
    told = {v.candidate.target: v.rejections[0].why for v in placement.verdicts}
    assert told == {
        "worker": "location sky until 2026-01-01 13:00:00 UTC: the cluster is moved",
        "server": "way-0 at target server until 2026-01-01 13:00:00 UTC: the cluster is moved",
        "box": "until 2026-01-01 13:00:00 UTC: the cluster is moved",
    }


def test_a_block_of_an_alternative_leaves_the_others() -> None:
    block = BlockedTarget(NOW + timedelta(hours=1), "only the small one", workload="way-0")
    less = decide(Requirements(), Requirements(budget=0.5), situation=Situation(blocked=[block]))
    assert less.chosen is not None
    assert less.chosen.alternative == "way-1"


def test_a_block_ends() -> None:
    block = BlockedTarget(NOW, "it died", target="worker")
    assert chosen(situation=Situation(blocked=[block])) == "worker"
    later = replace(block, until=NOW + timedelta(microseconds=1))
    assert chosen(situation=Situation(blocked=[later])) == "server"


def test_an_open_breaker_keeps_its_target_off() -> None:
    placement = decide(situation=Situation(broken={"worker": "too many calls failed"}))
    assert rules(placement)["worker"] == ["breaker"]
    assert any("too many calls failed" in line for line in placement.table())


@pytest.mark.parametrize(("running", "free"), [(0, True), (1, True), (2, False), (3, False)])
def test_a_location_takes_no_more_than_it_can(running: int, free: bool) -> None:
    candidates = [replace(CLOUD, capacity=2), PREMISES]
    assert (chosen(candidates=candidates, situation=Situation(running={"sky": running})) == "worker") == free


def test_only_what_is_kept_off_by_its_state_may_come_back() -> None:
    german, blocked = Requirements(residency=("DE",)), [BlockedTarget(NOW + timedelta(hours=1), "it died")]
    abroad = decide(german, candidates=[CLOUD])
    both = decide(german, candidates=[CLOUD], situation=Situation(blocked=blocked))
    state = decide(german, candidates=[PREMISES, CLOUD], situation=Situation(blocked=blocked))
    assert [p.later for p in (abroad, both, state)] == [False, False, True]
    assert {p.chosen for p in (abroad, both, state)} == {None}


# Fit.


def test_a_deadline_is_kept_even_when_work_is_slow_for_once() -> None:
    """What counts is what few runs exceed, not what is usual."""
    needs = Requirements(deadline_s=10)
    estimates = {("way-0", "worker"): Estimate(5, 10, 20), ("way-0", "server"): Estimate(9, 9.9, 20)}
    assert rules(decide(needs, situation=Situation(estimates=estimates))) == {
        "box": [],
        "server": [],
        "worker": ["deadline"],
    }


def test_waiting_has_its_price() -> None:
    """Two hours for 2, or one for 4: the quicker one is worth it from 2 an hour on."""
    estimates = {("way-0", "worker"): Estimate(7200, 7200, 9), ("way-0", "box"): Estimate(3600, 3600, 9)}
    situation, both = Situation(estimates=estimates), (replace(EDGE, latency_s=0), replace(CLOUD, latency_s=0))
    assert chosen(Requirements(hour_value=1.9), candidates=both, situation=situation) == "worker"
    assert chosen(Requirements(hour_value=2.1), candidates=both, situation=situation) == "box"
    assert chosen(Requirements(hour_value=2), candidates=both, situation=situation) == "box", "the quicker of equals"


def test_data_that_has_to_move_costs() -> None:
    needs = Requirements(expected_s=3600)
    assert chosen(needs, situation=Situation(data_gb={"hall": 0.05})) == "worker"
    assert chosen(needs, situation=Situation(data_gb={"hall": 0.2})) == "server"
    assert chosen(needs, situation=Situation(data_gb={"sky": 100})) == "worker", "it lies there already"


def test_a_later_alternative_is_looked_at_only_when_nobody_can_take_the_earlier_one() -> None:
    gpus, half = Requirements(gpus=1), Requirements(budget=0.5, kinds=("edge",))
    whole = decide(gpus, half)
    assert whole.requirements == gpus
    assert {v.alternative for v in whole.verdicts} == {"way-0"}
    less = decide(gpus, half, situation=Situation(broken={"worker": "open"}))
    assert less.chosen is not None
    assert (less.chosen.alternative, less.chosen.candidate, less.requirements) == ("way-1", EDGE, half)
    assert [v.alternative for v in less.verdicts] == ["way-0"] * 3 + ["way-1"] * 3


# Estimates.


def test_one_run_that_hung_does_not_make_the_next_one_long() -> None:
    calm = estimate([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0], prior_s=100)
    hung = estimate([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 3600.0], prior_s=100)
    assert hung.usual_s == pytest.approx(calm.usual_s, rel=0.1)
    assert hung.slow_s < 2


def test_without_runs_it_is_what_was_thought_before() -> None:
    assert estimate([], 7.0).usual_s == 7
    assert estimate([], 7.0).runs == 0


def test_a_few_runs_are_weighed_with_what_was_thought_before() -> None:
    assert estimate([10.0], 20.0).usual_s == 15
    assert estimate([10.0] * 4, 1000.0).usual_s == 10
    assert estimate([10.0] * 5, 1000.0) == estimate([10.0] * 5, 1.0)


@given(st.lists(st.floats(0.01, 1e4), max_size=30), st.floats(0.01, 1e4))
def test_an_estimate_lies_among_what_was_seen(seconds: list[float], prior_s: float) -> None:
    found = estimate(seconds, prior_s)
    seen = [*seconds, prior_s]
    assert min(seen) <= found.usual_s <= max(seen)
    assert found.slow_s > found.usual_s
    assert found.runs == len(seconds)


@given(st.lists(st.floats(0.5, 2.0), min_size=11, max_size=30), st.lists(st.floats(0.01, 1e6), max_size=3))
def test_a_few_odd_runs_move_an_estimate_no_further_than_its_usual_runs_lie(
    usual: list[float], odd: list[float]
) -> None:
    assert 0.5 <= estimate([*usual, *odd], 1e6).usual_s <= 2.0


# Nowhere.


def test_nowhere_to_run_is_told_with_the_whole_table_and_what_was_tried() -> None:
    situation = Situation(
        blocked=[BlockedTarget(NOW + timedelta(minutes=1), "it fell silent", target="worker")],
        running={"hall": 1},
    )
    placement = decide(
        Requirements(targets=("server", "worker")),
        candidates=[EDGE, replace(PREMISES, capacity=1), CLOUD],
        situation=situation,
    )
    error = NoCandidate(placement, ["worker at sky: it fell silent"])
    told = str(error)
    for line in (
        "work now. Tried: worker at sky: it fell silent.",
        "way-0 on box (edge): rejected, targets: only server, worker may take it",
        "way-0 on server (hall): rejected, full: 1 of 1 places at hall are taken",
        "way-0 on worker (sky): rejected, blocked: until 2026-01-01 12:01:00 UTC: it fell silent",
    ):
        assert line in told
    assert error.history == ("worker at sky: it fell silent",)
    assert error.placement is placement
    assert error.next_step


def test_a_placement_is_stored_whole() -> None:
    stored = decide(Requirements(residency=("DE",), budget=0.5)).to_dict()
    assert (stored["target"], stored["location"], stored["budget"]) == ("server", "hall", 0.5)
    assert [(c["target"], c["rank"]) for c in stored["candidates"]] == [("box", 2), ("server", 1), ("worker", None)]
    assert stored["candidates"][2]["rejected"] == [
        {"stage": "policy", "rule": "residency", "why": "sky is in IE, data may be in DE"}
    ]
    nowhere = decide(candidates=[]).to_dict()
    assert (nowhere["target"], nowhere["candidates"]) == (None, [])


# Laws, over any candidates, needs and situations.


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            target=f"t{n}",
            kind="subprocess",
            location=draw(st.sampled_from(["a", "b", "c"])),
            location_kind=draw(st.sampled_from(LOCATION_KINDS)),
            jurisdiction=draw(st.sampled_from(JURISDICTIONS)),
            clearance=draw(st.sampled_from(CLASSIFICATIONS)),
            price_per_hour=draw(st.floats(0, 100)),
            price_per_gb=draw(st.floats(0, 1)),
            latency_s=draw(st.floats(0, 1)),
            capacity=draw(st.none() | st.integers(1, 3)),
            gpus=draw(st.integers(0, 2)),
            memory_gb=draw(st.none() | st.floats(1, 64)),
        )
        for n in range(draw(st.integers(0, 6)))
    )


@st.composite
def needs(draw: st.DrawFn) -> Requirements:
    return Requirements(
        deadline_s=draw(st.none() | st.floats(0.1, 100)),
        classification=draw(st.sampled_from(CLASSIFICATIONS)),
        residency=tuple(draw(st.lists(st.sampled_from(JURISDICTIONS), max_size=2))),
        kinds=tuple(draw(st.lists(st.sampled_from(LOCATION_KINDS), max_size=2))),
        gpus=draw(st.integers(0, 1)),
        memory_gb=draw(st.floats(0, 16)),
        max_cost=draw(st.none() | st.floats(0, 10)),
        expected_s=draw(st.floats(0.1, 100)),
        hour_value=draw(st.floats(0, 100)),
    )


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    names = st.none() | st.sampled_from([f"t{n}" for n in range(6)])
    blocks = st.builds(
        BlockedTarget,
        until=st.integers(-60, 60).map(lambda s: NOW + timedelta(seconds=s)),
        why=st.just("it failed"),
        target=names,
        location=st.none() | st.sampled_from(["a", "b", "c"]),
        workload=st.sampled_from([None, "work", "other"]),
    )
    return Situation(
        blocked=draw(st.lists(blocks, max_size=2)),
        broken=draw(st.dictionaries(st.sampled_from(["t0", "t1", "t2"]), st.just("open"), max_size=1)),
        running=draw(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 4))),
        data_gb=draw(st.dictionaries(st.sampled_from(["a", "b"]), st.floats(0, 10))),
    )


@given(fleets(), st.lists(needs(), min_size=1, max_size=3), situations())
def test_every_candidate_is_told_and_only_what_nothing_speaks_against_is_chosen(
    candidates: tuple[Candidate, ...], ways: list[Requirements], situation: Situation
) -> None:
    placement = decide(*ways, candidates=candidates, situation=situation)
    looked_at = list(dict.fromkeys(v.alternative for v in placement.verdicts))
    assert looked_at == [f"way-{n}" for n in range(len(looked_at))]
    for way in looked_at:
        assert [v.candidate for v in placement.verdicts if v.alternative == way] == list(candidates)
    for verdict in placement.verdicts:
        assert (verdict.rank is None) == bool(verdict.rejections)
        assert all(r.why for r in verdict.rejections)
    fit = [v for v in placement.verdicts if not v.rejections]
    assert sorted(v.rank or 0 for v in fit) == list(range(1, len(fit) + 1))
    assert {v.alternative for v in fit} <= set(looked_at[-1:]), "an earlier alternative would have done"
    if placement.chosen is None:
        assert not fit
        assert len(looked_at) == (len(ways) if candidates else 0)
    else:
        assert placement.chosen.rank == 1
        assert not placement.chosen.rejections
        assert placement.requirements == ways[int(placement.chosen.alternative.removeprefix("way-"))]
    assert len(placement.table()) == len(placement.verdicts)


@given(fleets(), needs(), situations())
def test_nobody_who_could_do_it_is_cheaper_with_the_wait_paid(
    candidates: tuple[Candidate, ...], way: Requirements, situation: Situation
) -> None:
    placement = decide(way, candidates=candidates, situation=situation)
    price = {
        v.candidate.target: v.expected_cost + v.expected_s / 3600 * way.hour_value
        for v in placement.verdicts
        if not v.rejections
    }
    if placement.chosen is not None:
        assert price[placement.chosen.candidate.target] == min(price.values())


@given(fleets(), needs(), situations())
def test_without_the_chosen_one_the_next_in_rank_is_chosen(
    candidates: tuple[Candidate, ...], way: Requirements, situation: Situation
) -> None:
    """So a failed try is followed by the next best, all the way down."""
    ranked = sorted(
        (v for v in decide(way, candidates=candidates, situation=situation).verdicts if v.rank),
        key=lambda v: v.rank or 0,
    )
    tried: list[BlockedTarget] = []
    for verdict in ranked:
        now = replace(situation, blocked=[*situation.blocked, *tried])
        assert chosen(way, candidates=candidates, situation=now) == verdict.candidate.target
        tried.append(BlockedTarget(NOW + timedelta(hours=1), "it failed", target=verdict.candidate.target))
    assert (
        chosen(way, candidates=candidates, situation=replace(situation, blocked=[*situation.blocked, *tried])) is None
    )


@given(fleets(), needs(), situations(), st.randoms(use_true_random=False))
def test_the_order_in_which_targets_are_written_decides_nothing(
    candidates: tuple[Candidate, ...], way: Requirements, situation: Situation, random: Any
) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert chosen(way, candidates=shuffled, situation=situation) == chosen(
        way, candidates=candidates, situation=situation
    )


def test_what_a_bad_hour_taught_does_not_outlast_it() -> None:
    """Runs alone never shut every target out: the least late is tried, so that it can teach something better."""
    alternative = Alternative("scoring", Requirements(deadline_s=60, expected_s=0.1))
    candidates = [Candidate(f"t{n}", "in_process", "hall", "on_prem", "DE") for n in range(3)]
    slow = {("scoring", f"t{n}"): Estimate(50 + n, 70 + n, 5) for n in range(3)}
    placement = place(
        "scoring", [alternative], candidates, Situation(estimates=slow), now=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert placement.chosen is not None
    assert placement.chosen.candidate.target == "t0"
    assert placement.chosen.rejections == ()
    assert [[r.rule for r in v.rejections] for v in placement.verdicts[1:]] == [["deadline"], ["deadline"]]


def test_taking_data_away_costs_what_its_location_asks() -> None:
    lies = Situation(data_gb={"sky": 50.0}, price_per_gb={"sky": 0.09})
    candidates = [
        Candidate("there", "subprocess", "sky", "cloud", "IE", price_per_gb=0.09),
        Candidate("here", "subprocess", "hall", "on_prem", "DE"),
    ]
    placement = place(
        "training", [Alternative("training", Requirements())], candidates, lies, now=datetime(2026, 1, 1, tzinfo=UTC)
    )
    costs = {v.candidate.target: v.expected_cost for v in placement.verdicts}
    assert costs == {"there": 0.0, "here": pytest.approx(4.5)}
