"""Classes that ask for a failure soon, or for what is odd: served by a model, with a plan, by the same command."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import yaml

from quality.profiles import DRIFT_LEAST_DAYS
from resources.catalog.contracts import SHIPPED
from resources.home import Home
from tests.scenarios.installation import Installation

SITE = """\
[calendar]
first_day = 2025-01-01
last_day = 2025-02-20

[fleets.pump_soon]
source = { kind = "simulator", seed = 2, pumps = 16, readings_per_day = 4, mean_life_days = 12 }

[fleets.pump_odd]
source = { kind = "simulator", seed = 2, pumps = 16, readings_per_day = 4, mean_life_days = 12 }
"""
CLASSES: dict[str, dict[str, Any]] = {
    "pump_soon": {
        "question": {"failure_within": {"horizon": 3}},
        "models": {"fitRows": 4000},
    },
    "pump_odd": {
        "question": {"anomaly": {"normalReadings": 24, "warmUp": 6, "mostFalseAlarms": 0.2}},
        "remainingUsefulLife": {"unit": "day", "seconds": 86400, "cap": 4},
        "models": {"heldOut": 0.3},
    },
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Installation, dict[str, Any]]:
    made = Installation(Home(tmp_path_factory.mktemp("questions") / "home").prepare())
    for name, changed in CLASSES.items():
        _write(made.home.contracts / f"{name}.odcs.yaml", name, changed)
    made.add_site("north", SITE)
    return made, made.hybrid("run", "--site", "north", checks=True)


def _write(path: Path, name: str, changed: dict[str, Any]) -> None:
    """The pump that ships, as a class of its own with other settings."""
    document = yaml.safe_load((SHIPPED / "pump.odcs.yaml").read_text())
    document |= {"id": f"{name}-telemetry", "name": name}
    settings = {p["property"]: p["value"] for p in document["customProperties"]} | {
        "features": {"means": [4, 12], "deviations": [12], "slopes": [12], "averages": [], "levelReadings": 8}
    }
    del settings["models"]
    document["customProperties"] = [{"property": k, "value": v} for k, v in (settings | changed).items()]
    path.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize("name", CLASSES)
def test_a_release_is_earned_and_serves_the_newest_window(served: Any, name: str) -> None:
    installation, report = served
    assert report["fleets"][name]["releases"] == 1
    advised = installation.plant("north").advisories(name).read("north")
    newest = advised.filter(pc.equal(advised["date"], pc.max(advised["date"])))
    assert set(newest["served_by"].to_pylist()) == {"model:v1"}
    assert set(newest["rul"].to_pylist()) == {None}


@pytest.mark.parametrize(("name", "picture"), [("pump_soon", "calibration"), ("pump_odd", "false_alarms")])
def test_a_release_shows_whether_it_is_as_sure_as_it_says(served: Any, name: str, picture: str) -> None:
    for asset in ("trained_model", "model_evaluation", "model_release"):
        (told,) = served[0].metadata(name, asset)
        for drawn in ("predicted_against_true", picture):
            assert told[drawn].startswith("![](data:image/png;base64,")
        assert "interval_coverage" not in told
    windows = served[0].metadata(name, "prognoses")
    # Dagster stores the windows of one run in no order, and the first of them have too little before them to judge.
    since = [w["drift_since"] for w in windows if "drift_since" in w]
    assert since == [1] * (51 - DRIFT_LEAST_DAYS + 1)
    assert all(w["feature_drift"].startswith("![](data:image/png;base64,") for w in windows)


def test_probabilities_are_stored_and_planned_with(served: Any) -> None:
    plant = served[0].plant("north")
    prognoses = plant.table("pump_soon", "prognoses").read("north")
    answered = prognoses.filter(pc.is_null(prognoses["abstained"]))
    probability = answered["failure_probability"].to_numpy()
    assert answered.num_rows > 100
    assert ((probability >= 0) & (probability <= 1)).all()
    history = plant.table("pump_soon", "maintenance_history").read("north")
    failed = [(r["equipment_id"], r["ts"]) for r in history.to_pylist() if r["event"] == "failure"]

    def days_left(row: dict[str, Any]) -> float:
        left = [(ts - row["ts"]).total_seconds() / 86400 for machine, ts in failed if machine == row["equipment_id"]]
        return min((days for days in left if days >= 0), default=np.inf)

    days = np.array([days_left(row) for row in answered.to_pylist()])
    assert probability[days <= 2].mean() > 2 * probability[days > 6].mean()

    planned = plant.table("pump_soon", "maintenance_plan").read("north")
    by_model = planned.filter(pc.starts_with(planned["served_by"], "model"))
    assert by_model.num_rows
    assert by_model["failure_probability"].null_count == 0
    advised = plant.advisories("pump_soon").read("north")
    reasons = advised.filter(pc.starts_with(advised["served_by"], "model"))["reason"].to_pylist()
    assert all("Fails within 3 days with a probability of" in reason for reason in reasons)


def test_scores_are_stored_and_alarms_are_planned(served: Any) -> None:
    plant = served[0].plant("north")
    prognoses = plant.table("pump_odd", "prognoses").read("north")
    answered = prognoses.filter(pc.is_null(prognoses["abstained"]))
    assert answered.num_rows > 100
    assert set(answered["act_above"].to_pylist()) == {1.0}
    alarms = {
        (r["equipment_id"], r["date"]) for r in answered.to_pylist() if r["anomaly_score"] >= 1 and r["release"] == 1
    }
    planned = plant.table("pump_odd", "maintenance_plan").read("north")
    assert alarms
    assert alarms <= {(r["equipment_id"], r["date"]) for r in planned.to_pylist()}


@pytest.mark.parametrize("name", CLASSES)
def test_windows_hold_their_contracts(served: Any, name: str) -> None:
    verdicts = served[0].plant("north").verdicts(name)
    assert verdicts.blocked() == {}
