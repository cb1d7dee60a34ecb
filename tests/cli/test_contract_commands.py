"""`hybrid contracts`: sound, comparable with what was, refused with the way out."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backbone.errors import ConfigurationError
from cli.main import app
from resources.catalog.contracts import SHIPPED
from resources.home import Home
from tests.fan_contract import FAN

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one contract of its own."""
    home = Home(tmp_path / "home").prepare()
    monkeypatch.setenv("HYBRID_HOME", str(home.root))
    path = home.contracts / "fan.odcs.yaml"
    path.write_text(FAN)
    return path


def check(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["contracts", "check", *arguments, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout)


def commit(folder: Path) -> None:
    who = ["-c", "user.name=Fan", "-c", "user.email=fan@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "as it was"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def shipped_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The contracts that ship, in a repository of their own: the tests' may be none, or lack the revision."""
    copy = tmp_path / "shipped" / "contracts"
    shutil.copytree(SHIPPED, copy)
    commit(copy)
    monkeypatch.setattr("cli.contracts.SHIPPED", copy)
    return copy


def test_every_contract_of_the_installation_is_checked(fan: Path) -> None:
    code, report = check()
    assert code == 0
    assert {"fan", "pump", "advisories", "model_release"} <= {c["name"] for c in report["contracts"]}
    assert report["problems"] == report["refused"] == []


def test_wrong_ones_are_all_told_of_with_file_and_line(fan: Path) -> None:
    fan.write_text(FAN.replace("value: rpm", "value: furlong"))
    (fan.parent / "fen.odcs.yaml").write_text(FAN.replace("name: fan", "name: fen").replace("id: fan", "id: fen")
        .replace("remainingUsefulLife", "remainingUsefulLive"))  # fmt: skip
    (fan.parent / "gate.odcs.yaml").write_text("- no mapping")
    code, report = check("--against", "HEAD")
    assert code == 1
    first, second, third = report["problems"]
    assert f"{fan}, line 15" in first["problem"]
    assert "'furlong' is no unit" in first["problem"]
    assert "remainingUsefulLive" in second["problem"]
    assert second["next_step"] == "Rename remainingUsefulLive to remainingUsefulLife."
    assert "holds no contract, but a list" in third["problem"]


@pytest.mark.usefixtures("shipped_apart")
def test_a_change_that_zones_would_not_survive_is_refused(fan: Path) -> None:
    commit(fan.parent)
    assert check("--against", "HEAD")[0] == 0
    fan.write_text(FAN.replace("maximum: 3000", "maximum: 4000").replace("1.0.0", "1.1.0"))
    code, report = check("--against", "HEAD")
    assert code == 1
    (refused,) = report["refused"]
    assert (refused["contract"], refused["rule"], refused["column"]) == ("fan", "range_widened", "speed_rpm")
    assert refused["breaks"] == ["old"]
    assert "0 to 3000, is 0 to 4000" in refused["problem"]
    assert refused["instead"]
    said = CliRunner().invoke(app, ["contracts", "check", "--against", "HEAD"]).stdout
    assert "REFUSED  fan, column speed_rpm: range_widened" in said


@pytest.mark.usefixtures("fan")
def test_shipped_contracts_are_compared_too(shipped_apart: Path, fan: Path) -> None:
    commit(fan.parent)
    plan = shipped_apart / "maintenance_plan.odcs.yaml"
    plan.write_text(plan.read_text().replace("value: confidential", "value: internal"))
    (shipped_apart / "prognoses.odcs.yaml").unlink()
    pump = shipped_apart / "pump.odcs.yaml"
    pump.write_text(pump.read_text().replace("means: [12, 36, 84]", "means: [12, 84]"))
    _, report = check("--against", "HEAD")
    found = {(c["contract"], c["rule"]) for c in report["refused"]}
    assert {
        ("maintenance_plan", "classification_lowered"),
        ("maintenance_plan", "version_not_raised"),
        ("prognoses", "contract_removed"),
        ("pump", "version_not_raised"),
        ("pump/condition_features", "column_removed"),
    } <= found


def test_without_git_a_folder_does(fan: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    shutil.copytree(fan.parent, before)
    fan.write_text(FAN.replace("value: rpm", "value: Hz").replace("1.0.0", "2.0.0"))
    code, report = check("--against", str(before))
    assert code == 1
    assert [(c["rule"], c["column"]) for c in report["refused"]] == [("unit_changed", "speed_rpm")]


@pytest.mark.parametrize("revision", ["HEAD", "no-such-branch", "--output=x", ""])
@pytest.mark.usefixtures("shipped_apart")
def test_a_home_without_a_repository_says_what_to_do(fan: Path, revision: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check("--against", revision)
    assert "--against DIR" in caught.value.next_step


@pytest.mark.usefixtures("shipped_apart")
def test_a_folder_that_git_ignores_is_not_taken_for_unchanged(fan: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / ".gitignore").write_text("contracts\n")
    commit(tmp_path / "home")
    with pytest.raises(ConfigurationError, match="ignores"):
        check("--against", "HEAD")


def test_an_empty_folder_is_no_past(fan: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="holds no contracts"):
        check("--against", str(tmp_path / "empty"))


def test_the_page_of_data_products_is_what_the_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path / "home"))
    page = tmp_path / "page.md"
    assert CliRunner().invoke(app, ["contracts", "docs", "--output", str(page)]).exit_code == 0
    assert page.read_text() == (ROOT / "docs" / "data-products.md").read_text(), (
        "hybrid contracts docs --output docs/data-products.md"
    )


def test_the_page_tells_of_a_users_own(fan: Path) -> None:
    said = CliRunner().invoke(app, ["contracts", "docs"]).stdout
    assert "## telemetry: fan" in said
    assert "| `speed_rpm` | double | rpm | 0 to 3000 |" in said
