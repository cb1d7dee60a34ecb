"""The official validator beside the project, as tests use it where it is there."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backbone.lineage.events import canonical

ROOT = Path(__file__).resolve().parents[1]
VALIDATOR = ROOT.parent / "shared" / "tools" / "openlineage_validate.py"
SCHEMAS = ROOT / "resources" / "lineage" / "schemas"


def assert_valid(events: Sequence[Mapping[str, Any]], folder: Path, *options: str) -> None:
    """Hold events to the standard's schemas and ours, and to the life of every run, where the validator is there.

    Where it is not, a test's own assertions go on; that it was not there is told by the one test of its presence.

    Args:
        folder: for the file that is checked.
        options: of the validator, such as `--allow-open`.
    """
    if not VALIDATOR.exists():
        return
    file = folder / "events.ndjson"
    file.write_bytes(b"".join(canonical(event) + b"\n" for event in events))
    command = [sys.executable, VALIDATOR, "--strict", "--closed-parents", "--custom-schemas", SCHEMAS, *options, file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
