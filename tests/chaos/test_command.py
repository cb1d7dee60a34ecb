"""`hybrid chaos` from the outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HYBRID = str(Path(sys.executable).with_name("hybrid"))


def hybrid_chaos(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"HYBRID_HOME": str(home), "HYBRID_STATE_URL": "sqlite:////nowhere/at/all.db"}
    command = [HYBRID, "chaos", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=250)


@pytest.mark.parametrize(
    ("text", "says"),
    [('name = "x"\ndays = 1\n[[faults]]\nkind = "gremlins"\nday = 0\n', "line 4"), ("days = 1\n", "name is missing")],
)
def test_bad_input_ends_with_2(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    done = hybrid_chaos(tmp_path / "home", "--scenario", str(path))
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.slow
def test_a_rehearsal_leaves_nothing_behind_and_touches_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = hybrid_chaos(home, "--faults", "5", "--seed", "3", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["answers_given"] == report["answers_due"] > 0
    assert report["violations"] == []
    assert not home.exists()
