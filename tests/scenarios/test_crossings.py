"""Nothing reaches a store of another location but through the conduit, and every crossing is on record."""

import ast
import hashlib
from pathlib import Path

from resources.conduit import digest_of
from tests.scenarios.installation import Installation

ROOT = Path(__file__).resolve().parents[2]


def test_every_crossing_of_a_served_plant_is_recorded(served: Installation) -> None:
    ways = {(c.what, c.source.location, c.destination.location) for c in served.plant().state.crossings()}
    assert ways == {
        ("pump/telemetry", "edge", "on_prem"),
        ("pump/maintenance_history", "edge", "on_prem"),
        ("pump/training_set", "on_prem", "cloud"),
        ("pump/trained_model", "cloud", "on_prem"),  # it is judged where that is cheapest
        ("pump/model_release", "cloud", "on_prem"),
    }


def test_what_lies_in_the_cloud_came_through_the_conduit_or_was_made_there(served: Installation) -> None:
    cloud = served.home.store("cloud")
    arrived = [c for c in served.plant().state.crossings() if c.destination.location == "cloud"]
    for crossing in arrived:
        assert digest_of(cloud / crossing.destination.path)[0] == crossing.digest
    brought = {cloud / c.destination.path for c in arrived}
    for path in cloud.rglob("*"):
        if path.is_file():
            made_there = path.is_relative_to(cloud / "work") or path.is_relative_to(cloud / "pipes")
            assert made_there or any(path.is_relative_to(folder) for folder in brought), path


def test_the_release_is_what_the_cloud_made(served: Installation) -> None:
    (crossing,) = [c for c in served.plant().state.crossings() if c.what == "pump/model_release"]
    made = served.home.store("cloud") / crossing.source.path / "model.onnx"
    released = served.plant().registry("pump").current().bundle / "model.onnx"
    assert hashlib.sha256(made.read_bytes()).digest() == hashlib.sha256(released.read_bytes()).digest()


def test_no_asset_writes_to_the_cloud_or_the_edge_itself() -> None:
    """In the assets, the stores of those locations are only named in inputs, conduit calls and the landing's export."""
    allowed = {"_relative", "_carry"}
    for path in (ROOT / "hybrid_assets").glob("*.py"):
        for function in [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]:
            for call in [n for n in ast.walk(function) if isinstance(n, ast.Call)]:
                writes = isinstance(call.func, ast.Attribute) and call.func.attr in {
                    "write_text", "write_bytes", "mkdir", "open", "replace", "rename",
                }  # fmt: skip
                if writes and function.name not in allowed:
                    text = ast.unparse(call)
                    assert "cloud" not in text, f"{path.name}: {text}"
                    assert "edge" not in text, f"{path.name}: {text}"
