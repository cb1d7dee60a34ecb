"""`hybrid chaos`: rehearse a plant's failures on its own configuration."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from backbone.errors import ConfigurationError
from chaos.rehearsal import Outcome, commission, percentile, rehearse
from chaos.scenario import drawn_scenario, read_scenario
from cli.reporting import Report
from resources.home import Home
from resources.plant import Catalog


def rehearse_site(site: str, *, seed: int, faults: int, scenario: Path | None, keep: Path | None, as_json: bool) -> int:
    """Rehearse, and print what came of it; the exit code: 1 where something that must hold did not.

    Args:
        scenario: its file; None: so many `faults` are drawn from `seed`.
        keep: a new folder for what the rehearsed plant kept; None: it is removed.

    Raises:
        UnknownName: there is no such site; or the scenario names a fault, a target or a location there is not.
        ConfigurationError: the scenario's file, or the folder to keep, is wrong.
    """
    home = Home.from_environment()
    plant = Catalog(home).site(site)
    planned = drawn_scenario(plant, seed=seed, faults=faults) if scenario is None else read_scenario(scenario, plant)
    report = Report(as_json=as_json)
    with rehearsal_folder(keep) as root:
        with report.task(f"{site}: commissioning a small fleet"):
            commission(root, home.contracts, plant)
        title = f"{site}: {planned.name}, {len(planned.faults)} faults over {planned.days} days"
        with report.task(title):
            outcome = rehearse(root, plant, planned)
    if as_json:
        report.result(outcome.to_dict())
    else:
        _show(outcome)
    return 1 if outcome.violations else 0


@contextmanager
def rehearsal_folder(keep: Path | None) -> Iterator[Path]:
    """A new folder; None: one that is removed.

    Raises:
        ConfigurationError: there is something in it.
    """
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise ConfigurationError(f"{keep} is not an empty folder.", next_step="Name a new one for --keep.")
    with tempfile.TemporaryDirectory(prefix="hybrid-chaos-") as folder:
        yield keep.resolve() if keep is not None else Path(folder) / "home"


def _show(outcome: Outcome) -> None:
    console = Console(highlight=False)
    totals = Table(title=f"{outcome.scenario}: {outcome.faults} faults, seed {outcome.seed}", title_justify="left")
    totals.add_column("what")
    totals.add_column("", justify="right")
    rows: dict[str, Any] = {
        "answers due": outcome.answers_due,
        "answers given": outcome.answers_given,
        "answers missing": outcome.answers_missing,
        "effects applied twice": outcome.applied_twice,
        "windows degraded": outcome.windows_degraded,
        "windows made good": outcome.windows_made_good,
    }
    for name, values in (("fall back", "to_fallback_s"), ("recover", "to_recover_s")):
        for share in (50, 99):
            rows[f"time to {name}, p{share}"] = _seconds(percentile(outcome.details[values], share))
    for name, value in rows.items():
        totals.add_row(name, str(value))
    console.print(totals)
    rungs = Table(title="answers given, superseded ones included", title_justify="left")
    rungs.add_column("by")
    rungs.add_column("answers", justify="right")
    for name, count in outcome.by_rung.items():
        rungs.add_row(name, str(count))
    console.print(rungs)
    console.print(faults_table(outcome.by_fault))
    console.print("runs: " + ", ".join(f"{name} {n}" for name, n in outcome.details["runs"].items()))
    console.print("work: " + ", ".join(f"{name} {n}" for name, n in outcome.details["work"].items()))
    tell_violations(console, outcome.violations)


def faults_table(by_fault: Mapping[str, Mapping[str, int]]) -> Table:
    """Of each kind, how many were planned, and how many befell somebody."""
    faults = Table(title="faults", title_justify="left")
    faults.add_column("kind")
    faults.add_column("planned", justify="right")
    faults.add_column("struck", justify="right")
    for kind, counts in by_fault.items():
        faults.add_row(kind, str(counts["faults"]), str(counts["struck"]))
    return faults


def tell_violations(console: Console, violations: Sequence[str]) -> None:
    """What did not hold."""
    if not violations:
        console.print("Everything that must hold held.", style="green")
    for violation in violations:
        console.print(f"✗ {violation}", style="red", markup=False)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} s"
