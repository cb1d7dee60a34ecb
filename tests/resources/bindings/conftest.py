"""Instances of Dagster, quicker than it makes them."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest


@pytest.fixture(scope="session")
def new_history(
    made_once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[[Path, str], dg.DagsterInstance]:
    """Opens an instance in a new folder, by a `dagster.yaml` in which HERE is the folder.

    Most of what a new one takes is making its tables by all migrations there ever were: they are copied. In a server's
    database they are made anew.
    """

    def fill(folder: Path, settings: str) -> None:
        (folder / "dagster.yaml").write_text(settings.replace("HERE", str(folder)))
        dg.DagsterInstance.from_config(str(folder)).dispose()

    def opened(folder: Path, settings: str) -> dg.DagsterInstance:
        if "postgres" in settings:
            folder.mkdir()
            (folder / "dagster.yaml").write_text(settings)
            return dg.DagsterInstance.from_config(str(folder))
        kind = hashlib.sha256(settings.encode()).hexdigest()[:12]
        shutil.copytree(made_once(f"history-{kind}", lambda made: fill(made, settings)), folder, dirs_exist_ok=True)
        (folder / "dagster.yaml").write_text(settings.replace("HERE", str(folder)))
        return dg.DagsterInstance.from_config(str(folder))

    return opened
