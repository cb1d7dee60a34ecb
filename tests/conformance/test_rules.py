"""Every rule, whatever is discovered, keeps the port's promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import maintenance.rules
from backbone import plugins
from backbone.contracts import Contract
from backbone.errors import ConfigurationError, UnknownName
from backbone.odcs import contract_from_odcs
from maintenance.assessments import Finding, RuleSpec, Severity, assess
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.features import Features, feature_names
from maintenance.readings import Rows

NAMES = plugins.names(maintenance.rules)


def _contract(**settings: object) -> Contract:
    keys = [
        {"name": "equipment_id", "logicalType": "string", "primaryKey": True},
        {"name": "ts", "logicalType": "timestamp", "primaryKey": True},
    ]
    role = [{"property": "unit", "value": "degC"}, {"property": "role", "value": "input"}]
    sensors = [{"name": n, "logicalType": "number", "customProperties": role} for n in ("inlet", "outlet", "wall")]
    custom = {"remainingUsefulLife": {"unit": "hour", "seconds": 3600, "cap": 30}} | settings
    return contract_from_odcs(
        {
            "id": "boiler",
            "version": "1.0.0",
            "schema": [{"name": "telemetry", "properties": keys + sensors}],
            "customProperties": [{"property": k, "value": v} for k, v in custom.items()],
        }
    )


def _needed(spec: RuleSpec) -> dict[str, float]:
    """A number for every setting that has no default."""
    return {
        f.name: 10.0
        for f in dataclasses.fields(spec.settings)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }


def _features(cls: EquipmentClass, matrix: np.ndarray) -> Features:
    n = len(matrix)
    ts = np.datetime64("2025-01-01", "us") + np.arange(n) * np.timedelta64(1, "h")
    nought = np.zeros(n, dtype=np.int64)
    return Features(Rows(np.array(["boiler-1"], dtype=object), nought, ts, nought), feature_names(cls), matrix)


@pytest.fixture(params=NAMES)
def rule(request) -> RuleSpec:
    return plugins.load(maintenance.rules, request.param)


@pytest.fixture
def boiler(rule) -> EquipmentClass:
    return equipment_class_from_contract(_contract(rules={rule.name: _needed(rule)}))


def _find(rule: RuleSpec, cls: EquipmentClass, matrix: np.ndarray) -> Finding:
    return rule.assess(cls, cls.rules[rule.name], _features(cls, matrix))


def test_there_are_rules():
    assert NAMES


def test_it_says_what_it_does_and_what_it_cannot(rule):
    assert isinstance(rule, RuleSpec)
    assert rule.summary.endswith(".")
    assert rule.cannot
    assert dataclasses.is_dataclass(rule.settings)


def test_an_unknown_setting_lists_the_valid_ones(rule):
    with pytest.raises(UnknownName) as error:
        equipment_class_from_contract(_contract(rules={rule.name: _needed(rule) | {"color": "red"}}))

    assert len(error.value.valid) == len(dataclasses.fields(rule.settings))


def test_a_threshold_below_zero_is_refused(rule):
    number = dataclasses.fields(rule.settings)[0]

    with pytest.raises(ConfigurationError, match="boiler"):
        equipment_class_from_contract(_contract(rules={rule.name: _needed(rule) | {number.name: -1}}))


def test_findings_have_one_value_a_row(rule, boiler):
    finding = _find(rule, boiler, np.random.default_rng(0).normal(0, 2, (50, len(feature_names(boiler)))))

    assert finding.severity.shape == finding.rul.shape == finding.sensor.shape == (50,)
    assert set(finding.severity.tolist()) <= {int(s) for s in Severity}
    assert (np.isnan(finding.rul) | (finding.rul >= 0)).all()
    assert ((finding.sensor >= -1) & (finding.sensor < len(boiler.contract.inputs))).all()
    assert all(finding.explain(row) for row in np.flatnonzero(finding.severity > Severity.OK))


def test_a_normal_new_machine_is_left_alone(rule, boiler):
    finding = _find(rule, boiler, np.zeros((3, len(feature_names(boiler)))))

    assert (finding.severity == Severity.OK).all()


def test_silent_sensors_raise_no_alarm(rule, boiler):
    matrix = np.full((3, len(feature_names(boiler))), np.nan)
    matrix[:, -1] = 0.0

    finding = _find(rule, boiler, matrix)

    assert set(finding.severity.tolist()) <= {Severity.UNKNOWN, Severity.OK}


def test_one_silent_sensor_does_not_silence_the_rule(rule, boiler):
    matrix = np.full((1, len(feature_names(boiler))), 50.0)
    for j, name in enumerate(feature_names(boiler)):
        if name.startswith("outlet."):
            matrix[:, j] = np.nan

    finding = _find(rule, boiler, matrix)

    assert finding.severity[0] >= Severity.PLAN
    assert finding.sensor[0] != boiler.contract.inputs.index("outlet")


def test_a_row_is_judged_by_itself_only(rule, boiler):
    matrix = np.random.default_rng(1).normal(0, 2, (40, len(feature_names(boiler))))

    whole, alone = _find(rule, boiler, matrix), _find(rule, boiler, matrix[10:11])

    assert whole.severity[10] == alone.severity[0]
    np.testing.assert_array_equal(whole.rul[10:11], alone.rul)


def test_no_rows_are_no_error(rule, boiler):
    assert len(_find(rule, boiler, np.empty((0, len(feature_names(boiler))))).severity) == 0
    assert len(assess(boiler, _features(boiler, np.empty((0, len(feature_names(boiler))))))) == 0
