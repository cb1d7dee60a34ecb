"""Where code keeps columns of its own, for speed or for workers without a catalog, they are those of the contracts."""

import dataclasses

import pytest

import maintenance.questions
from backbone import plugins
from backbone.contracts import Column, Contract
from backbone.errors import ContractError
from hybrid_assets.feature_tables import feature_schema
from hybrid_assets.prognosis_tables import PROGNOSIS_SCHEMA, answer_schema, prognosis_schema
from maintenance.advisories import Advisory
from maintenance.data_products import contracts_of, derived_changes
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract, is_equipment_class
from maintenance.plan import PlannedWork
from resources.catalog.contracts import SHIPPED, read_contracts

KNOWN = read_contracts([SHIPPED])
CLASSES = [equipment_class_from_contract(c) for c in KNOWN.values() if is_equipment_class(c)]
OF_QUESTIONS = plugins.load(maintenance.questions, "failure_within").columns
"""Columns that only some classes have."""
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.name)


@each_class
def test_prognoses(cls: EquipmentClass) -> None:
    schema = contracts_of(cls, KNOWN)["prognoses"].arrow_schema
    assert prognosis_schema(cls).equals(schema)
    assert set(answer_schema(cls).names) < set(schema.names)


def test_what_a_question_puts_in_is_there_for_classes_that_ask_it_and_for_no_others() -> None:
    put_in = {
        cls.name: (
            prognosis_schema(cls).names[len(PROGNOSIS_SCHEMA) :],
            "failure_probability" in contracts_of(cls, KNOWN)["advisories"].arrow_schema.names,
        )
        for cls in CLASSES
    }
    assert put_in == {
        "azure_machine": (["failure_probability", "act_above"], True),
        "pump_testbed": (["anomaly_score", "act_above"], False),
        "pump": ([], False),
        "turbofan": ([], False),
    }


@each_class
def test_features(cls: EquipmentClass) -> None:
    products = contracts_of(cls, KNOWN)
    assert feature_schema(cls).equals(products["condition_features"].arrow_schema)
    names = feature_schema(cls).names[4:]
    assert products["training_set"].arrow_schema.names == ["equipment_id", "ts", "life", "rul", *names]
    assert products["training_set"].inputs == tuple(names)


@each_class
def test_records_that_become_rows(cls: EquipmentClass) -> None:
    products = contracts_of(cls, KNOWN)
    for record, product, added in (
        (Advisory, "advisories", {"epoch", "date"}),
        (PlannedWork, "maintenance_plan", {"date"}),
    ):
        stored = set(products[product].arrow_schema.names)
        fields = getattr(record, "_fields", None) or [f.name for f in dataclasses.fields(record)]
        expected = {*fields, *added}
        assert expected - stored <= {c.name for c in OF_QUESTIONS.get(product, ())}
        assert stored <= expected


@each_class
def test_units_and_owner_are_those_of_the_class(cls: EquipmentClass) -> None:
    products = contracts_of(cls, KNOWN)
    assert products["prognoses"]["rul"].unit == cls.rul.unit
    assert products["maintenance_plan"]["cost_now"].unit == cls.cost.currency
    assert {c.owner for c in products.values()} == {cls.contract.owner}


def test_one_product_has_one_contract() -> None:
    twin = dataclasses.replace(KNOWN["advisories"], name="advisories_2", id="advisories-2")
    with pytest.raises(ContractError, match="advisories and advisories_2 are both of advisories"):
        contracts_of(CLASSES[0], {**KNOWN, "advisories_2": twin})


def test_a_change_of_a_class_that_breaks_what_follows_from_it_is_refused() -> None:
    pump = KNOWN["pump"]
    slower = dataclasses.replace(pump, settings=pump.settings | {"features": {"means": [12, 36]}})
    refused = derived_changes(KNOWN, {**KNOWN, "pump": slower})
    assert ("pump/condition_features", "column_removed") in {(c.contract, c.rule) for c in refused}
    hours = dataclasses.replace(
        pump, settings=pump.settings | {"remainingUsefulLife": {"unit": "hour", "seconds": 3600, "cap": 960}}
    )
    refused = derived_changes(KNOWN, {**KNOWN, "pump": hours})
    assert ("pump/prognoses", "unit_changed", "rul") in {(c.contract, c.rule, c.column) for c in refused}
    assert derived_changes(KNOWN, {**KNOWN, "pump": with_context(pump)}) == []


def with_context(contract: Contract) -> Contract:
    return dataclasses.replace(contract, columns=(*contract.columns, Column("shift", "string")))


def test_a_class_that_asks_another_question_adds_columns_and_cannot_take_them_back() -> None:
    pump = KNOWN["pump"]
    settings = {k: v for k, v in pump.settings.items() if k != "models"} | {
        "question": {"failure_within": {"horizon": 5}}
    }
    asking = {**KNOWN, "pump": dataclasses.replace(pump, version="2.0.0", settings=settings)}
    assert derived_changes(KNOWN, asking) == []
    refused = {(c.contract, c.column) for c in derived_changes(asking, KNOWN)}
    assert refused == {
        ("pump/prognoses", "failure_probability"),
        ("pump/prognoses", "act_above"),
        ("pump/advisories", "failure_probability"),
    }
