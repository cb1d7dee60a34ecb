"""Loading all definitions against `import dagster` alone, each in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.measure import Benchmark, interleaved, line


def _rows() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as home:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"HYBRID_HOME": home}

        def load(module: str) -> None:
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=environment)

        ours, peer = interleaved(lambda: load("hybrid_assets.definitions"), lambda: load("dagster"))
    yield line("loading the definitions / `import dagster`", ours, peer, "≤ 1.3×")


SPEC = Benchmark("definitions_load", _rows)
