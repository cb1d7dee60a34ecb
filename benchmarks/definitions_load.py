"""Loading all definitions of two classes against `import dagster` alone, each in a fresh interpreter.

Both end as soon as the import has: what an interpreter tidies up before it goes is no part of loading.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Benchmark, line, paired
from resources.catalog.sites import SHIPPED
from resources.home import Home

_ROUNDS = 15
_HANGAR = """
[fleets.turbofan]
source = { kind = "files" }
"""


def _rows() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder)).prepare()
        plant, _, _ = (SHIPPED / "riverside.toml").read_text(encoding="utf-8").partition("[fleets.")
        (home.sites / "hangar.toml").write_text(plant + _HANGAR, encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"HYBRID_HOME": folder}

        def load(module: str) -> None:
            code = f"import os, {module}; os._exit(0)"
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)

        both = paired(lambda: load("hybrid_assets.definitions"), lambda: load("dagster"), rounds=_ROUNDS)
    for how, took in zip(("wall time", "processor time"), both, strict=True):
        what = f"loading the definitions of two classes / `import dagster`, {how}"
        yield line(what, took.ours_s, took.peer_s, "≤ 1.3×", ratio=took.ratio)


SPEC = Benchmark("definitions_load", _rows)
