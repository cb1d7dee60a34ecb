"""The page that says what becomes of each case names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CASES = (ROOT / "docs" / "gateway-cases.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", CASES)
    assert len(named) > 50
    gone = [
        f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert gone == []
