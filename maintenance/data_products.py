"""The data products of an equipment class: the contracts all classes share, with the class's own columns in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from backbone.contracts import Column, Contract
from backbone.errors import ContractError
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract, is_equipment_class
from maintenance.features import Feature, feature_list
from maintenance.question import question_spec

if TYPE_CHECKING:
    from backbone.contract_changes import Change

TELEMETRY = "telemetry"
"""The product whose contract is the class's own."""


def contracts_of(cls: EquipmentClass, known: Mapping[str, Contract]) -> dict[str, Contract]:
    """A class's contracts by the asset each is of.

    Args:
        known: every contract of the installation, by name; those of products other than telemetry are shared.

    Raises:
        ContractError: two shared contracts are of one product.
    """
    found = {TELEMETRY: cls.contract}
    for contract in known.values():
        if not is_shared(contract):
            continue
        if contract.product in found:
            raise ContractError(
                f"The contracts {found[contract.product].name} and {contract.name} are both of {contract.product}.",
                next_step="Give a new version side by side with the old one a product of its own.",
            )
        found[contract.product] = contract_for(cls, contract)
    return found


def derived_changes(old: Mapping[str, Contract], new: Mapping[str, Contract]) -> list[Change]:
    """What is refused of what classes put into shared contracts, beyond what is refused of those themselves.

    Args:
        old, new: every contract of an installation, by name.

    Raises:
        ConfigurationError: the settings of a class are wrong.
    """
    from backbone.contract_changes import contract_changes

    found: list[Change] = []
    for name in [n for n in old if n in new and is_equipment_class(old[n]) and is_equipment_class(new[n])]:
        before, after = (contracts_of(equipment_class_from_contract(known[name]), known) for known in (old, new))
        for product in [p for p in before if p in after and p != TELEMETRY]:
            told = {(c.rule, c.column) for c in contract_changes(old[before[product].name], new[after[product].name])}
            found += [
                replace(change, contract=f"{name}/{product}")
                for change in contract_changes(before[product], after[product])
                if (change.rule, change.column) not in told and change.rule != "version_not_raised"
            ]
    return found


def is_shared(contract: Contract) -> bool:
    return contract.product != TELEMETRY


def contract_for(cls: EquipmentClass, contract: Contract) -> Contract:
    """A shared contract with what the class puts in: its question's columns, its features', its RUL unit and cap, its
    currency, its owner."""
    units = {"rul": cls.rul.unit, "currency": cls.cost.currency}
    bounds = {"cap": cls.rul.cap}

    def of_class(column: Column) -> Column:
        if column.unit not in units and column.maximum_from is None and not column.parts:
            return column
        unit = units.get(column.unit, column.unit) if column.unit else None
        maximum = bounds[column.maximum_from] if column.maximum_from else column.maximum
        return replace(column, unit=unit, maximum=maximum, parts=tuple(map(of_class, column.parts)))

    own = map(of_class, (*contract.columns, *question_spec(cls).columns.get(contract.product, ())))
    derived = _feature_columns(cls.rul.unit, feature_list(cls)) if contract.derived == "features" else ()
    return replace(contract, columns=(*own, *derived), derived=None, owner=cls.contract.owner)


@cache
def _feature_columns(unit: str, features: tuple[Feature, ...]) -> tuple[Column, ...]:
    """One float32 column a feature, in their order: the same for every product that has them."""
    return tuple(
        Column(
            name=feature.name,
            logical_type="number",
            physical_type="float",
            unit=unit if feature.sensor is None else "1",
            role="input",
            description=f"{feature.kind} of {feature.sensor}" if feature.sensor else "Since the life's first reading",
        )
        for feature in features
    )
