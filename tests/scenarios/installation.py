"""A home folder, and the command that works on it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.catalog.sites import SHIPPED
from resources.home import Home
from resources.plant import Catalog, Plant
from tests.warm_start import run_warm


@dataclass(frozen=True)
class Installation:
    """A home folder and the command that works on it."""

    home: Home

    def hybrid(
        self, *arguments: str, ok: bool = True, checks: bool = False, timeout: float = 280, warm: bool = True
    ) -> dict[str, Any]:
        """Run the command with `--json`; what it printed."""
        done = self.run(*arguments, "--json", checks=checks, timeout=timeout, warm=warm)
        assert (done.returncode == 0) == ok, done.stderr
        return dict(json.loads(done.stdout)) if done.stdout.strip() else {}

    def run(
        self, *arguments: str, checks: bool = False, timeout: float = 280, warm: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run the command. `hybrid run` judges windows only where a test is about that: it takes its time.

        Args:
            warm: in a process that finds its imports made, not one that starts as a user's does.
        """
        if arguments[0] == "run" and not checks:
            arguments = (*arguments, "--no-checks")
        variables = os.environ | {"HYBRID_HOME": str(self.home.root)}
        if warm:
            return run_warm(arguments, variables, timeout=timeout)
        command = [str(Path(sys.executable).with_name("hybrid")), *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout)

    def plant(self, site: str = "north") -> Plant:
        return Plant(Catalog(self.home), site)

    def metadata(self, *key: str) -> list[dict[str, Any]]:
        """What each materialization of an asset told, the newest first."""
        import dagster as dg

        with dg.DagsterInstance.from_config(str(self.home.dagster)) as instance:
            found = instance.fetch_materializations(dg.AssetKey(list(key)), limit=1000).records
        made = [record.asset_materialization for record in found]
        return [{name: value.value for name, value in m.metadata.items()} for m in made if m is not None]

    def add_site(self, name: str, text: str) -> None:
        """A site with the locations and targets of the one that ships."""
        shipped = (SHIPPED / "riverside.toml").read_text()
        places = shipped[shipped.index("[[locations]]") : shipped.index("[fleets.")]
        (self.home.sites / f"{name}.toml").write_text(text + places)
