"""`hybrid contracts`: are all contracts sound, may they change as they did, and what do they promise."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backbone.contract_changes import Change, refused_changes
from backbone.contract_pages import contracts_page
from backbone.contracts import Contract
from backbone.errors import ConfigurationError, ContractError, HybridError
from cli.reporting import Report
from maintenance.data_products import TELEMETRY, derived_changes
from maintenance.equipment_class import RUL_PROPERTY, equipment_class_from_contract, is_equipment_class
from resources.catalog.contracts import SHIPPED, contract_files, read_contract, unique_contracts
from resources.catalog.revisions import contracts_at
from resources.home import Home
from resources.plant import Catalog


@dataclass(frozen=True)
class Problem:
    """Why a contract is not sound, and what to do."""

    problem: str
    next_step: str


def check(against: str | None, *, as_json: bool) -> int:
    """Look at every contract there is and, with `against`, at how they changed.

    Args:
        against: a folder of contracts, or a revision of the repositories that the contracts' folders lie in.

    Returns:
        1 if a contract is not sound or a change is refused, else 0.

    Raises:
        ConfigurationError: there is nothing of that name to compare with; says what to do.
    """
    folders = [SHIPPED, Home.from_environment().contracts]
    now, problems = _sound(folders)
    refused = _refused(now, folders, against) if against is not None and not problems else []
    contracts = [
        {"name": c.name, "id": c.id, "version": c.version, "product": c.product, "file": str(path)}
        for path, c in now.items()
    ]
    lines = [f"ok    {c['name']} {c['version']}: {c['product']} ({c['file']})" for c in contracts]
    lines += [f"FAIL  {p.problem}\n      → {p.next_step}" for p in problems]
    lines += [f"REFUSED  {_told(change)}\n      → {change.instead}" for change in refused]
    if against is not None:
        said = f"{len(refused)} changes refused" if refused else "every zone can read every other's data"
        lines.append(f"against {against}: {'not compared' if problems else said}")
    document: dict[str, Any] = {
        "contracts": contracts,
        "problems": [asdict(p) for p in problems],
        "against": against,
        "refused": [{**asdict(change), "breaks": list(change.breaks)} for change in refused],
    }
    Report(as_json=as_json).result(document, lines)
    return int(bool(problems or refused))


def _told(change: Change) -> str:
    column = f", column {change.column}" if change.column else ""
    return f"{change.contract}{column}: {change.rule}: {change.problem} {change.because}"


def _sound(folders: list[Path]) -> tuple[dict[Path, Contract], list[Problem]]:
    """Every contract that is sound, and what is wrong with the others; one does not hide the next."""
    found: dict[Path, Contract] = {}
    problems = []
    for path in contract_files(folders):
        try:
            contract = read_contract(path)
            unique_contracts({**found, path: contract})
            _means_something(path, contract)
        except HybridError as error:
            problems.append(Problem(error.problem, error.next_step))
        else:
            found[path] = contract
    return found, problems


def _means_something(path: Path, contract: Contract) -> None:
    """Raises `ConfigurationError` where a contract is no equipment class though it should be, or a wrong one."""
    try:
        if is_equipment_class(contract):
            equipment_class_from_contract(contract)
        elif contract.product == TELEMETRY or contract.settings:
            near = difflib.get_close_matches(RUL_PROPERTY, contract.settings, n=1)
            raise ContractError(
                f"Contract {contract.name} is of {contract.product} and no equipment class, yet has "
                f"{'the custom properties ' + ', '.join(contract.settings) if contract.settings else 'no settings'}.",
                next_step=f"Rename {near[0]} to {RUL_PROPERTY}."
                if near
                else f"Telemetry needs the custom property {RUL_PROPERTY}; one of your own names its `vendor`.",
            )
    except ConfigurationError as error:
        raise ContractError(f"{path}: {error.problem}", next_step=error.next_step) from error


def _refused(now: Mapping[Path, Contract], folders: list[Path], against: str) -> list[Change]:
    if against and Path(against).is_dir():
        then = {str(path): read_contract(path) for path in contract_files([Path(against)])}
        if not then:
            raise ConfigurationError(
                f"{against} holds no contracts.", next_step="Name the folder whose files end in .odcs.yaml."
            )
    else:
        then = {}
        for folder in folders:
            then |= {f"{folder}/{name}": c for name, c in _at_revision(folder, against).items()}
    before, after = ({c.name: c for c in contracts.values()} for contracts in (unique_contracts(then), now))
    return [*refused_changes(before, after), *derived_changes(before, after)]


def _at_revision(folder: Path, revision: str) -> dict[str, Contract]:
    """A folder without contracts need not be in a repository; if it is, those that are gone are told of."""
    try:
        return contracts_at(folder, revision)
    except ConfigurationError:
        if not contract_files([folder]):
            return {}
        raise


def docs(output: Path | None) -> None:
    """Print what every data product promises, as Markdown, or write it to a file.

    Raises:
        ContractError: a contract is not sound.
    """
    page = contracts_page(Catalog(Home.from_environment()).contracts.values())
    if output is None:
        print(page, end="")
    else:
        output.write_text(page, encoding="utf-8")
