"""The command line: one line that says what to do, and JSON for scripts."""

import json
import socket
from pathlib import Path

import pytest

from resources.home import Home
from tests.scenarios.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(Home(tmp_path / "home").prepare())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--site", "atlantis"], "There is no site named 'atlantis'; known: riverside."),
        (["run", "--site", "riverside", "--from", "1999-01-01"], "not in the calendar of riverside"),
        (["replay", "cmapss", "/no/such/folder", "--site", "x"], "/no/such/folder"),
        (["evaluate", "cmapss", "/no/such/folder"], "/no/such/folder"),
        (["evaluate", "cmapss", ".", "--subset", "FD009"], "FD009"),
    ],
)
def test_a_mistake_is_one_line_with_a_way_out(installation: Installation, arguments: list[str], says: str) -> None:
    done = installation.run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_taken_port_is_said_before_anything_starts(installation: Installation) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = installation.run("up", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "is taken. Choose another with --port." in done.stderr


def test_doctor_is_content_with_a_fresh_installation(installation: Installation) -> None:
    done = installation.run("doctor", "--json")
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == 0, findings
    assert {"home", "disk", "configuration", "riverside/pump"} <= {f["subject"] for f in findings}


def test_doctor_names_a_broken_site_file_and_fails(installation: Installation) -> None:
    (installation.home.sites / "broken.toml").write_text("[calendar\n")
    done = installation.run("doctor")
    assert done.returncode == 1
    assert "broken.toml" in done.stdout
