"""What work needs, as its asset declares it and a site changes it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone.errors import ConfigurationError, UnknownName
from backbone.requirements import WORKLOADS, Alternative, workloads_from_toml


def expanded(workload: str, **tables: Any) -> tuple[Alternative, ...]:
    return workloads_from_toml({name.replace("_", "-"): table for name, table in tables.items()}, site="north")[
        workload
    ]


def test_a_site_that_says_nothing_keeps_what_is_declared() -> None:
    found = workloads_from_toml({}, site="north")
    assert {name: [a.name for a in ways] for name, ways in found.items()} == {name: [name] for name in WORKLOADS}
    assert {name: ways[0].requirements for name, ways in found.items()} == dict(WORKLOADS)


def test_what_a_site_says_changes_only_that() -> None:
    (scoring,) = expanded("scoring", scoring={"deadline_s": 5, "residency": ["DE"]})
    assert scoring.requirements == replace(WORKLOADS["scoring"], deadline_s=5, residency=("DE",))


def test_a_bare_name_is_the_one_target_to_use() -> None:
    (scoring,) = expanded("scoring", scoring="edge-box")
    assert scoring.requirements == replace(WORKLOADS["scoring"], targets=("edge-box",))


def test_a_site_may_take_a_value_back_to_its_default() -> None:
    """What is said counts, even where it says the same as asking for nothing."""
    (training,) = expanded("training", training={"memory_gb": 0, "classification": "public"})
    assert (training.requirements.memory_gb, training.requirements.classification) == (0, "public")


def test_alternatives_come_in_the_order_they_are_named_and_inherit_what_they_do_not_say() -> None:
    ways = expanded(
        "training",
        training={"any_of": ["whole", "half"], "residency": ["DE"], "max_cost": 9, "budget": 0.9},
        half={"budget": 0.5},
        whole={"any_of": ["whole-gpu", "whole-cpu"], "max_cost": 5},
        whole_gpu={"gpus": 1},
        whole_cpu={"residency": []},
    )
    assert [w.name for w in ways] == ["whole-gpu", "whole-cpu", "half"]
    gpu, cpu, half = (w.requirements for w in ways)
    assert {w.requirements.deadline_s for w in ways} == {WORKLOADS["training"].deadline_s}
    assert (gpu.gpus, gpu.residency, gpu.max_cost, gpu.budget) == (1, ("DE",), 5, 0.9)
    assert (cpu.gpus, cpu.residency, cpu.max_cost) == (0, (), 5)
    assert (half.max_cost, half.budget) == (9, 0.5)
    assert all(w.requirements.any_of == () for w in ways), "an alternative is not one of several any more"


def test_one_table_may_serve_two_workloads() -> None:
    tables = {"training": {"any_of": ["near"]}, "evaluation": {"any_of": ["near"]}, "near": {"kinds": ["edge"]}}
    found = workloads_from_toml(tables, site="north")
    for workload in ("training", "evaluation"):
        (near,) = found[workload]
        assert near.requirements == replace(WORKLOADS[workload], kinds=("edge",), any_of=())


@pytest.mark.parametrize(
    ("tables", "says", "at"),
    [
        ({"training": {"any_of": ["training"]}}, "training → training", ("training", "any_of")),
        (
            {"training": {"any_of": ["a"]}, "a": {"any_of": ["b"]}, "b": {"any_of": ["a"]}},
            "training → a → b → a",
            ("b", "any_of"),
        ),
        ({"training": {"any_of": ["a"]}, "a": {"any_of": ["training"]}}, "training → a → training", ("a", "any_of")),
    ],
)
def test_a_circle_is_shown(tables: dict[str, Any], says: str, at: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        workloads_from_toml(tables, site="north")
    assert caught.value.at == ("workloads", *at)


@pytest.mark.parametrize(
    "tables",
    [
        {"training": {"any_of": ["a"]}, "a": {}, "b": {"any_of": ["c"]}, "c": {"any_of": ["b"]}},
        {"b": {"any_of": ["b"]}},
    ],
)
def test_a_circle_that_no_workload_leads_into_is_an_error_too(tables: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        workloads_from_toml(tables, site="north")


def test_a_name_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(UnknownName, match=r"any_of of training.*'hlaf'; known: half, training") as caught:
        expanded("training", training={"any_of": ["hlaf"]}, half={"budget": 0.5})
    assert caught.value.at == ("workloads", "training", "any_of")


def test_a_workload_that_nothing_uses_is_a_mistake() -> None:
    with pytest.raises(UnknownName, match=r"'scorign'; known: evaluation, scoring, training") as caught:
        expanded("scoring", scorign={"deadline_s": 5})
    assert caught.value.at == ("workloads", "scorign")


def test_an_unknown_key_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match=r"'deadline'; known: any_of, .*deadline_s") as caught:
        expanded("scoring", scoring={"deadline": 5})
    assert caught.value.at == ("workloads", "scoring", "deadline")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deadline_s", 0),
        ("deadline_s", -1),
        ("deadline_s", "soon"),
        ("classification", "secret"),
        ("residency", "DE"),
        ("kinds", ["moon"]),
        ("gpus", -1),
        ("gpus", 0.5),
        ("memory_gb", -0.1),
        ("max_cost", -1),
        ("budget", 0),
        ("budget", 1.1),
        ("expected_s", 0),
        ("hour_value", -1),
        ("attempts", 0),
        ("attempts", 11),
    ],
)
def test_a_value_out_of_bounds_says_where(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"site north, workload scoring: {key}") as caught:
        expanded("scoring", scoring={key: value})
    assert caught.value.at[:3] == ("workloads", "scoring", key)
    assert caught.value.next_step


@given(st.permutations(["a", "b", "c", "d"]), st.integers(1, 4))
def test_the_order_of_alternatives_is_the_sites_own(names: list[str], count: int) -> None:
    named = names[:count]
    tables = {"training": {"any_of": named}} | {name: {"budget": 0.5} for name in sorted(named)}
    assert [a.name for a in workloads_from_toml(tables, site="north")["training"]] == named
