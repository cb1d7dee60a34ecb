"""`hybrid evaluate`: accuracy on public data, through the same functions as the assets."""

from __future__ import annotations

import math
import os
import time
from datetime import date
from pathlib import Path

from cli.reporting import Report
from resources.catalog.contracts import SHIPPED, SUFFIX, read_contract

_DAY = date(2000, 1, 1)
"""The files count cycles; any day will do for the first."""


def cmapss(directory: Path, subset: str, seed: int, *, as_json: bool) -> None:
    """Train on the train file, score the last cycle of every test unit, and print how well it went.

    Raises:
        SourceError: the text files are missing or unreadable.
    """
    _let_threads_wait()
    from maintenance.cmapss_benchmark import evaluate
    from maintenance.equipment_class import equipment_class_from_contract
    from maintenance.readings import history_from_arrow, readings_from_arrow
    from resources.sources.cmapss import failures, read_rul, read_units, starting_on

    report = Report(as_json=as_json)
    cls = equipment_class_from_contract(read_contract(SHIPPED / f"turbofan{SUFFIX}"))
    with report.task(f"{subset}: reading"):
        train, test = (starting_on(read_units(directory, subset, part), _DAY) for part in ("train", "test"))
        rul = read_rul(directory, subset)["rul"].to_numpy().astype(float)
    history = history_from_arrow(failures(train))
    nothing = history_from_arrow(failures(train).slice(0, 0))
    with report.task(f"{subset}: training and scoring"):
        figures = evaluate(
            cls,
            readings_from_arrow(cls, train, history),
            history,
            readings_from_arrow(cls, test, nothing),
            rul,
            seed=seed,
            clock=time.perf_counter,
            progress=lambda _done, doing, _metrics: report.note(f"  {doing}"),
        )
    report.result({"subset": subset, **figures})


def azure_pdm(directory: Path, seed: int, *, as_json: bool) -> None:
    """Learn from January to August, judge September to December, and print how well failures were foretold.

    Raises:
        SourceError: one of Microsoft's files is missing or unreadable.
    """
    _let_threads_wait()
    from maintenance.azure_benchmark import evaluate
    from maintenance.equipment_class import equipment_class_from_contract
    from maintenance.readings import history_from_arrow, readings_from_arrow
    from resources.sources.azure_pdm import read_failures, read_readings

    report = Report(as_json=as_json)
    cls = equipment_class_from_contract(read_contract(SHIPPED / f"azure_machine{SUFFIX}"))
    with report.task("Azure PdM: reading"):
        history = history_from_arrow(read_failures(directory))
        readings = readings_from_arrow(cls, read_readings(directory), history)
    with report.task("Azure PdM: training and scoring"):
        figures = evaluate(
            cls,
            readings,
            history,
            seed=seed,
            clock=time.perf_counter,
            progress=lambda _done, doing, _metrics: report.note(f"  {doing}"),
        )
    report.result(figures)


def skab(directory: Path, *, as_json: bool) -> None:
    """Learn from the first readings of every experiment below the directory, test the others, and print how that went.

    Raises:
        SourceError: there is no labelled experiment, or one that cannot be read.
    """
    from maintenance.equipment_class import equipment_class_from_contract
    from maintenance.readings import MaintenanceHistory, readings_from_arrow
    from maintenance.skab_benchmark import LabelledExperiment, evaluate
    from resources.sources.skab import read_experiments

    report = Report(as_json=as_json)
    cls = equipment_class_from_contract(read_contract(SHIPPED / f"pump_testbed{SUFFIX}"))
    nothing = MaintenanceHistory({}, {})
    with report.task("SKAB: reading"):
        experiments = [
            LabelledExperiment(e.name, readings_from_arrow(cls, e.readings, nothing), e.anomalous)
            for e in read_experiments(directory)
        ]
    with report.task("SKAB: learning and testing, file by file"):
        figures = evaluate(cls, experiments, progress=lambda _done, doing, _metrics: report.note(f"  {doing}"))
    # JSON has no word for what is not known.
    report.result({name: None if math.isnan(value) else value for name, value in figures.items()})


def _let_threads_wait() -> None:
    """Before scikit-learn loads OpenMP: threads that spin while they wait starve a shared processor."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
