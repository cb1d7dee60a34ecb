"""`hybrid place`, `hybrid cost`, `hybrid block` and `hybrid unblock`, as people and scripts meet them."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from backbone.errors import HybridError
from cli.main import app
from resources.home import Home
from resources.plant import Catalog, Plant

RIVERSIDE = ["--site", "riverside"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path / "home").prepare()
    monkeypatch.setenv("HYBRID_HOME", str(made.root))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.delenv("HYBRID_STATE_URL", raising=False)
    return made


def hybrid(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, *RIVERSIDE])


def told(*arguments: str) -> dict[str, Any]:
    result = hybrid(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return dict(json.loads(result.stdout))


def refused(*arguments: str) -> str:
    result = hybrid(*arguments)
    assert isinstance(result.exception, HybridError), result.output
    return str(result.exception)


def rejections(work: str) -> dict[str, list[str]]:
    """Target → what speaks against it, as `hybrid place` has it."""
    placement = json.loads(hybrid("place", work, "--json").stdout)
    return {c["target"]: [f"{r['rule']}: {r['why']}" for r in c["rejected"]] for c in placement["candidates"]}


# Placement.


def test_an_asset_a_workload_and_an_alternative_can_be_asked_for(home: Home) -> None:
    assert told("place", "pump/trained_model")["alternative"] == "training-full"
    assert told("place", "training")["alternative"] == "training-full"
    small = told("place", "training-small")
    assert (small["alternative"], small["target"], small["budget"]) == ("training-small", "plant-worker", 0.3)
    assert {c["alternative"] for c in small["candidates"]} == {"training-small"}


def test_an_unknown_name_lists_assets_workloads_and_alternatives(home: Home) -> None:
    known = refused("place", "tea").partition("known: ")[2]
    for name in ("pump/prognoses", "trained_model", "scoring", "training-full"):
        assert name in known


def test_where_nothing_fits_the_table_is_told_once(home: Home) -> None:
    hybrid("block", "--workload", "scoring", "--for", "1h", "--reason", "stocktaking")
    result = hybrid("place", "scoring")
    assert (result.stdout + str(result.exception)).count("scoring on plant-server (on_prem): rejected") == 1
    assert "No target can take scoring now." in str(result.exception)


@pytest.mark.parametrize("arguments", [["place", "scoring"], ["cost"], ["block", "--list"]])
def test_looking_makes_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Home
) -> None:
    before = sorted(home.root.rglob("*"))
    assert hybrid(*arguments).exit_code == 0
    assert sorted(home.root.rglob("*")) == before
    nowhere = tmp_path / "nowhere"
    monkeypatch.setenv("HYBRID_HOME", str(nowhere))
    result = hybrid(*arguments)
    assert result.exit_code == 0
    assert not nowhere.exists()
    assert list(tmp_path.iterdir()) == [home.root]


@pytest.mark.parametrize("arguments", [["place", "scoring"], ["cost"], ["block", "--list"]])
def test_that_there_is_no_home_yet_is_said(
    arguments: list[str], tmp_path: Path, home: Home, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit) as ended:
        app([*arguments, *RIVERSIDE])
    assert ended.value.code == 0
    assert "Nothing has run at riverside yet: there is no" in " ".join(capfd.readouterr().err.split())


# Blocks.


def test_announced_maintenance_keeps_work_off_a_location_and_says_why(home: Home) -> None:
    made = told("block", "--location", "on_prem", "--for", "2h", "--reason", "new switch")
    assert (made["location"], made["target"], made["workload"], made["announced"]) == ("on_prem", None, None, True)
    assert made["now_runs_on"] == {"training": "cloud-worker", "evaluation": "cloud-worker", "scoring": "edge-box"}
    found = rejections("scoring")
    for target in ("plant-server", "plant-worker"):
        (why,) = found[target]
        assert why.startswith("blocked: location on_prem until ")
        assert why.endswith(": new switch")
    assert found["edge-box"] == []
    assert told("unblock", "--location", "on_prem")["ended"][0]["reason"] == "new switch"
    assert rejections("scoring")["plant-server"] == []


def test_a_block_covers_all_that_it_names_together(home: Home) -> None:
    told("block", "--target", "plant-worker", "--workload", "training", "--for", "1d", "--reason", "scoring first")
    assert any("blocked" in why for why in rejections("training-small")["plant-worker"])
    assert not any("blocked" in why for why in rejections("evaluation")["plant-worker"])


def test_an_alternative_can_be_blocked_by_its_name(home: Home) -> None:
    made = told("block", "--workload", "training-full", "--for", "1h30m", "--reason", "over budget")
    assert made["now_runs_on"]["training"] == "plant-worker"


def test_blocks_are_listed_with_those_that_failures_made(home: Home) -> None:
    plant = Plant(Catalog(home), "riverside")
    plant.dispatcher.blocks.failed("cloud-worker", "it died", plant.clock.now())
    told("block", "--workload", "scoring", "--for", "45m", "--reason", "stocktaking")
    listed = told("block", "--list")["blocks"]
    assert [(b["target"], b["workload"], b["reason"], b["announced"]) for b in listed] == [
        ("cloud-worker", None, "it died", False),
        (None, "scoring", "stocktaking", True),
    ]
    lines = hybrid("block", "--list").stdout.splitlines()
    assert lines[0].startswith("target cloud-worker is left alone until ")
    assert lines[1].endswith("(announced): stocktaking")
    assert told("unblock", "--target", "cloud-worker")["ended"][0]["announced"] is False
    assert [b["workload"] for b in told("block", "--list")["blocks"]] == ["scoring"]


def test_a_block_after_which_nothing_is_left_says_so(home: Home) -> None:
    result = hybrid("block", "--workload", "scoring", "--for", "10m", "--reason", "stocktaking")
    assert "no target is left for scoring" in result.stdout
    assert "training would now run on cloud-worker" in result.stdout


FOR = ("--for", "2h", "--reason", "x")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("block", "--target", "moon", *FOR), "known: cloud-worker, edge-box, plant-server, plant-worker"),
        (("block", "--location", "moon", *FOR), "known: cloud, edge, on_prem"),
        (("block", "--workload", "tea", *FOR), "known: evaluation, scoring, training, training-full, training-small"),
        (("block", *FOR), "Name a --target (edge-box"),
        (("unblock",), "Name a --target (edge-box"),
        (("block", "--target", "edge-box", "--location", "cloud", *FOR), "edge-box is at edge, not at cloud"),
        (("block", "--location", "cloud"), "--for 2h"),
        (("block", "--location", "cloud", "--for", "2h", "--reason", " "), "its reason"),
        (("block", "--location", "cloud", "--for", "soon", "--reason", "x"), "45m, 2h, 1h30m"),
        (("block", "--location", "cloud", "--for", "0s", "--reason", "x"), "out of range"),
        (("block", "--location", "cloud", "--for", "999999999d", "--reason", "x"), "out of range"),
        (("unblock", "--location", "cloud"), "no block at site riverside named 'location cloud'; known: none"),
    ],
)
def test_a_mistake_is_told_with_a_way_out_and_blocks_nothing(home: Home, arguments: tuple[str, ...], says: str) -> None:
    assert says in refused(*arguments)
    assert told("block", "--list")["blocks"] == []


def test_where_there_is_no_home_nothing_is_blocked_and_none_is_made(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path / "mistyped"))
    assert "HYBRID_HOME" in refused("block", "--location", "cloud", *FOR)
    assert not (tmp_path / "mistyped").exists()


def test_a_state_from_before_there_were_wider_blocks_goes_on_working(home: Home) -> None:
    with sqlite3.connect(home.root / "state.db") as connection:
        connection.execute(
            "CREATE TABLE blocks (site VARCHAR, target VARCHAR, until DATETIME, why TEXT, strikes INTEGER, "
            "successes INTEGER, PRIMARY KEY (site, target))"
        )
    told("block", "--location", "cloud", *FOR)
    assert len(told("block", "--list")["blocks"]) == 1
