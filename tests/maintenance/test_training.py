from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.errors import IntegrityError, NoFailuresYet
from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.cross_validation import build, fit
from maintenance.evaluation import compare, held_out, split
from maintenance.metrics import coverage, rmse
from maintenance.onnx_export import check_parity, export_onnx
from maintenance.prognosis import (
    BASELINE_MISMATCH,
    FEATURES_MISMATCH,
    IMPLAUSIBLE,
    MISSING_INPUTS,
    OUT_OF_RANGE,
    Scorer,
    prognose,
)
from maintenance.training import train
from maintenance.training_set import training_set, training_set_from_arrow


@pytest.fixture(scope="module")
def learnt(fan, fleet):
    """A model, what it was trained on, and what it was not."""
    plant = fleet(machines=20, lives=3, seed=3, silent=0.01)
    readings = plant.readings(fan)
    baseline = fit_baseline(fan, readings)
    features, _ = compute_features(fan, baseline, readings)
    data, held = split(fan, training_set(fan, features, plant.history))
    told = []
    model = train(fan, baseline.id, data, seed=1, progress=lambda *what: told.append(what))
    return model, data, held, baseline, told


@pytest.fixture(scope="module")
def scorer(learnt):
    return Scorer(learnt[0].onnx, json.loads(json.dumps(learnt[0].manifest)))


def test_it_beats_knowing_nothing_on_machines_it_never_saw(learnt, scorer):
    held = learnt[2]

    predicted = scorer.predict(scorer.select(held.features))

    assert rmse(held.rul, predicted) < 0.5 * held.rul.std()
    low, high = scorer.interval(predicted)
    assert ((low <= predicted) & (predicted <= high)).all()
    assert 0.8 < coverage(held.rul, low, high) <= 1


def test_the_manifest_says_where_the_model_comes_from(fan, learnt):
    model, data, _, baseline, _ = learnt
    manifest = model.manifest

    assert manifest["baseline"] == baseline.id
    assert manifest["contract"] == {"name": "fan", "version": "1.0.0"}
    assert set(manifest["features"]) < set(data.names)
    assert not any(name.startswith("plate.") for name in manifest["features"])
    assert manifest["metrics"]["onnx_max_abs_diff"] < 1e-2
    assert manifest["metrics"]["failures"] == data.lives
    assert {tuple(c["model"]) for c in manifest["candidates"]} == {
        ("ridge",),
        ("hist_gradient_boosting",),
        ("ridge", "hist_gradient_boosting"),
        ("ridge", "ridge", "hist_gradient_boosting"),
        ("ridge", "hist_gradient_boosting", "hist_gradient_boosting"),
    }
    assert 0 < manifest["policy"]["act_below"] < fan.rul.cap


def test_the_card_tells_people_the_same(learnt):
    model = learnt[0]

    assert f"{model.manifest['metrics']['rmse']:.2f}" in model.card
    assert "cannot" in model.card


def test_progress_goes_from_nothing_to_all(learnt):
    shares = [done for done, _, _ in learnt[4]]

    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert learnt[4][-1][2]["rmse"] == learnt[0].manifest["metrics"]["rmse"]


def test_the_same_data_and_seed_give_the_same_model(fan, learnt):
    model, data, _, baseline, _ = learnt

    again = train(fan, baseline.id, training_set_from_arrow(data.to_arrow()), seed=1, workers=1)

    assert again.manifest == model.manifest
    assert again.onnx == model.onnx


def test_too_few_failures_are_no_model(fan, learnt):
    _, data, _, baseline, _ = learnt
    few = data.take(data.rows.machine == data.rows.machine[0])

    with pytest.raises(NoFailuresYet, match="3 fan lives of 1 machines"):
        train(fan, baseline.id, few)


def test_a_sensor_that_one_machine_has_is_no_error(fan, learnt):
    _, data, _, baseline, _ = learnt
    lone = training_set_from_arrow(data.to_arrow())
    current = [name.startswith("current.") for name in lone.names]
    lone.X[np.ix_(lone.rows.machine != lone.rows.machine[0], current)] = np.nan

    assert np.isfinite(train(fan, baseline.id, lone).out_of_fold.predicted).all()


def test_what_is_missing_or_far_out_is_not_answered(fan, fleet, learnt, scorer):
    readings = fleet(machines=4, lives=1, seed=9).readings(fan)
    baseline = learnt[3]
    values = readings.values
    first, last = readings.rows.starts, readings.rows.latest
    values[last[0] - 2 : last[0] + 1, 0] = np.nan
    values[last[1] - 2 : last[1] + 1, 1] = 9e3
    values[last[2], 0] = np.nan  # one reading is no loss: its neighbours are there

    features, _ = compute_features(fan, baseline, readings)
    prognoses = prognose(fan, scorer, features, baseline=baseline.id)

    assert prognoses.abstained[last].tolist() == [MISSING_INPUTS, OUT_OF_RANGE, None, None]
    assert np.isnan(prognoses.rul[last]).tolist() == [True, True, False, False]
    assert not np.isnan(prognoses.rul[first + 20]).any()


def test_sensors_that_do_not_fit_each_other_are_not_answered(fan, learnt, scorer):
    """A worn fan shakes and draws more current; none shakes so and draws this little."""
    features = learnt[2].features.take(np.arange(200))
    matrix = features.columns(scorer.features).astype(np.float32)
    for kind, shakes, draws in (("last", 3.0, -3.0), ("mean_3", 2.0, -2.0)):
        spoilt = matrix.copy()
        spoilt[5, [scorer.features.index(f"{sensor}.{kind}") for sensor in ("vibration", "current")]] = shakes, draws
        told = prognose(fan, scorer, replace(features, names=scorer.features, matrix=spoilt), baseline=learnt[3].id)

        assert [n for n, reason in enumerate(told.abstained) if reason == IMPLAUSIBLE] == [5], kind
        assert np.isnan(told.rul[5])
        assert not np.isnan(np.delete(told.rul, 5)).any()


def test_an_interval_widens_where_a_sensor_is_silent_just_now_by_what_it_has_told(fan, learnt, scorer):
    held = learnt[2]
    features = held.features
    whole = prognose(fan, scorer, features, baseline=learnt[3].id)
    matrix = features.matrix.copy()
    silent = np.isfinite(features["vibration.last"]) & np.isfinite(features["vibration.mean_3"])
    silent &= np.arange(len(features)) % 2 == 0
    matrix[silent, features.names.index("vibration.last")] = np.nan

    told = prognose(fan, scorer, replace(features, matrix=matrix), baseline=learnt[3].id)

    assert told.complete
    width, before = told.high - told.low, whole.high - whole.low
    other = ~silent & np.isfinite(features["vibration.last"])
    np.testing.assert_allclose(width[other], before[other], atol=1e-3)
    low, high = scorer.interval(told.rul)
    assert ((told.low <= low) & (told.high >= high)).all(), "never narrower than with all sensors"
    worn = silent & (held.rul < 10) & (whole.driver == "vibration")
    assert np.mean(width[worn] - (high - low)[worn]) > 2
    assert coverage(held.rul[silent], told.low[silent], told.high[silent]) >= 0.8
    assert ((told.low >= 0) & (told.high <= fan.rul.cap)).all()


def test_a_release_from_before_there_was_such_a_check_answers(learnt):
    manifest = {name: value for name, value in learnt[0].manifest.items() if name != "plausible"}
    old = Scorer(learnt[0].onnx, manifest)
    assert old.abstain_reasons(old.select(learnt[2].features)) is None


@given(st.integers(1, 200), st.data())
@settings(max_examples=60, deadline=None)
def test_one_bad_value_is_found_wherever_it_stands(scorer, learnt, rows, data):
    good = scorer.select(learnt[2].features)
    X = np.ascontiguousarray(good[np.arange(rows) % len(good)])
    assert scorer.abstain_reasons(X) is None
    row, bad = data.draw(st.integers(0, rows - 1)), data.draw(st.sampled_from([np.inf, -np.inf, 9e9, -9e9]))
    X[row, data.draw(st.integers(0, X.shape[1] - 1))] = bad

    found = scorer.abstain_reasons(X)

    assert [n for n, reason in enumerate(found) if reason is not None] == [row]
    assert found[row] == OUT_OF_RANGE


@pytest.mark.parametrize("explained", [False, True])
def test_a_row_is_answered_alike_whatever_is_asked_with_it(fan, learnt, scorer, explained):
    features = learnt[2].features.take(np.arange(40))
    ask = partial(prognose, fan, scorer, baseline=learnt[3].id, explained=explained)
    spoilt = replace(features, matrix=features.matrix.copy())
    spoilt.matrix[7] = 9e9

    whole, others = ask(features), ask(spoilt)

    assert (whole.complete, others.complete) == (True, False)
    assert set(whole.abstained) == {None}
    assert others.abstained.tolist() == [OUT_OF_RANGE if row == 7 else None for row in range(40)]
    assert np.isnan([others.rul[7], others.low[7], others.high[7], others.driven[7]]).all()
    rest = np.arange(40) != 7
    for column in ("rul", "low", "high", "driven", "act_below"):
        np.testing.assert_allclose(getattr(others, column)[rest], getattr(whole, column)[rest], atol=1e-4)
    assert others.driver[rest].tolist() == whole.driver[rest].tolist()
    assert np.isnan(whole.driven).any() != explained


def test_features_as_stored_are_answered_like_those_computed_without_a_copy(fan, learnt, scorer):
    features = learnt[2].features
    matrix = np.array(features.columns(scorer.features), dtype=np.float32, order="C")
    stored = replace(features, names=scorer.features, matrix=matrix)

    assert scorer.select(stored) is stored.matrix
    ask = partial(prognose, fan, scorer, baseline=learnt[3].id, explained=False)
    np.testing.assert_array_equal(ask(stored).rul, ask(features).rul)


def test_a_silence_that_leaves_the_means_is_answered(fan, learnt, scorer):
    features = learnt[2].features.take(np.arange(20))
    slope = next(name for name in scorer.features if ".slope_" in name)
    features.matrix[3, features.names.index(slope)] = np.nan

    assert prognose(fan, scorer, features, baseline=learnt[3].id).complete


def test_features_that_mean_something_else_are_not_answered(fan, learnt, scorer):
    other = replace(fan, features=replace(fan.features, level_readings=fan.features.level_readings + 1))
    asked = [prognose(cls, scorer, learnt[2].features, baseline=learnt[3].id) for cls in (fan, other, fan)]

    assert [set(told.abstained) for told in asked] == [{None}, {FEATURES_MISMATCH}, {None}]


def test_a_worn_bearing_shows_as_the_driver(fan, fleet, learnt, scorer):
    features, _ = compute_features(fan, learnt[3], fleet(machines=6, lives=1, seed=4).readings(fan))

    prognoses = prognose(fan, scorer, features, baseline=learnt[3].id)

    newest = features.rows.latest
    assert set(prognoses.driver[newest]) == {"vibration"}
    assert (prognoses.driven[newest] > 0).all()
    assert (prognoses.rul[newest] < 5).all()


def test_features_of_another_baseline_are_not_answered(fan, learnt, scorer):
    prognoses = prognose(fan, scorer, learnt[2].features, baseline="sha256:0")

    assert set(prognoses.abstained) == {BASELINE_MISMATCH}
    assert np.isnan(prognoses.rul).all()


def test_many_rows_answer_as_one_at_a_time(learnt, scorer):
    X = scorer.select(learnt[1].features)[:1500]

    many = scorer.predict(X)

    np.testing.assert_allclose([scorer.predict(row[None])[0] for row in X[:50]], many[:50], atol=1e-4)


@pytest.mark.parametrize("broken", ["graph", "manifest", "other"])
def test_what_is_no_model_is_refused(learnt, broken):
    onnx, manifest = learnt[0].onnx, dict(learnt[0].manifest)
    if broken == "graph":
        onnx = onnx[: len(onnx) // 2]
    elif broken == "manifest":
        del manifest["intervals"]
    else:
        manifest["features"] = manifest["features"][:-1]

    with pytest.raises(IntegrityError, match="Release"):
        Scorer(onnx, manifest)


def test_a_release_is_earned_against_the_rules_and_the_release_before(fan, learnt, scorer):
    held = learnt[2]

    first, again = compare(fan, held, scorer), compare(fan, held, scorer, incumbent=(scorer, held))

    assert first.passed
    assert first.metrics["rmse"] < first.metrics["rules_rmse"]
    assert first.metrics["cost_ratio"] < first.metrics["rules_cost_ratio"]
    assert not again.passed
    assert "No better than the release before" in again.reasons[0]


def test_a_model_that_knows_nothing_is_not_released(fan, learnt):
    _, data, held, baseline, _ = learnt
    random = np.random.default_rng(0)
    shuffled = training_set_from_arrow(data.to_arrow())
    shuffled.X[:] = shuffled.X[random.permutation(len(shuffled))]
    useless = train(fan, baseline.id, shuffled, seed=1)

    verdict = compare(fan, held, Scorer(useless.onnx, useless.manifest))

    assert not verdict.passed
    assert "not below the rules'" in verdict.reasons[0]


def test_nothing_held_out_is_nothing_judged(fan, learnt, scorer):
    verdict = compare(fan, learnt[2].take(np.zeros(len(learnt[2]), dtype=bool)), scorer)

    assert not verdict.passed
    assert "nothing can be judged" in verdict.reasons[0]


def test_machines_stay_on_their_side_as_others_come():
    names = [f"machine-{n}" for n in range(400)]

    early, late = held_out(names[:100], 0.2), held_out(names, 0.2)

    assert early.tolist() == late[:100].tolist()
    assert 0.15 < late.mean() < 0.25


@pytest.mark.parametrize("machines", [2, 3, 5])
def test_both_sides_have_a_machine_if_two_failed(machines):
    held = held_out([f"m{n}" for n in range(machines)], 0.001)

    assert 0 < held.sum() < machines


def test_no_machine_is_on_both_sides(fan, learnt):
    _, data, held, _, _ = learnt

    assert not set(data.rows.equipment) & set(held.rows.equipment)
    assert data.lives + held.lives == 60


def test_a_machine_that_starts_anew_untold_is_not_answered_at_first_and_then_on_the_safe_side(
    fan, fleet, learnt, scorer
):
    plant = fleet(machines=8, lives=2, seed=9)
    told = plant.readings(fan)
    untold = replace(plant, events=plant.events.slice(0, 0)).readings(fan)

    def answers(readings):
        features, _ = compute_features(fan, learnt[3], readings)
        return prognose(fan, scorer, features, baseline=learnt[3].id)

    of_told, of_untold = answers(told), answers(untold)

    repaired = told.rows.starts[1::2]
    assert (of_untold.rul[repaired - 1] < 3).all()
    assert set(of_untold.abstained[repaired + 1]) <= {OUT_OF_RANGE, IMPLAUSIBLE}, "its slopes fall as no wear does"
    later = (repaired[:, None] + np.arange(6, 12)).ravel()
    assert (of_untold.rul[later] > 20).all(), "its sensors say that it is well"
    assert (of_untold.rul[later] <= of_told.rul[later] + 0.5).all(), "its age goes on"


def test_a_model_named_twice_counts_twice_in_the_mean_and_in_its_exported_form(fan, learnt):
    _, data, *_ = learnt
    rows = np.arange(len(data))
    alone = [fit(fan, build((name,), 0), data, data.rul, rows) for name in ("ridge", "hist_gradient_boosting")]
    weighted = fit(fan, build(("ridge", "ridge", "hist_gradient_boosting"), 0), data, data.rul, rows)
    ridge, boosting = (model.predict(data.X) for model in alone)
    np.testing.assert_allclose(weighted.predict(data.X), (2 * ridge + boosting) / 3, rtol=1e-5)
    assert check_parity(weighted.predict(data.X), export_onnx(weighted, data.X.shape[1]), data.X) < 1e-2
