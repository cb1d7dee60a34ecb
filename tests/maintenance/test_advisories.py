from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from maintenance.advisories import NO_RELEASE, RULES, SAFE_DEFAULT, advise
from maintenance.assessments import Severity, assess
from maintenance.features import Features, feature_names
from maintenance.maintenance_plan import plan
from maintenance.prognosis import MISSING_INPUTS, Prognoses
from maintenance.readings import Rows

NAMES = ("worn", "quiet", "drifting", "dark")


@pytest.fixture
def features(fan):
    """Two readings of four fans, the newer one telling: one worn, one as new, one on its way, one silent."""
    names = feature_names(fan)
    machine = np.repeat(np.arange(4), 2)
    ts = np.tile(np.datetime64("2025-06-01T00:00", "us") + np.array([0, 1]) * np.timedelta64(1, "h"), 4)
    matrix = np.zeros((8, len(names)))
    matrix[:, names.index("age")] = 100.0
    matrix[1, names.index("vibration.mean_3")] = 4.0
    matrix[5, names.index("vibration.mean_3")] = 0.5
    matrix[5, names.index("vibration.slope_12")] = 0.4
    matrix[7, :-1] = np.nan
    return Features(Rows(np.array(NAMES, dtype=object), machine, ts, np.zeros(8, dtype=int)), names, matrix)


@pytest.fixture
def prognoses(features):
    def of(**rul):
        full = np.full(8, np.nan)
        full[features.rows.latest] = [rul.get(name, np.nan) for name in NAMES]
        reasons = np.where(np.isnan(full), MISSING_INPUTS, None)
        driver = np.where(full < 10, "vibration", None)
        return Prognoses(features.rows, full, full * 0.5, full * 1.5, driver, full * 0 + 3, reasons, act_below=4.0)

    return of


def _by_name(advisories):
    return {a.equipment: a for a in advisories}


def test_without_a_release_the_rules_serve_and_say_so(fan, features):
    advisories = advise(fan, features, assess(fan, features), None)

    assert {a.fallback_reason for a in advisories} == {NO_RELEASE}
    assert all(a.degraded for a in advisories)
    by_name = _by_name(advisories)
    assert {name: a.served_by for name, a in by_name.items()} == {
        "worn": RULES,
        "quiet": RULES,
        "drifting": RULES,
        "dark": SAFE_DEFAULT,
    }
    worn = by_name["worn"]
    assert (worn.severity, worn.component, worn.act_by) == (Severity.ACT, "bearing", worn.ts)
    assert "bearing now" in worn.action
    assert "vibration" in worn.reason
    assert by_name["quiet"].act_by is None
    assert by_name["drifting"].severity == Severity.PLAN
    assert by_name["drifting"].rul == pytest.approx(5)
    assert by_name["drifting"].act_by == by_name["drifting"].ts + timedelta(hours=5)
    assert by_name["dark"].action.startswith("Inspect")


def test_the_model_serves_where_it_can_and_the_rules_where_it_abstains(fan, features, prognoses):
    advisories = advise(fan, features, assess(fan, features), prognoses(worn=3, quiet=29, drifting=8), release="v3")

    by_name = _by_name(advisories)
    assert {a.served_by for a in advisories if a.equipment != "dark"} == {"model:v3"}
    assert by_name["worn"].severity == Severity.ACT
    assert by_name["quiet"].severity == Severity.OK
    assert by_name["drifting"].severity == Severity.PLAN
    assert by_name["drifting"].act_by == by_name["drifting"].ts + timedelta(hours=4)
    assert (by_name["drifting"].rul_low, by_name["drifting"].rul_high) == (4, 12)
    assert not by_name["drifting"].degraded
    assert by_name["dark"].fallback_reason == MISSING_INPUTS
    assert by_name["dark"].degraded


def test_the_most_urgent_comes_first_and_the_cost_of_waiting_is_given(fan, features, prognoses):
    advisories = advise(fan, features, assess(fan, features), prognoses(worn=3, quiet=29, drifting=8), release="v3")

    work = plan(fan, advisories)

    assert [w.equipment for w in work] == ["worn", "drifting", "dark", "quiet"]
    assert [w.rank for w in work] == [1, 2, 3, 4]
    by_name = {w.equipment: w for w in work}
    assert by_name["worn"].failure_probability > 0.9
    assert by_name["worn"].saving > 0
    assert by_name["quiet"].failure_probability < 0.05
    assert by_name["quiet"].saving < 0
    assert by_name["dark"].saving is None


def test_waiting_costs_more_the_less_life_is_left(fan, features, prognoses):
    def saving(rul):
        (worn,) = (
            a for a in advise(fan, features, assess(fan, features), prognoses(worn=rul)) if a.equipment == "worn"
        )
        return plan(fan, [worn])[0].saving

    savings = [saving(rul) for rul in (1, 3, 6, 9, 15, 25)]

    assert savings == sorted(savings, reverse=True)


def test_an_empty_window_has_no_advisories(fan, features):
    nothing = features.take(np.zeros(8, dtype=bool))

    assert advise(fan, nothing, assess(fan, nothing), None) == ()
    assert plan(fan, ()) == ()
