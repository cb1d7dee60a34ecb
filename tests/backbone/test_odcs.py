"""A document's rules, service levels and types mean what they say; what nothing would enforce is refused."""

from copy import deepcopy
from typing import Any

import pyarrow as pa
import pytest

from backbone.contracts import (
    DOCUMENT_TYPES,
    PRODUCTS,
    RULE_KINDS,
    WindowRule,
    range_text,
    schema_fields,
    with_parts,
)
from backbone.errors import ContractError
from backbone.odcs import ENGINE, contract_from_odcs
from resources.catalog.contracts import SHIPPED, read_contracts

KEYS = [
    {"name": "equipment_id", "logicalType": "string", "primaryKey": True},
    {"name": "ts", "logicalType": "timestamp", "primaryKey": True},
]
LIFT = {
    "name": "lift",
    "logicalType": "number",
    "description": "How far it is open.",
    "logicalTypeOptions": {"minimum": 0, "maximum": 50},
    "customProperties": [{"property": "unit", "value": "mm"}, {"property": "role", "value": "input"}],
}
DOCUMENT: dict[str, Any] = {
    "id": "valve-telemetry",
    "name": "valve",
    "version": "1.0.0",
    "schema": [{"name": "telemetry", "properties": [*KEYS, LIFT]}],
}


def document(*, product: dict[str, Any] | None = None, column: dict[str, Any] | None = None, **top: Any) -> Any:
    """The valve's document with other entries at the top, in its schema object, or in its last column."""
    found = deepcopy(DOCUMENT) | top
    found["schema"][0] |= product or {}
    found["schema"][0]["properties"][-1] |= column or {}
    return found


def keyed(*positions: int | None) -> Any:
    """The valve's document with positions in its key, None where there is none."""
    found = document()
    for column, position in zip(found["schema"][0]["properties"], positions, strict=False):
        column |= {} if position is None else {"primaryKeyPosition": position}
    return found


def quality(**entry: Any) -> dict[str, Any]:
    implementation = entry.pop("implementation")
    return {"quality": [{"type": "custom", "engine": ENGINE, "implementation": implementation, **entry}]}


def test_rules_follow_from_columns_and_service_levels_where_a_contract_says_nothing() -> None:
    contract = contract_from_odcs(document(slaProperties=[{"property": "latency", "value": 2, "unit": "h"}]))
    assert [r.kind for r in contract.rules] == [
        "schema",
        "not_null",
        "in_range",
        "unique",
        "freshness",
        "reconciliation",
    ]
    assert contract.rule("freshness") == WindowRule(
        "freshness", "warning", "timeliness", {"within_s": 7200}, RULE_KINDS["freshness"].description
    )
    assert contract.rule("completeness") is None


def test_a_rule_says_severity_and_limits() -> None:
    stated = quality(
        implementation={"rule": "completeness", "readingsPerDay": 12}, severity="error", description="Often enough."
    )
    levels = [{"property": "completeness", "value": 90, "unit": "percent"}]
    rule = contract_from_odcs(document(product=stated, slaProperties=levels)).rule("completeness")
    parameters = {"readings_per_day": 12, "least_share": 0.9}
    assert rule == WindowRule("completeness", "error", "completeness", parameters, "Often enough.")


def test_service_levels_and_classification() -> None:
    contract = contract_from_odcs(
        document(
            column={"classification": "restricted"},
            product={"customProperties": [{"property": "classification", "value": "public"}]},
            slaProperties=[
                {"property": "retention", "value": 2, "unit": "y"},
                {"property": "latency", "value": 15, "unit": "min"},
                {"property": "frequency", "value": "often"},
            ],
        )
    )
    assert (contract.retention_days, contract.latency_s, contract.completeness) == (730, 900, None)
    assert contract.classification == "restricted"


def test_types_are_stored_as_the_physical_type_says() -> None:
    contract = contract_from_odcs(document(column={"physicalType": "float"}))
    assert contract.arrow_schema.field("lift").type == pa.float32()
    assert contract.arrow_schema.field("lift").metadata == {b"unit": b"mm"}
    assert schema_fields(contract)[2] == {
        "name": "lift",
        "type": "float",
        "description": "How far it is open. In mm. Range 0 to 50.",
    }


@pytest.mark.parametrize("kind", DOCUMENT_TYPES)
def test_only_a_document_has_objects_and_lists(kind: str) -> None:
    odd = {"logicalType": kind, "logicalTypeOptions": {}}
    with pytest.raises(ContractError, match="logicalType"):
        contract_from_odcs(document(column=odd))
    contract = contract_from_odcs(document(column=odd, product={"name": "trained_model", "physicalType": "document"}))
    assert schema_fields(contract)[2]["type"] == kind
    assert contract.rule("unique") is None


RMSE = {
    "name": "rmse",
    "logicalType": "number",
    "logicalTypeOptions": {"exclusiveMinimum": 0},
    "customProperties": [{"property": "maximumFrom", "value": "cap"}],
}
SHARE = {
    "logicalType": "number",
    "logicalTypeOptions": {"maximum": 1},
    "customProperties": [{"property": "sumAtMost", "value": 1}],
}


def of_document(**column: Any) -> Any:
    """A document of one field, `field`."""
    return document(
        product={
            "name": "trained_model",
            "physicalType": "document",
            "properties": [{"name": "field", "logicalType": "object"} | column],
        }
    )


def test_fields_within_a_document_have_ranges_of_their_own() -> None:
    within = of_document(
        properties=[RMSE, {"name": "runs", "logicalType": "array", "items": {"logicalType": "object",
        "properties": [RMSE]}}, {"name": "shares", "logicalType": "array", "items": SHARE}]
    )  # fmt: skip
    contract = contract_from_odcs(within)
    assert {path: range_text(column) for path, column in with_parts(contract.columns) if column.ranged} == {
        "field.rmse": "above 0, at most the cap of the class",
        "field.runs[].rmse": "above 0, at most the cap of the class",
        "field.shares[]": "… to 1, together at most 1",
    }
    assert contract.rule("in_range") is not None


def _sla(**entry: Any) -> dict[str, Any]:
    return {"slaProperties": [entry]}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (document(product=quality(implementation={"rule": "uniq"})), r"'uniq' is no rule.*unique"),
        (document(product=quality(implementation="unique")), r"names no rule.*unique"),
        (document(product=quality(implementation={"rule": "drift", "psi": 1})), r"'psi' is no parameter.*psiAbove"),
        (document(product=quality(implementation={"rule": "drift", "psiAbove": 0})), r"psiAbove is 0.*above 0"),
        (document(product=quality(implementation={"rule": "stuck_sensors", "longestRun": 2.5})), r"longestRun is 2.5"),
        (
            document(product=quality(implementation={"rule": "in_range", "leastShare": 2})),
            r"leastShare is 2.*at most 1",
        ),
        (document(product=quality(implementation={"rule": "unique"}, severity="fatal")), r"'fatal' is no sev.*warning"),
        (
            document(product=quality(implementation={"rule": "unique"}, dimension="taste")),
            r"'taste' is no dim.*accuracy",
        ),
        (document(product=quality(implementation={"rule": "rising"})), r"no column counts.*integer"),
        (document(product=quality(implementation={"rule": "freshness"})), r"no service level.*latency"),
        (document(product=quality(implementation={"rule": "completeness", "readingsPerDay": 2})), r"no service level"),
        (document(product=quality(implementation={"rule": "completeness"})), r"readingsPerDay is missing"),
        (
            document(product={"quality": 2 * quality(implementation={"rule": "unique"})["quality"]}),
            r"rule 'unique' is there twice",
        ),
        (document(product={"quality": [{"type": "sql", "query": "x"}]}), r"nothing here carries out.*custom"),
        (document(column={"quality": [{"metric": "nullValues"}]}), r"column 'lift'.*as a whole.*Move it"),
        (document(**_sla(property="latncy", value=1, unit="h")), r"'latncy' is no service level.*latency"),
        (document(**_sla(property="latency", value=1, unit="fortnight")), r"'fortnight' is no unit of lat.*s, min, h"),
        (document(**_sla(property="latency", value="soon", unit="h")), r"latency is 'soon'.*above 0"),
        (document(**_sla(property="completeness", value=101, unit="percent")), r"at most 100"),
        (document(slaProperties=2 * [{"property": "latency", "value": 1, "unit": "h"}]), r"'latency' is there twice"),
        (
            document(product={"name": "telemtry"}),
            r"'telemtry' is no data product we know.*telemetry, telemetry_quarantine",
        ),
        (keyed(1, 3), r"column 'ts': primaryKeyPosition is 3; .*1 to 2.*not given yet: 2"),
        (keyed(0, 1), r"column 'equipment_id': primaryKeyPosition is 0"),
        (keyed(2, 2), r"column 'ts': primaryKeyPosition is 2 again.*not given yet: 1"),
        (keyed(1, None), r"column 'ts': primaryKeyPosition is missing"),
        (document(column={"primaryKeyPosition": 1}), r"column 'lift': primaryKeyPosition 1, though.*primaryKey: true"),
        (document(version="1.0"), r"version '1.0'.*MAJOR.MINOR.PATCH"),
        (document(status="live"), r"'live' is no status.*active"),
        (DOCUMENT | {"schema": []}, r"no schema object"),
        (document(column={"logicalTypeOptions": {"minimum": 2, "maximum": 1}}), r"column 'lift'.*minimum 2.*maximum 1"),
        (document(column={"logicalTypeOptions": {"minimum": float("nan")}}), r"column 'lift'.*minimum is nan"),
        (document(column={"logicalTypeOptions": {"multipleOf": 2}}), r"'multipleOf' is no option.*minimum, maximum"),
        (document(column={"physicalType": "decimal"}), r"'decimal' is no physicalType of a number.*double, float"),
        (document(column={"classification": "secret"}), r"column 'lift'.*'secret' is no class.*restricted"),
        (document(column={"unique": True}), r"whole key only.*primaryKey"),
        (document(column={"enum": [{"value": 1}]}), r"only a string"),
        (document(column={"name": "raw"}), r"'raw' would take the place.*taken: site"),
        (document(column={"customProperties": [{"property": "untt", "value": "mm"}]}), r"'untt'.*unit, role, comp"),
        (document(column={"logicalTypeOptions": {"exclusiveMinimum": 0}}), r"'exclusiveMinimum' is no option"),
        (of_document(properties=[RMSE, RMSE]), r"column 'rmse' twice"),
        (of_document(properties=[RMSE | {"primaryKey": True}]), r"column 'field': a part of it is in the key"),
        (of_document(items=SHARE), r"only an array has `items`"),
        (of_document(logicalType="array", properties=[RMSE]), r"only an object has `properties`"),
        (of_document(properties=[RMSE | {"customProperties": SHARE["customProperties"]}]), r"sumAtMost says nothing"),
        (
            of_document(properties=[RMSE | {"logicalTypeOptions": {"maximum": 9}}]),
            r"column 'rmse': maximumFrom says nothing here",
        ),
        (
            of_document(properties=[RMSE | {"customProperties": [{"property": "maximumFrom", "value": "cup"}]}]),
            r"column 'rmse': 'cup' is no maximumFrom we know.*cap",
        ),
        (
            of_document(properties=[RMSE | {"logicalTypeOptions": {"exclusiveMinimum": 2, "minimum": 1}}]),
            r"exclusiveMinimum 2 stands beside minimum 1",
        ),
        (document(product={"customProperties": [{"property": "supersedes", "value": "x"}]}), r"without migration"),
        (
            document(product={"customProperties": [{"property": "columnsFrom", "value": "x"}]}),
            r"'x' is no col.*features",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_what_is_valid(wrong: Any, says: str) -> None:
    with pytest.raises(ContractError, match=says) as caught:
        contract_from_odcs(wrong)
    assert "valve" in str(caught.value)
    assert caught.value.at


def test_a_product_beside_another_has_a_name_of_its_own() -> None:
    beside = [{"property": "supersedes", "value": "prognoses"}, {"property": "migration", "value": "Read both."}]
    assert contract_from_odcs(document(product={"name": "prognoses_2", "customProperties": beside})).product


@pytest.mark.parametrize("positions", [(1, 2), (2, 1), (None, None), (-1, -1)])
def test_positions_in_a_key_are_all_given_or_none(positions: tuple[int | None, ...]) -> None:
    assert contract_from_odcs(keyed(*positions)).keys == ("equipment_id", "ts")


def test_every_data_product_that_ships_is_known() -> None:
    assert {c.product for c in read_contracts([SHIPPED]).values()} == set(PRODUCTS)


def test_properties_of_a_vendor_are_left_alone() -> None:
    ours = [{"property": "unit", "value": "mm"}, {"property": "role", "value": "input"}]
    theirs = {"property": "glossary", "value": "lift", "vendor": "collibra"}
    contract = contract_from_odcs(document(column={"customProperties": [*ours, theirs]}, customProperties=[theirs]))
    assert contract["lift"].attributes == {"glossary": "lift"}
    assert contract.settings == {}
