"""What the graph is made of: automation that is on, light imports, and classes and plants that need no Python."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from backbone.errors import ConfigurationError
from hybrid_assets.definitions import WORK, build_definitions
from maintenance.data_products import contracts_of
from maintenance.equipment_class import equipment_class_from_contract
from quality.judged import DOCUMENTS
from resources.home import Home
from resources.plant import Catalog

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    *("sklearn", "onnxruntime", "onnx", "skl2onnx", "matplotlib", "pandas", "great_expectations", "model_signing"),
    *("sqlalchemy", "alembic", "deltalake", "ray", "kubernetes", "numba", "numpy", "pyarrow", "stamina", "openlineage"),
)


def python(code: str, **environment: str) -> str:
    variables = os.environ | environment
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_automation_is_on_and_can_be_stopped_in_the_ui(home: Home) -> None:
    repository = build_definitions(home).get_repository_def()
    repository.load_all_definitions()  # as a code server does: names that clash are told by this only
    running = {s.name for s in repository.sensor_defs if s.default_status == dg.DefaultSensorStatus.RUNNING}
    running |= {s.name for s in repository.schedule_defs if s.default_status == dg.DefaultScheduleStatus.RUNNING}
    for name in ("pump", "turbofan"):
        steps = ("landing", "fallback", "recovery", "quality", "orphans", "scoring_hourly", "training_nightly")
        assert {f"{name}_{step}" for step in steps} | {"lineage", "pump_dead_letters"} <= running


def test_every_check_that_a_contract_promises_is_made(home: Home) -> None:
    graph = build_definitions(home).resolve_asset_graph()
    contracts = Catalog(home).contracts
    products = contracts_of(equipment_class_from_contract(contracts["pump"]), contracts)
    promised = {(("pump", name), rule.kind) for name, contract in products.items() for rule in contract.rules}
    of_documents = {(("pump", name), "holds_contract") for name in DOCUMENTS}
    made = {(tuple(key.asset_key.path), key.name) for key in graph.asset_check_keys}
    assert {one for one in promised if one[0][1] not in DOCUMENTS} | of_documents <= made


def test_loading_the_definitions_imports_nothing_heavy(home: Home) -> None:
    classes = Catalog(home).classes
    fleets = "".join(f'[fleets.{name}]\nsource = {{ kind = "files" }}\n' for name in classes)
    head, _, _ = (home.sites / "hangar.toml").read_text().partition("[fleets.")
    (home.sites / "hangar.toml").write_text(head + fleets)
    code = (
        "import json, sys; from hybrid_assets.definitions import defs\n"
        "groups = {s.group_name for s in defs.resolve_all_asset_specs()}\n"
        "print(json.dumps([sorted(groups), sorted(sys.modules)]))"
    )
    groups, loaded = json.loads(python(code, HYBRID_HOME=str(home.root)).splitlines()[-1])
    assert groups == sorted(classes), "every class that ships is there"
    assert set(loaded) & set(HEAVY) == set()


def test_what_warm_runs_import_ahead_is_there() -> None:
    assert [name for name in WORK if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("package", ["backbone", "maintenance", "hybrid_assets.workers.train"])
def test_what_runs_without_dagster_does_not_import_it(package: str) -> None:
    code = f"import {package}, pkgutil, importlib, sys\nprint('dagster' in sys.modules)"
    assert python(code).strip() == "False"


def test_a_class_without_a_plant_has_no_assets(tmp_path: Path) -> None:
    specs = build_definitions(Home(tmp_path).prepare()).resolve_all_asset_specs()
    assert {s.key.path[0] for s in specs} == {"pump"}


def test_windows_are_site_by_day_and_training_is_by_site(home: Home) -> None:
    graph = build_definitions(home).resolve_asset_graph()
    windows = graph.get(dg.AssetKey(["pump", "telemetry"])).partitions_def
    assert isinstance(windows, dg.MultiPartitionsDefinition)
    assert windows.partition_dimension_names == ["day", "site"]
    assert len(windows.get_partition_keys()) == 151, "the history and today"
    trained = graph.get(dg.AssetKey(["pump", "trained_model"])).partitions_def
    assert trained is not None
    assert trained.get_partition_keys() == ["riverside"]


def test_a_wrong_site_file_fails_at_load_and_names_the_file(home: Home) -> None:
    text = '[calendar]\nfirst_day = 2025-01-01\n[fleets.pmup]\nsource = {kind = "files"}\n'
    (home.sites / "broken.toml").write_text(text)
    with pytest.raises(ConfigurationError, match="broken"):
        build_definitions(home)
