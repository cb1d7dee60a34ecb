"""How far sensors have moved is told against the training set of the release that serves, from telemetry as it is."""

import base64
import hashlib
import json
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from backbone.windows import WindowRange
from hybrid_assets.feature_tables import features_to_arrow
from hybrid_assets.fleet import Fleet
from hybrid_assets.release_drift import drift_since_release, training_reference
from hybrid_assets.workers.training_files import BASELINE, DRIFT_REFERENCE, MANIFEST, MODEL
from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import equipment_class_from_contract
from maintenance.readings import MaintenanceHistory, readings_from_arrow
from resources.home import Home
from resources.plant import Plant
from tests.scenarios.installation import Installation

SITE = """\
[calendar]
first_day = 2025-01-01
[fleets.pump]
source = { kind = "files" }
"""
FIRST, TRAINED, LIVED, A_DAY, MACHINES = date(2025, 1, 1), 70, 105, 4, 6
DRIFTS_FROM = FIRST + timedelta(days=LIVED - 21)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """Pumps whose vibration sensors read two standard deviations more in the last three weeks."""
    made = Installation(Home(tmp_path_factory.mktemp("drift") / "home").prepare())
    made.add_site("north", SITE)
    plant = made.plant()
    rows = telemetry(fleet_of(plant))
    plant.table("pump", "telemetry").replace(WindowRange("north", FIRST, rows["date"][-1].as_py()), rows, run_id="r")
    return plant


def fleet_of(plant: Plant) -> Fleet:
    known = plant.catalog.contracts
    return Fleet(equipment_class_from_contract(known["pump"]), tuple(plant.catalog.with_class("pump")), known)


def telemetry(fleet: Fleet) -> pa.Table:
    contract, random = fleet.equipment_class.contract, np.random.default_rng(5)
    n = LIVED * A_DAY
    at = np.datetime64(FIRST, "us") + np.arange(n) * np.timedelta64(86_400_000_000 // A_DAY, "us")
    parts = []
    for machine in range(MACHINES):
        load = random.normal(0, 1, n)
        values = {name: 50 + 0.5 * load + random.normal(0, 1, n) for name in contract.inputs}
        values["vibration_mm_s"] += np.where(at >= np.datetime64(DRIFTS_FROM), 2, 0)
        parts.append(
            pa.table(
                {
                    "equipment_id": [f"p{machine}"] * n,
                    "ts": pa.array(at).cast(pa.timestamp("us", tz="UTC")),
                    "date": pa.array(at.astype("datetime64[D]")),
                    **values,
                    **{name: np.full(n, 1500.0) for name in contract.with_role("setting")},
                }
            )
        )
    return pa.concat_tables(parts)


def released(plant: Plant, *, with_reference: bool = True) -> None:
    """A release that learnt from all readings of the first days."""
    fleet = fleet_of(plant)
    cls, until = fleet.equipment_class, FIRST + timedelta(days=TRAINED - 1)
    rows = plant.table("pump", "telemetry").read("north", FIRST, until)
    readings = readings_from_arrow(cls, rows, MaintenanceHistory({}, {}))
    baseline = fit_baseline(cls, readings)
    features, _ = compute_features(cls, baseline, readings)
    reference = training_reference(fleet, "north", features_to_arrow(features, baseline.id), features)
    arrived = plant.root("on_prem") / "arrived"
    arrived.mkdir(parents=True)
    files = {MODEL: b"", BASELINE: baseline.to_json().encode()}
    if with_reference:
        files[DRIFT_REFERENCE] = json.dumps(reference.to_json()).encode()
    for name, content in files.items():
        (arrived / name).write_bytes(content)
    digests = {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in files.items()}
    (arrived / MANIFEST).write_text(json.dumps({"digests": digests}))
    plant.registry("pump").publish(arrived, additions={})


def test_it_is_told_since_a_release_that_says_what_it_learnt_from(plant: Plant) -> None:
    fleet, days = fleet_of(plant), WindowRange("north", FIRST, FIRST + timedelta(days=LIVED - 1))
    assert drift_since_release(plant, fleet, days) is None, "nothing is released"
    released(plant, with_reference=False)
    assert drift_since_release(plant, fleet, days) is None, "a release of before references were kept"

    released(plant)
    told = drift_since_release(plant, fleet, days)
    assert told is not None
    daily = told.daily()
    assert {numbers["drift_since"] for numbers in daily.values()} == {2}
    assert {day for day, numbers in daily.items() if numbers["drifted_sensors"]} <= {
        DRIFTS_FROM + timedelta(days=n) for n in range(21)
    }
    last = max(daily)
    assert last == days.last
    assert daily[last]["drifted_sensors"] == 1
    newest = [row for row in told.profile.to_pylist() if row["date"] == last]
    worst = max(newest, key=lambda row: row["psi"])
    assert worst["column"] == "vibration_mm_s.last"
    assert daily[last]["drift_psi"] == worst["psi"] > worst["allowed"]

    # Telemetry against the release's baseline is what its features are: months it learnt from are as usual, exactly.
    allowed = float(fleet.contracts["condition_features"].rule("drift").parameters["psi_above"])  # type: ignore[union-attr]
    learnt = [row for row in told.profile.to_pylist() if row["date"] < FIRST + timedelta(days=TRAINED)]
    most = {name: max(r["psi"] for r in learnt if r["column"] == name) for name in {r["column"] for r in learnt}}
    assert most == pytest.approx({row["column"]: row["allowed"] - allowed for row in learnt})

    only = drift_since_release(plant, fleet, WindowRange("north", last, last))
    assert only is not None
    assert only.daily() == {last: daily[last]}, "a window alone is told as among others"
    (shown,) = only.pictures().values()
    png = base64.b64decode(shown.value.split("base64,")[1].rstrip(")"))
    assert png.startswith(b"\x89PNG")


def test_too_few_days_tell_nothing(plant: Plant) -> None:
    told = drift_since_release(plant, fleet_of(plant), WindowRange("north", FIRST, FIRST + timedelta(days=5)))
    assert told is not None
    assert told.daily() == told.pictures() == {}
