"""What the documents show is carried out, and what they link to is there."""

import re
from pathlib import Path

import pytest

from resources.home import Home
from tests.scenarios.installation import Installation

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    *"up run replay cmapss evaluate place cost block unblock chaos doctor contracts check".split(),
    *"trace impact lineage status relay gateway reconcile prune".split(),
}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert missing == []


def test_your_own_plant_works_as_written(tmp_path: Path) -> None:
    page = ROOT / "docs" / "your-plant.md"
    installation = Installation(Home(tmp_path / "home").prepare())
    (contract, *_), (site,), (readings,) = (blocks(page, kind) for kind in ("yaml", "toml", "csv"))
    (installation.home.contracts / "fan.odcs.yaml").write_text(contract)
    (installation.home.sites / "west.toml").write_text(site)
    drop = installation.home.drop_folder("west", "fan")
    drop.mkdir(parents=True)
    (drop / "march.csv").write_text(readings)
    report = installation.hybrid("run", "--site", "west")
    assert report["fleets"]["fan"]["telemetry"] == 3
    west = installation.plant("west")
    assert west.table("fan", "telemetry_quarantine").read("west")["reason"].to_pylist() == [
        "out_of_range:vibration_mm_s"
    ]
    advised = west.advisories("fan").read("west").to_pylist()
    assert {(a["served_by"], a["fallback_reason"]) for a in advised} == {("rules", "no_release")}


def test_every_question_that_your_own_plant_may_ask_is_shown_and_sound() -> None:
    import yaml

    import maintenance.questions
    from backbone import plugins
    from backbone.odcs import contract_from_odcs
    from maintenance.equipment_class import equipment_class_from_contract

    contract, *others = (yaml.safe_load(block) for block in blocks(ROOT / "docs" / "your-plant.md", "yaml"))
    asked = [equipment_class_from_contract(contract_from_odcs(contract | other)).question for other in ({}, *others)]
    assert sorted(asked) == list(plugins.names(maintenance.questions))


def test_the_readme_shows_commands_that_exist() -> None:
    from typer.testing import CliRunner

    from cli.main import app

    (shown,) = [b for b in blocks(ROOT / "README.md", "") if "hybrid up" in b]
    for line in shown.splitlines():
        words = [w for w in line.split()[1:] if re.fullmatch(r"[a-z]+", w)]
        command = [w for w in words[:2] if w in COMMANDS]
        assert command, line
        result = CliRunner().invoke(app, [*command, "--help"])
        assert result.exit_code == 0, line
        for flag in re.findall(r"--[a-z]+", line):
            assert flag in result.output, (line, flag)


def test_what_a_contract_may_say_is_documented() -> None:
    from backbone.contracts import ARROW_TYPES, DOCUMENT_TYPES, ROLES, RULE_KINDS, SEVERITIES, STATUSES
    from backbone.requirements import CLASSIFICATIONS

    page = (ROOT / "docs" / "contracts.md").read_text()
    physical = [name for types in ARROW_TYPES.values() for name in types]
    words = [*ARROW_TYPES, *physical, *DOCUMENT_TYPES, *ROLES, *STATUSES, *CLASSIFICATIONS, *SEVERITIES, *RULE_KINDS]
    assert [word for word in words if not re.search(rf"\b{word}\b", page)] == []
