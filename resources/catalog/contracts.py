"""Contracts from files: the ones that ship, and a user's own in `$HYBRID_HOME/contracts`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from backbone.contracts import Contract
from backbone.errors import ContractError
from backbone.odcs import contract_from_odcs

SHIPPED = Path(__file__).resolve().parents[2] / "quality" / "contracts"
SUFFIX = ".odcs.yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_KEPT = 64
_found_sound: dict[str, Contract] = {}
"""Text → what it means: workers in this process bring the same contract with every piece of work."""


def read_contracts(folders: Iterable[Path]) -> dict[str, Contract]:
    """Every contract in the folders, by name; raises what `read_contract_files` raises."""
    return {contract.name: contract for contract in read_contract_files(folders).values()}


def read_contract_files(folders: Iterable[Path]) -> dict[Path, Contract]:
    """Every contract in the folders, by its file.

    Raises:
        ContractError: a file is no YAML, does not hold the standard, or repeats a name; names the file.
    """
    found: dict[Path, Contract] = {}
    by_name: dict[str, Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))):
        found[path] = contract = read_contract(path)
        if contract.name in by_name:
            raise ContractError(
                f"{path} and {by_name[contract.name]} both define the contract {contract.name!r}.",
                next_step="Rename one of them.",
            )
        by_name[contract.name] = path
    return found


def read_contract(path: Path) -> Contract:
    """One contract. Both the standard's JSON Schema and its model are asked: each misses what the other finds."""
    try:
        text = path.read_text(encoding="utf-8")
        if text in _found_sound:
            return _found_sound[text]
        document = yaml.load(text, Loader=_LOADER)  # noqa: S506 - safe, and in C where there is one
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ContractError(f"{path} is no YAML: {error}.", next_step="Mend the file.") from error
    if not isinstance(document, dict):
        raise ContractError(f"{path} holds no contract.", next_step="Start from one in quality/contracts.")
    _validate(path, document)
    try:
        contract = contract_from_odcs(document)
    except ContractError as error:
        raise ContractError(f"{path}: {error.problem}", next_step=error.next_step) from error
    if len(_found_sound) >= _MOST_KEPT:
        _found_sound.clear()
    _found_sound[text] = contract
    return contract


def _validate(path: Path, document: dict[str, Any]) -> None:
    from open_data_contract_standard.model import OpenDataContractStandard
    from pydantic import ValidationError

    findings = [
        f"at {'/'.join(str(p) for p in e.absolute_path) or 'the top'}: {e.message}"
        for e in _schema_validator().iter_errors(document)
    ]
    try:
        OpenDataContractStandard(**document)
    except ValidationError as error:
        findings += [f"at {'/'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
    if findings:
        raise ContractError(
            f"{path} does not hold ODCS {document.get('apiVersion', '(no apiVersion)')}: {'; '.join(findings)}.",
            next_step="Mend these places.",
        )


@cache
def _schema_validator() -> Any:
    from jsonschema import Draft201909Validator
    from open_data_contract_standard.model import OpenDataContractStandard

    return Draft201909Validator(json.loads(OpenDataContractStandard.json_schema()))
