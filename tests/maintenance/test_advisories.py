from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from maintenance.advisories import RULES, SAFE_DEFAULT, advise
from maintenance.assessments import Severity, assess
from maintenance.equipment_class import SafeDefaultSettings
from maintenance.features import Features, feature_names
from maintenance.plan import maintenance_plan
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
    """Prognoses of the newest rows, given RUL by machine; the model abstains from all others."""

    def of(abstained=MISSING_INPUTS, **rul):
        full = np.array([rul.get(name, np.nan) for name in NAMES], dtype=float)
        reasons = np.where(np.isnan(full), abstained, None)
        driver = np.where(full < 10, "vibration", None)
        rows = features.rows.take(features.rows.latest)
        return Prognoses(rows, full, full * 0.5, full * 1.5, driver, full * 0 + 3, reasons, np.full(4, 4.0))

    return of


@pytest.fixture
def advised(fan, features, prognoses):
    newest = features.take(features.rows.latest)

    def of(release="v3", passed_over=None, cls=fan, abstained=MISSING_INPUTS, **rul):
        asked = prognoses(**({"abstained": abstained} | rul))
        given = {"releases": [release] * len(asked), "passed_over": [passed_over] * len(asked)}
        told = advise(cls, assess(cls, newest), asked, **given)
        return {a.equipment_id: a for a in told}

    return of


def test_without_a_release_the_rules_serve_and_say_so(advised):
    by_name = advised(abstained="no_release", release=None)

    assert {a.fallback_reason for a in by_name.values()} == {"no_release"}
    assert all(a.degraded for a in by_name.values())
    assert {name: a.served_by for name, a in by_name.items()} == {
        "worn": RULES,
        "quiet": RULES,
        "drifting": RULES,
        "dark": SAFE_DEFAULT,
    }
    worn, drifting = by_name["worn"], by_name["drifting"]
    assert (worn.severity, worn.component, worn.act_by) == (Severity.ACT, "bearing", worn.ts)
    assert "bearing now" in worn.action
    assert "vibration" in worn.reason
    assert by_name["quiet"].act_by is None
    assert drifting.severity == Severity.PLAN
    assert drifting.rul == pytest.approx(5)
    assert drifting.act_by == drifting.ts + timedelta(hours=5)
    assert by_name["dark"].action.startswith("Inspect")


def test_the_model_serves_where_it_can_and_the_rules_where_it_abstains(advised):
    by_name = advised(worn=3, quiet=29, drifting=8)

    drifting, dark = by_name["drifting"], by_name["dark"]
    assert {a.served_by for name, a in by_name.items() if name != "dark"} == {"model:v3"}
    assert by_name["worn"].severity == Severity.ACT
    assert by_name["quiet"].severity == Severity.OK
    assert drifting.severity == Severity.PLAN
    assert drifting.act_by == drifting.ts + timedelta(hours=4)
    assert (drifting.rul_low, drifting.rul_high) == (4, 12)
    assert not drifting.degraded
    assert (dark.fallback_reason, dark.degraded) == (MISSING_INPUTS, True)


def test_where_the_class_names_no_component_the_work_is_told_by_the_sensor_to_look_at(fan, advised):
    sensor = fan.contract["vibration"]
    silent = replace(sensor, attributes={n: v for n, v in sensor.attributes.items() if n != "component"})
    columns = tuple(silent if column.name == "vibration" else column for column in fan.contract.columns)
    unnamed = replace(fan, contract=replace(fan.contract, columns=columns))
    by_name = advised(cls=unnamed, abstained="no_release", release=None)

    assert by_name["drifting"].action == "Plan work; look at vibration."
    assert by_name["worn"].action == "Overhaul or replace the machine now; look at vibration."
    assert by_name["quiet"].action == "Nothing to do."
    assert advised(abstained="no_release", release=None)["drifting"].action == "Plan work on the bearing."


def test_an_older_release_serves_as_degraded(advised):
    worn = advised(release="v2", passed_over="unverified", worn=3)["worn"]

    assert (worn.served_by, worn.fallback_reason, worn.degraded) == ("model:v2", "unverified", True)


def test_each_row_is_served_by_its_own_release_at_its_own_threshold(fan, features, prognoses):
    newest = features.take(features.rows.latest)
    asked = replace(prognoses(worn=6, quiet=6), act_below=np.array([5.9, 6.1, 4.0, 4.0]))
    releases, passed_over = ["v3", "v2", None, None], [None, "breaker_open", None, None]

    told = advise(fan, assess(fan, newest), asked, releases=releases, passed_over=passed_over)

    assert [a.served_by for a in told] == ["model:v3", "model:v2", RULES, SAFE_DEFAULT]
    assert [a.fallback_reason for a in told] == [None, "breaker_open", MISSING_INPUTS, MISSING_INPUTS]
    assert [a.degraded for a in told] == [False, True, True, True]
    assert (told[0].severity, told[1].severity) == (Severity.PLAN, Severity.ACT)


def test_the_safe_default_is_the_one_its_class_states(fan, advised):
    stated = replace(fan, safe_default=SafeDefaultSettings(action="Stop the fan.", within=2.0))
    dark, usual = (advised(cls=cls)["dark"] for cls in (stated, fan))

    assert (dark.action, dark.act_by) == ("Stop the fan.", dark.ts + timedelta(hours=2))
    assert (usual.action[:7], usual.act_by) == ("Inspect", usual.ts + timedelta(hours=fan.lead))
    assert (dark.severity, dark.served_by, dark.degraded) == (Severity.UNKNOWN, SAFE_DEFAULT, True)


def test_the_most_urgent_comes_first_and_the_cost_of_waiting_is_given(fan, advised):
    work = maintenance_plan(fan, tuple(advised(worn=3, quiet=29, drifting=8).values()))

    assert [w.equipment_id for w in work] == ["worn", "drifting", "dark"]
    assert [w.rank for w in work] == [1, 2, 3]
    worn, drifting, dark = work
    assert worn.failure_probability > 0.9
    assert worn.cost_of_waiting > drifting.cost_of_waiting > drifting.cost_now
    assert dark.cost_of_waiting is None


def test_waiting_costs_more_the_less_life_is_left(fan, advised):
    def cost(rul):
        return maintenance_plan(fan, [advised(worn=rul)["worn"]])[0].cost_of_waiting

    costs = [cost(rul) for rul in (0.5, 2, 4, 6, 8, 10)]

    assert costs == sorted(costs, reverse=True)


def test_an_empty_window_has_no_advisories(fan, features):
    nothing = features.take(np.zeros(8, dtype=bool))
    none, nobody = np.empty(0), np.empty(0, dtype=object)
    empty = Prognoses(nothing.rows, none, none, none, nobody, none, nobody, none)

    assert advise(fan, assess(fan, nothing), empty, releases=[], passed_over=[]) == ()
    assert maintenance_plan(fan, ()) == ()
