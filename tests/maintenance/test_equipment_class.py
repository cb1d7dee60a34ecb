from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from backbone.errors import ConfigurationError, UnknownName
from backbone.odcs import contract_from_odcs
from maintenance.equipment_class import equipment_class_from_contract, is_equipment_class
from maintenance.features import feature_digest, feature_names

CONTRACTS = Path(__file__).parents[2] / "quality" / "contracts"
RUL = {"unit": "hour", "seconds": 3600, "cap": 30}


def test_remaining_useful_life_is_all_a_class_needs(make_fan):
    fan = equipment_class_from_contract(make_fan(remainingUsefulLife=RUL))

    assert (fan.name, fan.rul.unit, fan.rul.cap) == ("fan", "hour", 30)
    assert set(fan.rules) == {"level", "trend"}
    assert "hist_gradient_boosting" in fan.models.candidates
    assert fan.cost.failure > fan.cost.planned
    assert fan.lead == 6


def test_a_contract_without_it_is_no_class(make_fan):
    assert not is_equipment_class(make_fan())
    with pytest.raises(ConfigurationError, match="remainingUsefulLife"):
        equipment_class_from_contract(make_fan())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sensors": {}}, "operatingBaseline"),
        ({"features": {"mean": [5]}}, "means"),
        ({"rules": {"levels": {}}}, "trend"),
        ({"rules": {"level": {"stop": 3}}}, "agreeing"),
        ({"rules": {"level": {"harmful": {"heat": "up"}}}}, "vibration"),
        ({"models": {"candidates": ["oracle"]}}, "ridge"),
    ],
)
def test_an_unknown_name_lists_the_valid_ones(make_fan, settings, named):
    with pytest.raises(UnknownName) as error:
        equipment_class_from_contract(make_fan(remainingUsefulLife=RUL, **settings))

    assert named in error.value.valid


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"remainingUsefulLife": {"unit": "hour", "seconds": 3600}}, "cap is missing"),
        ({"remainingUsefulLife": RUL | {"cap": 0}}, "cap is 0"),
        ({"remainingUsefulLife": RUL | {"cap": "long"}}, "cap is 'long'"),
        ({"features": {"means": [10, 5]}}, r"means are \[10, 5\]"),
        ({"features": {"slopes": [2]}}, r"slopes are \[2\]"),
        ({"features": {"averages": [1.5]}}, "averages.0 is 1.5"),
        ({"features": [5]}, "no table"),
        ({"rules": {"trend": {"harmful": {"vibration": "sideways"}}}}, "sideways"),
        ({"models": {"candidates": []}}, "candidates"),
        ({"rules": {}}, "names no rule"),
        ({"rules": {"age": {}}}, "life is missing"),
        ({"rules": {"level": {"watch": 3, "plan": 2}}}, "watch, plan and act"),
        ({"models": {"folds": 5, "minimumFailures": 3}}, "minimumFailures is 3"),
        ({"models": {"heldOut": 1}}, "held_?[oO]ut is 1"),
        ({"cost": {"planned": 5, "failure": 5}}, "failure costs 5"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(make_fan, settings, says):
    with pytest.raises(ConfigurationError, match=says) as error:
        equipment_class_from_contract(make_fan(**{"remainingUsefulLife": RUL} | settings))

    assert "fan" in str(error.value)
    assert error.value.next_step


def test_the_digest_follows_what_features_mean(make_fan):
    def digest(**settings):
        return feature_digest(equipment_class_from_contract(make_fan(**{"remainingUsefulLife": RUL} | settings)))

    assert digest() == digest(models={"folds": 3})
    assert digest() != digest(features={"levelReadings": 11})
    assert digest() != digest(remainingUsefulLife=RUL | {"seconds": 60})


@pytest.mark.parametrize("name", ["pump", "turbofan"])
def test_the_classes_that_come_along_are_sound(name):
    document = yaml.safe_load((CONTRACTS / f"{name}.odcs.yaml").read_text())
    cls = equipment_class_from_contract(contract_from_odcs(document))

    names = feature_names(cls)
    assert len(set(names)) == len(names)
    assert cls.component(cls.contract.inputs[-1]) != cls.contract.inputs[-1]
