"""What the detector's figures on SKAB are worth elsewhere: on bent data, and where nothing is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from backbone.odcs import contract_from_odcs
from maintenance.equipment_class import equipment_class_from_contract
from maintenance.readings import MaintenanceHistory, readings_from_arrow
from maintenance.skab_benchmark import LabelledExperiment, alarms, evaluate
from resources.sources.skab import read_experiments

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "skab"
NOTHING = MaintenanceHistory({}, {})
LENGTH = 1150
"""Readings of a usual experiment."""

pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="SKAB's files are not beside the project (../shared)"),
]


@pytest.fixture(scope="module")
def testbed():
    document = yaml.safe_load((ROOT / "quality" / "contracts" / "pump_testbed.odcs.yaml").read_text())
    return equipment_class_from_contract(contract_from_odcs(document))


@pytest.fixture(scope="module")
def experiments():
    return read_experiments(DATA)


def of_sensors(readings: pa.Table, change) -> pa.Table:
    for place, name in enumerate(readings.column_names):
        if name not in ("equipment_id", "ts"):
            values = readings[name].to_numpy().astype(float)
            readings = readings.set_column(place, name, pa.array(change(values)))
    return readings


def noisy(readings, anomalous, random):
    """As much noise again as there is."""
    return of_sensors(readings, lambda v: v + random.normal(0, v[:400].std(), len(v))), anomalous


def rescaled(readings, anomalous, random):
    return of_sensors(readings, lambda v: v * random.uniform(0.5, 2) + random.normal()), anomalous


def gappy(readings, anomalous, random):
    kept = np.flatnonzero(random.random(len(anomalous)) > 0.2)
    return readings.take(pa.array(kept)), anomalous[kept]


def silent(readings, anomalous, random):
    return of_sensors(readings, lambda v: np.where(random.random(len(v)) < 0.3, np.nan, v)), anomalous


def spiky(readings, anomalous, random):
    return of_sensors(readings, lambda v: np.where(random.random(len(v)) < 0.005, v + 20 * v[:400].std(), v)), anomalous


def begun_too_late(readings, anomalous, random):
    """Of the readings that are taken as normal the last sixty are not."""
    cut = int(anomalous.argmax()) - 340
    return readings.slice(cut), anomalous[cut:]


@pytest.mark.parametrize("bend", [noisy, rescaled, gappy, silent, spiky, begun_too_late])
def test_faults_are_found_in_bent_data(testbed, experiments, bend):
    bent = []
    for number, experiment in enumerate(e for e in experiments if e.anomalous is not None):
        readings, anomalous = bend(experiment.readings, experiment.anomalous, np.random.default_rng(number))
        bent.append(LabelledExperiment(experiment.name, readings_from_arrow(testbed, readings, NOTHING), anomalous))

    figures = evaluate(testbed, bent)

    assert figures["f1"] >= 0.8
    assert figures["far_pct"] <= 20
    assert figures["f1_low"] <= figures["f1"] <= figures["f1_high"]


def test_where_nothing_is_wrong_a_usual_experiment_gives_alarm_on_less_than_a_third(testbed, experiments):
    (calm,) = (e.readings for e in experiments if e.anomalous is None)

    shares = [
        alarms(testbed, readings_from_arrow(testbed, calm.slice(first, LENGTH), NOTHING)).mean()
        for first in range(0, calm.num_rows - LENGTH, LENGTH // 2)
    ]

    assert np.mean(shares) <= 0.3
    assert np.median(shares) <= 0.25
