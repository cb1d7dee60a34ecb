"""The check of a document in Dagster: red where it does not hold, with every value, its range and the numbers."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from maintenance.data_products import contracts_of
from maintenance.equipment_class import equipment_class_from_contract
from quality.document_checks import document_checks
from resources.bindings.plants import Plants
from resources.home import Home
from tests.shared_instance import shared_instance

SITE = "riverside"
KEY = dg.AssetKey(["pump", "model_evaluation"])


@pytest.fixture
def plants(tmp_path: Path) -> Plants:
    return Plants(home=str(Home(tmp_path / "home").prepare().root))


def evaluated(plants: Plants) -> dg.AssetCheckEvaluation:
    """What the check says of the newest evaluation."""
    known = plants.catalog.contracts
    contracts = contracts_of(equipment_class_from_contract(known["pump"]), known)
    partitions = dg.StaticPartitionsDefinition([SITE])
    (check,) = [c for c in document_checks("pump", contracts, partitions) if KEY in {k.asset_key for k in c.check_keys}]

    @dg.asset(key=KEY, partitions_def=partitions)
    def model_evaluation() -> None:
        """Its document is kept beforehand."""

    result = dg.materialize(
        [model_evaluation, check], resources={"plants": plants}, partition_key=SITE, instance=shared_instance()
    )
    (found,) = result.get_asset_check_evaluations()
    return found


def keep(plants: Plants, metrics: dict[str, Any]) -> None:
    record = {"passed": True, "reasons": [], "points": {}, "metrics": metrics}
    plants.plant(SITE).evaluations("pump").put("a-run", json.dumps(record))


def test_a_figure_out_of_its_range_makes_the_check_red_with_value_and_range(plants: Plants) -> None:
    keep(plants, {"rmse": 6.5, "coverage": 1.25})
    found = evaluated(plants)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert found.description == "out_of_range:metrics.coverage (1.25, range 0 to 1)"
    assert found.metadata["observed"].value == found.description
    assert (found.metadata["coverage"].value, found.metadata["reasons"].value) == (1.25, 1)


def test_figures_in_range_are_shown_with_the_contract_they_hold(plants: Plants) -> None:
    keep(plants, {"rmse": 6.5, "coverage": 0.9})
    found = evaluated(plants)
    assert found.passed
    assert found.metadata["rmse"].value == 6.5
    assert str(found.metadata["expected"].value).startswith("model_evaluation 1.")


def test_no_document_yet_is_a_warning(plants: Plants) -> None:
    found = evaluated(plants)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
