"""`hybrid evaluate`: accuracy on public data, through the same functions as the assets."""

from __future__ import annotations

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
    # Before scikit-learn loads OpenMP: threads that spin while they wait starve a shared processor.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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
