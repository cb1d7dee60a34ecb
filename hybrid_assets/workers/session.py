"""A worker's side of a Dagster Pipes session: inputs, log lines, and the record that says it has finished."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dagster_pipes import PipesContext, open_dagster_pipes

from backbone.targets import COMPLETED


def input_folder(name: str) -> Path | None:
    """A file or folder the target was given, or None."""
    given = os.environ.get(f"INPUT_{name.upper()}")
    return Path(given) if given else None


def run_worker(work: Callable[[PipesContext], Mapping[str, Any]]) -> None:
    """Do the work inside a Pipes session and report what it returns, last of all, as the completion record."""
    with open_dagster_pipes() as pipes:
        record = work(pipes)
        pipes.report_custom_message({COMPLETED: dict(record)})
