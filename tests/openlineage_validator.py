"""The official validator beside the project, as tests use it where it is there."""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType
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
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        wrong = _validator().main(
            ["--strict", "--closed-parents", "--custom-schemas", str(SCHEMAS), *options, str(file)]
        )
    assert not wrong, told.getvalue()


@cache
def _validator() -> ModuleType:
    """As a module: most of what it takes as a command is to start and to import."""
    spec = importlib.util.spec_from_file_location("openlineage_validate", VALIDATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
