"""What a plant stores holds the contract of its product: names, types, keys, ranges, and every document."""

import json
from datetime import date

import pyarrow.compute as pc
import pytest

from backbone.contracts import Contract
from backbone.document_checks import document_findings
from backbone.row_checks import row_check
from maintenance.data_products import contracts_of
from maintenance.equipment_class import equipment_class_from_contract
from resources.catalog.contracts import SHIPPED, read_contracts
from resources.landing import PROVENANCE
from tests.scenarios.installation import Installation

KNOWN = read_contracts([SHIPPED])
PRODUCTS = contracts_of(equipment_class_from_contract(KNOWN["pump"]), KNOWN)
TABLES = [name for name, contract in PRODUCTS.items() if not contract.document]
OF_GATEWAYS = {"dead_letters"}
"""Only where a gateway takes readings in, and not this plant's."""


@pytest.mark.parametrize("product", [name for name in TABLES if name not in OF_GATEWAYS])
def test_a_stored_table_is_as_its_contract_says(served: Installation, product: str) -> None:
    contract, plant = PRODUCTS[product], served.plant()
    table = plant.advisories("pump") if product == "advisories" else plant.table("pump", product)
    rows = table.read("north")
    assert rows.num_rows > 0
    landed = set(PROVENANCE.names) if product in ("telemetry", "maintenance_history") else set()
    assert set(rows.column_names) == {*contract.arrow_schema.names, "site", "date", *landed}
    assert rows.select(contract.arrow_schema.names).schema.equals(contract.arrow_schema)
    reasons = row_check(contract)(rows, date(2025, 1, 1), date(2025, 3, 1))
    assert pc.value_counts(reasons.drop_null()).to_pylist() == []


def test_every_document_is_as_its_contract_says(served: Installation) -> None:
    plant = served.plant()
    kept = {
        "operating_baseline": plant.baselines("pump"),
        "trained_model": plant.candidates("pump"),
        "model_evaluation": plant.evaluations("pump"),
    }
    documents = {name: json.loads(store.get(str(store.current()))) for name, store in kept.items()}
    documents["model_release"] = dict(plant.registry("pump").current().manifest)
    assert documents.keys() == PRODUCTS.keys() - set(TABLES)
    for name, document in documents.items():
        assert document_findings(PRODUCTS[name], document) == []
        assert document.keys() == set(fields(PRODUCTS[name])), name


def fields(contract: Contract) -> list[str]:
    return [column.name for column in contract.columns]
