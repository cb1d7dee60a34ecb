"""What a class may ask beside remaining life: what is learnt from, how that is judged, and what an answer asks for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.errors import ConfigurationError, NoFailuresYet, UnknownName
from maintenance.advisories import advise
from maintenance.assessments import Severity, assess
from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import equipment_class_from_contract
from maintenance.evaluation import compare, split
from maintenance.metrics import average_precision
from maintenance.plan import maintenance_plan
from maintenance.prognosis import FEATURES_MISMATCH, MISSING_INPUTS, Scorer, prognose
from maintenance.question import question_of
from maintenance.readings import MaintenanceHistory, Rows
from maintenance.training import train
from maintenance.training_set import training_set

RUL = {"unit": "hour", "seconds": 3600, "cap": 30}
FEATURES = {"means": [3, 6], "deviations": [6], "slopes": [4], "averages": [0.2], "levelReadings": 4}
MODELS = {"minimumFailures": 6, "folds": 3}
SOON = {"failure_within": {"horizon": 8}}
ODD = {"anomaly": {"normalReadings": 20, "warmUp": 5, "act": 1.5, "mostFalseAlarms": 0.1}}
HOUR = np.timedelta64(3_600_000_000, "us")
START = np.datetime64("2025-01-01T00:00", "us")


@pytest.fixture(scope="module")
def asking(make_fan):
    def make(question, **settings):
        given_settings = {"remainingUsefulLife": RUL, "features": FEATURES, "models": MODELS, "question": question}
        return equipment_class_from_contract(make_fan(**given_settings | settings))

    return make


@pytest.fixture(scope="module")
def learnt(asking, fleet):
    """A model that answers a question, the class, what it learnt from, what it did not, and all features."""

    def of(question):
        cls = asking(question)
        plant = fleet(machines=20, lives=3, seed=3, silent=0.01)
        readings = plant.readings(cls)
        baseline = fit_baseline(cls, readings)
        features, _ = compute_features(cls, baseline, readings)
        data, held = split(cls, training_set(cls, features, plant.history))
        return cls, train(cls, baseline.id, data, seed=1), data, held, features, baseline

    return {name: of(question) for name, question in (("soon", SOON), ("odd", ODD))}


def scorer_of(learnt):
    return Scorer(learnt[1].onnx, json.loads(json.dumps(learnt[1].manifest)))


# What is learnt from ------------------------------------------------------------------------------------------------


def rows_of(hours: dict[str, list[float]], history: dict[str, list[tuple[float, bool]]]):
    """Readings at hours after the start, machine by machine, and their machines' history."""
    names = np.array(sorted(hours), dtype=object)
    machine = np.repeat(np.arange(len(names)), [len(hours[n]) for n in names])
    ts = START + np.concatenate([np.round(np.array(sorted(hours[n])) * 3.6e9) for n in names]).astype("timedelta64[us]")
    ended = {n: [START + np.timedelta64(round(at * 3.6e9), "us") for at, _ in sorted(e)] for n, e in history.items()}
    life = np.concatenate(
        [np.searchsorted(np.array(ended.get(n, []), "datetime64[us]"), ts[machine == m]) for m, n in enumerate(names)]
    )
    past = MaintenanceHistory(
        {n: np.array(e, "datetime64[us]") for n, e in ended.items()},
        {n: np.array([failed for _, failed in sorted(e)], bool) for n, e in history.items()},
    )
    return Rows(names, machine, ts, life), past


def soon_by_hand(rows: Rows, past: MaintenanceHistory, horizon: float) -> list[bool | None]:
    """Whether each row's machine fails within the horizon after it, None where nobody can know."""
    told: list[bool | None] = []
    for name, ts in zip(rows.equipment, rows.ts, strict=True):
        ends = past.ts.get(name, np.array([], "datetime64[us]"))
        later = [(end, failed) for end, failed in zip(ends, past.failed.get(name, []), strict=True) if end >= ts]
        seen_until = later[0][0] if later else rows.ts[rows.equipment == name].max()
        left = (seen_until - ts) / HOUR
        if ts + horizon * HOUR > rows.ts.max() or left == 0:
            told.append(None)
        elif later and later[0][1]:
            told.append(left <= horizon)
        else:
            told.append(False if left > horizon else None)
    return told


moments = st.integers(0, 60).map(float)
machines = st.dictionaries(st.sampled_from("abc"), st.lists(moments, min_size=1, max_size=12, unique=True), min_size=1)
pasts = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.tuples(moments, st.booleans()), max_size=3, unique_by=lambda e: e[0])
)


@settings(deadline=None, max_examples=150)
@given(hours=machines, history=pasts)
def test_a_failure_soon_is_learnt_where_it_is_known_whether_it_came(asking, hours, history):
    cls = asking(SOON)
    rows, past = rows_of(hours, {n: e for n, e in history.items() if n in hours})

    rul = question_of(cls).labels(rows, past)

    known = [None if np.isnan(left) else bool(left <= 8) for left in rul]
    assert known == soon_by_hand(rows, past, 8)


@settings(deadline=None, max_examples=100)
@given(hours=machines, history=pasts, later=moments)
def test_no_label_changes_when_more_is_known_later(asking, hours, history, later):
    """What is labelled at one time stands: later readings and events only add labels."""
    cls = asking(SOON)
    rows, past = rows_of(hours, {n: e for n, e in history.items() if n in hours})
    now = START + np.timedelta64(round(later * 3.6e9), "us")
    early = rows.ts <= now
    known = {n: ts <= now for n, ts in past.ts.items()}
    past_now = MaintenanceHistory(
        {n: ts[known[n]] for n, ts in past.ts.items()}, {n: f[known[n]] for n, f in past.failed.items()}
    )

    then = question_of(cls).labels(rows.take(early), past_now) <= 8
    unknown_then = np.isnan(question_of(cls).labels(rows.take(early), past_now))
    at_last = question_of(cls).labels(rows, past)[early] <= 8

    np.testing.assert_array_equal(then[~unknown_then], at_last[~unknown_then])


def test_normal_is_how_a_life_begins_and_not_what_comes_before_a_failure(asking):
    cls = asking(ODD)
    rows, past = rows_of({"a": list(range(100)), "b": list(range(100))}, {"a": [(44.0, True)]})

    normal = ~np.isnan(question_of(cls).labels(rows, past))

    of_a, of_b = np.flatnonzero(normal[:100]), np.flatnonzero(normal[100:])
    # The first life of `a` is read 45 times; within the cap of 30 hours of its failure nothing counts as normal.
    assert of_a.tolist() == [*range(5, 15), *range(45 + 5, 45 + 20)]
    assert of_b.tolist() == list(range(5, 20))


# How it is judged ---------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40).filter(
        lambda x: any(t for t, _ in x)
    )
)
def test_area_under_precision_and_recall_is_the_fields(rows):
    from sklearn.metrics import average_precision_score

    true, score = (np.array(column) for column in zip(*rows, strict=True))

    assert average_precision(true, score.astype(float)) == pytest.approx(average_precision_score(true, score))


def test_failures_are_foretold_on_machines_it_never_saw(learnt):
    cls, model, data, held, _, _ = learnt["soon"]
    scorer = scorer_of(learnt["soon"])
    probability, soon = scorer.predict(scorer.select(held.features)), held.rul <= 8

    assert average_precision(soon, probability) > 0.8
    assert 0 <= probability.min() <= probability.max() <= 1
    assert abs(probability.mean() - soon.mean()) < 0.05
    assert model.manifest["question"] == "failure_within"
    assert model.manifest["metrics"]["failures"] == question_of(cls).cases(data)
    assert 0 < model.manifest["policy"]["act_above"] < 1
    assert model.manifest["metrics"]["onnx_max_abs_diff"] < 1e-3


def test_wear_is_odd_and_its_beginning_is_not(learnt):
    _, model, _, held, features, _ = learnt["odd"]
    scorer = scorer_of(learnt["odd"])
    last = features.rows.ends - 1

    assert (scorer.predict(scorer.select(held.features)) >= 1).mean() < 0.05
    assert (scorer.predict(scorer.select(features.take(last))) >= 1).mean() > 0.9
    assert {name.partition(".")[2].partition("_")[0] for name in model.manifest["features"]} == {"mean", "std"}


@pytest.mark.parametrize("name", ["soon", "odd"])
def test_the_same_data_give_the_same_model_and_a_card(learnt, name):
    cls, model, data, _, _, baseline = learnt[name]

    again = train(cls, baseline.id, data, seed=1, workers=1)

    assert again.manifest == model.manifest
    assert again.onnx == model.onnx
    assert "cannot" in model.card
    json.loads(json.dumps(model.manifest, allow_nan=False))


@pytest.mark.parametrize("name", ["soon", "odd"])
def test_a_release_is_earned_once(learnt, name):
    cls, _, _, held, _, _ = learnt[name]
    scorer = scorer_of(learnt[name])

    first, again = compare(cls, held, scorer), compare(cls, held, scorer, incumbent=(scorer, held))
    nothing = compare(cls, held.take(np.zeros(len(held), bool)), scorer)

    assert first.passed, first.reasons
    assert not again.passed
    assert "No better than the release before" in again.reasons[-1]
    assert not nothing.passed
    assert "nothing can be judged" in nothing.reasons[0]


def test_a_model_of_shuffled_labels_earns_nothing(learnt):
    cls, _, data, held, _, baseline = learnt["soon"]
    shuffled = replace(data, X=data.X[np.random.default_rng(0).permutation(len(data))])
    useless = train(cls, baseline.id, shuffled, seed=1)

    verdict = compare(cls, held, Scorer(useless.onnx, useless.manifest))

    assert not verdict.passed
    assert "not below the rules'" in verdict.reasons[0]


@pytest.mark.parametrize(("name", "says"), [("soon", "were read of up to 8 hours before"), ("odd", "taken as normal")])
def test_too_little_is_no_model(learnt, name, says):
    cls, _, data, _, _, baseline = learnt[name]

    with pytest.raises(NoFailuresYet, match=says):
        train(cls, baseline.id, data.take(np.arange(10)))


# What an answer asks for --------------------------------------------------------------------------------------------


def advised(learnt, features):
    cls, baseline = learnt[0], learnt[-1]
    answers = prognose(cls, scorer_of(learnt), features, baseline=baseline.id)
    n = len(features)
    return answers, advise(cls, assess(cls, features), answers, releases=["v1"] * n, passed_over=[None] * n)


def test_a_probable_failure_is_acted_on_and_planned_with(learnt):
    features = learnt["soon"][4]
    ends = features.rows.ends - 1
    answers, told = advised(learnt["soon"], features.take(np.sort(np.concatenate((features.rows.starts + 15, ends)))))
    early, late = told[::2], told[1::2]

    assert {a.severity for a in early} <= {Severity.OK, Severity.WATCH}
    assert sum(a.severity == Severity.ACT for a in late) > 0.9 * len(late)
    worst = max(late, key=lambda a: a.failure_probability)
    assert worst.rul is None
    assert worst.act_by == worst.ts
    assert "Fails within 8 hours with a probability of" in worst.reason
    assert worst.component == "bearing"
    assert np.isnan(answers.rul).all()
    planned = maintenance_plan(learnt["soon"][0], told)
    assert {p.failure_probability for p in planned} <= {a.failure_probability for a in told}


def test_an_alarm_is_planned_for_and_a_gross_one_acted_on(learnt):
    cls, features = learnt["odd"][0], learnt["odd"][4]
    answers, told = advised(learnt["odd"], features)
    score = answers.risk

    assert {a.severity for a, s in zip(told, score, strict=True) if s < 0.8} == {Severity.OK}
    assert {a.severity for a, s in zip(told, score, strict=True) if 1 <= s < 1.5} == {Severity.PLAN}
    assert {a.severity for a, s in zip(told, score, strict=True) if s >= 1.5} == {Severity.ACT}
    alarm = next(a for a, s in zip(told, score, strict=True) if 1 <= s < 1.5)
    assert (alarm.act_by - alarm.ts).total_seconds() == cls.lead * 3600
    assert "unlike normal readings" in alarm.reason


def test_far_out_is_odd_but_silent_is_not_answered(learnt):
    features = learnt["odd"][4].take(np.arange(40))
    mean = [n.startswith("vibration.mean_") for n in features.names]
    features.matrix[3, mean] = 90.0
    features.matrix[5, mean] = np.nan

    answers, _ = advised(learnt["odd"], features)

    assert answers.abstained[[3, 5]].tolist() == [None, MISSING_INPUTS]
    assert answers.risk[3] > 3


def test_a_release_of_another_question_or_horizon_does_not_answer(learnt, asking):
    _, _, _, _, features, baseline = learnt["soon"]
    longer, odd = asking({"failure_within": {"horizon": 9}}), asking({"anomaly": {"normalReadings": 20, "warmUp": 5}})
    watchful = asking({"failure_within": {"horizon": 8, "watch": 0.3}})

    told = [
        set(prognose(cls, scorer_of(learnt["soon"]), features.take(np.arange(5)), baseline=baseline.id).abstained)
        for cls in (longer, odd, watchful)
    ]

    assert told == [{FEATURES_MISMATCH}, {FEATURES_MISMATCH}, {None}]


# What a class may say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "models", "says"),
    [
        ({}, {}, "is not one question"),
        ({"failure_within": {"horizon": 8}, "remaining_life": {}}, {}, "is not one question"),
        ({"failure_within": {}}, {}, "horizon is missing"),
        ({"failure_within": {"horizon": 30}}, {}, "not below the cap"),
        ({"failure_within": {"horizon": 8}}, {"candidates": ["ridge"]}, "ridge answers remaining_life"),
        ({"remaining_life": {}}, {"candidates": ["trimmed_distance"]}, "trimmed_distance answers anomaly"),
        ({"anomaly": {"normalReadings": 20, "warmUp": 20}}, {}, "warmUp is 20"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_place(asking, question, models, says):
    with pytest.raises(ConfigurationError, match=says) as error:
        asking(question, models=models)

    assert error.value.next_step


@pytest.mark.parametrize(
    ("question", "valid"),
    [
        ({"failure": {"horizon": 8}}, "failure_within"),
        ({"anomaly": {"normalReadings": 50, "weights": {"heat": 0.5}}}, "vibration"),
        ({"failure_within": {"horizon": 8, "days": 2}}, "watch"),
    ],
)
def test_an_unknown_name_lists_those_there_are(asking, question, valid):
    with pytest.raises(UnknownName) as error:
        asking(question)

    assert valid in error.value.valid
