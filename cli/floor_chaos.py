"""`hybrid chaos gateway` and `hybrid chaos outage`: faults of a plant's floor, with real processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from chaos.floor.outage import rehearse_outage
from chaos.floor.rehearsal import FloorOutcome, rehearse_floor
from chaos.floor.scenario import drawn_floor_scenario, read_floor_scenario
from cli.chaos import faults_table, rehearsal_folder, tell_violations
from cli.reporting import Report

_BALANCE = ("acknowledged", "stored", "dead_lettered", "spooled", "damaged", "missing", "twice")


def rehearse_gateway(
    *, seed: int, faults: int, only: Sequence[str], scenario: Path | None, keep: Path | None, as_json: bool
) -> int:
    """Rehearse, and print what came of it; the exit code: 1 where something that must hold did not.

    Args:
        only: kinds of faults that are drawn; empty: all.
        scenario: its file; None: so many `faults` are drawn from `seed`.
        keep: a new folder for what the rehearsed plant kept; None: it is removed.

    Raises:
        UnknownName: the scenario, or `only`, names a fault there is not.
        ConfigurationError: the scenario's file, or the folder to keep, is wrong.
    """
    planned = (
        drawn_floor_scenario(seed=seed, faults=faults, kinds=only)
        if scenario is None
        else read_floor_scenario(scenario)
    )
    report = Report(as_json=as_json)
    with rehearsal_folder(keep) as root, report.task(f"{planned.name}: {len(planned.faults)} faults"):
        outcome = rehearse_floor(root, planned)
    if as_json:
        report.result(outcome.to_dict())
    else:
        _show(outcome)
    return 1 if outcome.violations else 0


def rehearse_store_gone(asked: Mapping[str, Any], *, keep: Path | None, as_json: bool) -> int:
    """Rehearse an outage; prints and returns as `rehearse_gateway` does.

    Args:
        asked: see `chaos.floor.outage.rehearse_outage`.
    """
    report = Report(as_json=as_json)
    with rehearsal_folder(keep) as root, report.task(f"{asked['hours']:g} hours without a store"):
        outcome = rehearse_outage(root, **asked)
    if as_json:
        report.result(outcome.to_dict())
    else:
        console = Console(highlight=False)
        told = {name: value for name, value in outcome.to_dict().items() if name != "violations"}
        console.print(_table("outage", told))
        tell_violations(console, outcome.violations)
    return 1 if outcome.violations else 0


def _show(outcome: FloorOutcome) -> None:
    console = Console(highlight=False)
    told = {name: getattr(outcome, name) for name in (*_BALANCE, "recovered_median_s", "recovered_most_s")}
    console.print(_table(f"{outcome.scenario}: {outcome.faults} faults, seed {outcome.seed}", told))
    console.print(faults_table(outcome.by_fault))
    if outcome.by_step:
        console.print(_table("killed before, within or after a durable step", outcome.by_step))
    if outcome.by_step and outcome.never_struck:
        console.print("nobody was killed " + ", ".join(outcome.never_struck))
    tell_violations(console, outcome.violations)


def _table(title: str, told: Mapping[str, Any]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("", justify="right")
    for name, value in told.items():
        table.add_row(name.replace("_", " "), "–" if value is None else f"{value:,}")
    return table
