"""Contracts from files: the ones that ship, and a user's own in `$HYBRID_HOME/contracts`."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, reduce
from importlib.metadata import version
from operator import getitem
from pathlib import Path
from typing import Any, TypeVar

from backbone.contracts import Contract
from backbone.errors import ContractError
from backbone.odcs import Place, contract_from_odcs
from resources.catalog.yaml_documents import line_of, parse

SHIPPED = Path(__file__).resolve().parents[2] / "quality" / "contracts"
SUFFIX = ".odcs.yaml"
_File = TypeVar("_File", Path, str)
_MOST_KEPT = 64
_MOST_SAID = 8
_found_sound: dict[str, Contract] = {}
"""Text → what it means: workers in this process bring the same contract with every piece of work."""


def read_contracts(folders: Iterable[Path]) -> dict[str, Contract]:
    """Every contract in the folders, by name; raises what `read_contract_files` raises."""
    return {contract.name: contract for contract in read_contract_files(folders).values()}


def read_contract_files(folders: Iterable[Path], *, marks: Path | None = None) -> dict[Path, Contract]:
    """Every contract in the folders, by its file.

    Args:
        marks: folder that remembers which texts hold the standard, so that the next process need not ask again:
            the standard's validators take longer to import and run than everything else here together.

    Raises:
        ContractError: a file is no YAML, does not hold the standard, or repeats a name or an id; names the file.
    """
    return unique_contracts({path: read_contract(path, marks=marks) for path in contract_files(folders)})


def contract_files(folders: Iterable[Path]) -> list[Path]:
    """The files that hold contracts, by name within each folder."""
    return [path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))]


def unique_contracts(found: dict[_File, Contract]) -> dict[_File, Contract]:
    """The same; raises `ContractError` where two files give one name or one id."""
    taken: dict[tuple[str, str], _File] = {}
    for path, contract in found.items():
        for what, value in (("contract", contract.name), ("id", contract.id)):
            other = taken.setdefault((what, value), path)
            if other != path:
                raise ContractError(
                    f"{path} and {other} both define the {what} {value!r}.", next_step="Rename one of them."
                )
    return found


def read_contract(path: Path, *, marks: Path | None = None) -> Contract:
    """The contract in a file; raises what `parse_contract` raises, and `ContractError` where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path} cannot be read: {error}.", next_step="Mend the file.") from error
    return parse_contract(text, str(path), marks=marks)


def parse_contract(text: str, name: str, *, marks: Path | None = None) -> Contract:
    """One contract. Both the standard's JSON Schema and its model are asked: each misses what the other finds.

    Args:
        name: what errors call it, such as the file's path.

    Raises:
        ContractError: it is no YAML, does not hold the standard, or not our enumerations; says the line, and what
            is valid there.
    """
    if text in _found_sound:
        return _found_sound[text]
    try:
        document = parse(text)
    except ValueError as error:
        raise ContractError(f"{name} is no YAML: {error}.", next_step="Mend the file.") from error
    if not isinstance(document, dict):
        raise ContractError(
            f"{name} holds no contract, but {_kind(document)}.", next_step="Start from one in quality/contracts."
        )
    mark = marks / _digest(text) if marks is not None else None
    if mark is None or not mark.exists():
        _validate(name, text, document)
    try:
        contract = contract_from_odcs(document)
    except ContractError as error:
        line = line_of(text, error.at)
        where = name if line is None else f"{name}, line {line}"
        raise ContractError(f"{where}: {error.problem}", next_step=error.next_step, at=error.at) from error
    if mark is not None:
        _remember(mark)
    if len(_found_sound) >= _MOST_KEPT:
        _found_sound.clear()
    _found_sound[text] = contract
    return contract


def _kind(document: object) -> str:
    return "nothing" if document is None else f"a {'list' if isinstance(document, list) else 'single value'}"


def _digest(text: str) -> str:
    """Of the text and of the standard it was held against."""
    return hashlib.sha256(f"{_standard()}\n{text}".encode()).hexdigest()


@cache
def _standard() -> str:
    """Its version. Asking takes a millisecond."""
    return version("open-data-contract-standard")


def _remember(mark: Path) -> None:
    """Only a convenience: a home that is not there, or not ours to write, is none."""
    if mark.parent.parent.is_dir():
        with contextlib.suppress(OSError):
            mark.parent.mkdir(exist_ok=True)
            mark.touch()


def _validate(name: str, text: str, document: dict[str, Any]) -> None:
    from open_data_contract_standard.model import OpenDataContractStandard
    from pydantic import ValidationError

    try:
        findings = dict(_against_schema(document))
        try:
            OpenDataContractStandard(**document)
        except ValidationError as error:
            for e in error.errors():
                findings.setdefault(tuple(e["loc"]), e["msg"])
    except RecursionError as error:
        raise ContractError(f"{name} is nested too deeply.", next_step="Mend the file.") from error
    if findings:
        said = [f"{_where(text, at)}: {message}" for at, message in list(findings.items())[:_MOST_SAID]]
        if len(findings) > _MOST_SAID:
            said.append(f"and {len(findings) - _MOST_SAID} more")
        raise ContractError(
            f"{name} does not hold ODCS {document.get('apiVersion', '(no apiVersion)')}: {'; '.join(said)}.",
            next_step="Mend these places.",
        )


def _where(text: str, at: Place) -> str:
    line = line_of(text, at)
    place = "/".join(str(p) for p in at) or "the top"
    return f"at {place}" if line is None else f"line {line}, at {place}"


def _against_schema(document: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """Place → what is wrong there, by the standard's JSON Schema; keys that do not exist list those that do.

    Keys that do not exist come first, and what is missing only because one of them is a slip of it is left out.
    """
    if _quick_validator().is_valid(document):
        return
    unknown: dict[tuple[Place, str], str] = {}
    missing: list[tuple[Place, str, str]] = []
    others: list[tuple[Place, str]] = []
    for error in _meant(_schema_validator().iter_errors(document)):
        at = tuple(error.absolute_path)
        if error.validator in ("additionalProperties", "unevaluatedProperties"):
            known = sorted(_known_keys(error.schema))
            for key in error.instance:
                if key not in known:
                    unknown[at, key] = f"there is no key {key!r} here; known: {', '.join(known)}"
        elif error.validator == "required":
            missing += [(at, key, error.message) for key in error.validator_value if key not in error.instance]
        else:
            others.append((at, error.message))
    slips = {at: [key for place, key in unknown if place == at] for at, _ in unknown}
    others += [(at, told) for at, key, told in missing if not difflib.get_close_matches(key, slips.get(at, []))]
    yield from (((*at, key), told) for (at, key), told in unknown.items())
    yield from dict.fromkeys(others)


def _meant(errors: Iterable[Any]) -> Iterator[Any]:
    """Errors; where one of several forms would do, those of the form that comes nearest."""
    for error in errors:
        forms: dict[Any, list[Any]] = {}
        for one in error.context:
            forms.setdefault(one.schema_path[0], []).append(one)
        of_its_type = [form for form in forms.values() if not any(e.validator == "type" and not e.path for e in form)]
        if of_its_type:
            nearest = min(of_its_type, key=len)
            yield from _meant(nearest)
        else:
            yield error


def _known_keys(schema: Mapping[str, Any]) -> set[str]:
    """Every key that a part of the schema may have, through its references."""
    whole = _schema()
    known, waiting, seen = set[str](), [schema], list[Any]()
    while waiting:
        part = waiting.pop()
        if part in seen:
            continue
        seen.append(part)
        known |= set(part.get("properties", {}))
        if "$ref" in part:
            waiting.append(reduce(getitem, part["$ref"].removeprefix("#/").split("/"), whole))
        waiting += [p for p in (*part.get("allOf", ()), *part.get("anyOf", ()), part.get("then")) if p]
    return known


@cache
def _schema() -> dict[str, Any]:
    """The standard's JSON Schema, in which a condition on keys that are not there does not hold.

    By JSON Schema it does, and what then follows would be of every type.
    """
    from open_data_contract_standard.model import OpenDataContractStandard

    schema: dict[str, Any] = _said(json.loads(OpenDataContractStandard.json_schema()))
    return schema


def _said(part: Any) -> Any:
    if isinstance(part, list):
        return [_said(one) for one in part]
    if not isinstance(part, dict):
        return part
    part = {key: _said(value) for key, value in part.items()}
    condition = part.get("if")
    if isinstance(condition, dict):
        asked = sorted({key for one in (condition, *condition.get("anyOf", ())) for key in one.get("properties", ())})
        if asked:
            part["if"] = {"allOf": [condition, {"anyOf": [{"required": [key]} for key in asked]}]}
    return part


@cache
def _schema_validator() -> Any:
    from jsonschema import Draft201909Validator

    return Draft201909Validator(_schema())


@cache
def _quick_validator() -> Any:
    """Says whether a document holds the schema a thousand times quicker, and not so well what is wrong with it."""
    import jsonschema_rs

    return jsonschema_rs.Draft201909Validator(_schema())
