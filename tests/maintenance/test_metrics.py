from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance.equipment_class import CostSettings
from maintenance.metrics import RunsToFailure, act_below, best_fixed_age, coverage, nasa_score, policy_cost, rmse, width

COST = CostSettings(planned=1, failure=10)


def _runs(*lengths: int) -> RunsToFailure:
    """Lives read once an hour, the last time at the failure."""
    ages = [np.arange(length + 1.0) for length in lengths]
    starts = np.cumsum([0, *(len(a) for a in ages[:-1])])
    return RunsToFailure(starts, np.concatenate(ages), np.concatenate([a[-1] - a for a in ages]))


def test_errors():
    assert rmse(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == pytest.approx(math.sqrt(2))
    assert coverage(np.array([1.0, 2.0]), np.array([0.0, 3.0]), np.array([1.0, 4.0])) == 0.5
    assert width(np.array([0.0, 3.0]), np.array([1.0, 5.0])) == 1.5


def test_the_nasa_score_punishes_late_estimates_more():
    true = np.array([50.0])

    assert nasa_score(true, np.array([50.0])) == 0
    assert nasa_score(true, np.array([37.0])) == pytest.approx(math.e - 1)
    assert nasa_score(true, np.array([60.0])) == pytest.approx(math.e - 1)


def test_running_to_failure_costs_a_failure_a_life():
    runs = _runs(10, 30)

    cost = policy_cost(runs, np.zeros(len(runs.age), dtype=bool), COST)

    assert (cost.failures, cost.replacements) == (2, 0)
    assert cost.rate == pytest.approx(20 / 40)


def test_a_replacement_ends_the_life_at_the_first_decision():
    runs = _runs(10, 30)

    cost = policy_cost(runs, runs.rul <= 5, COST)

    assert (cost.failures, cost.replacements) == (0, 2)
    assert cost.rate == pytest.approx(2 / (5 + 25))


def test_a_decision_at_the_failure_comes_too_late():
    runs = _runs(10, 30)

    assert policy_cost(runs, runs.rul == 0, COST).failures == 2


def test_the_best_age_by_hand():
    # At 9 both are replaced: 2 / 18. At 29 one fails: 11 / 39. Never: 20 / 40.
    age, cost = best_fixed_age(_runs(10, 30), COST)

    assert age == 9
    assert cost.rate == pytest.approx(2 / 18)


def test_where_failures_cost_little_more_waiting_is_best():
    age, cost = best_fixed_age(_runs(10, 300), CostSettings(planned=1, failure=1.01))

    assert age > 9
    assert cost.rate <= 2.01 / 309


@given(st.lists(st.integers(2, 60), min_size=1, max_size=8), st.floats(1.1, 100))
def test_no_age_beats_the_best_age(lengths, failure):
    runs, cost = _runs(*lengths), CostSettings(planned=1, failure=failure)

    _, best = best_fixed_age(runs, cost)

    for age in range(1, 61):
        assert best.rate <= policy_cost(runs, runs.age >= age, cost).rate + 1e-12


@given(st.lists(st.integers(2, 60), min_size=2, max_size=8))
def test_knowing_the_remaining_life_is_never_worse_than_knowing_the_age(lengths):
    runs = _runs(*lengths)
    limit = act_below(runs, runs.rul, COST)

    # Two percent are given away for the safe side.
    assert policy_cost(runs, runs.rul <= limit, COST).rate <= best_fixed_age(runs, COST)[1].rate * 1.02 + 1e-12


def test_the_threshold_keeps_clear_of_the_first_failure():
    runs = _runs(*[100] * 20)
    late = runs.rul + np.where(np.arange(len(runs.age)) < 101, 10, 0)  # the first machine is judged too well

    limit = act_below(runs, late, COST)

    assert limit > 10
    assert policy_cost(runs, late <= limit, COST).failures == 0
