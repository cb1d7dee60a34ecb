"""Training sees its inputs and its own folder, knows no Dagster, and leaves nothing but a bundle."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dagster_pipes import encode_param

from tests.scenarios.installation import Installation


@pytest.fixture
def without_dagster(tmp_path: Path) -> Path:
    """A folder that, put first on the path, makes any import of Dagster fail."""
    package = tmp_path / "without" / "dagster"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('there is no Dagster at this location')\n")
    return package.parent


def test_it_runs_with_no_dagster_and_the_other_stores_out_of_reach(
    copied: Callable[[], Installation], without_dagster: Path, tmp_path: Path
) -> None:
    installation = copied()
    stores = installation.home.root / "stores"
    training_set = stores / "cloud" / "pump" / "training_folder" / "north"
    assert training_set.is_dir()
    shutil.move(installation.home.root, tmp_path / "hidden")
    alone = tmp_path / "cloud-machine" / "training_set"
    shutil.copytree(tmp_path / "hidden" / training_set.relative_to(installation.home.root), alone)
    (tmp_path / "hidden").chmod(0)
    unset = ("asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key")
    context = dict.fromkeys([*unset, "partition_key_range", "partition_time_window", "job_name"])
    program = """
import sys
from hybrid_assets.workers import train
train.run()
assert 'dagster' not in sys.modules
"""
    work = tmp_path / "cloud-machine" / "work"
    work.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "PYTHONPATH": str(without_dagster),
        "INPUT_TRAINING_SET": str(alone),
        "OMP_WAIT_POLICY": "PASSIVE",
        "DAGSTER_PIPES_CONTEXT": encode_param(
            {"data": {**context, "extras": {"seed": 7, "budget": 0.1}, "run_id": "r", "retry_number": 0}}
        ),
        "DAGSTER_PIPES_MESSAGES": encode_param({"stdio": "stdout"}),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=work, env=environment, capture_output=True, text=True, timeout=200
        )
    finally:
        (tmp_path / "hidden").chmod(0o755)
    assert done.returncode == 0, done.stderr
    sent = [json.loads(line) for line in done.stdout.splitlines()]
    completed = next(m["params"]["payload"]["completed"] for m in sent if m["method"] == "report_custom_message")
    bundle = json.loads((work / "record.json").read_text())["bundle"]
    files = ("model.onnx", "manifest.json", "baseline.json", "model_card.md", "drift_reference.json")
    assert set(completed) == {"record.json", *(f"{bundle}/{name}" for name in files)}
    for name, digest in completed.items():
        assert digest == f"sha256:{hashlib.sha256((work / name).read_bytes()).hexdigest()}"


def test_it_tells_how_far_it_is_while_it_runs(served: Installation) -> None:
    import dagster as dg

    with dg.DagsterInstance.from_config(str(served.home.dagster)) as instance:
        run = next(r for r in instance.get_runs() if r.job_name == "pump_train")
        logged = [e.user_message for e in instance.all_logs(run.run_id) if e.step_key == "pump_trained_model"]
    assert any("fold" in line for line in logged)
    assert any("rmse" in line for line in logged)


def test_nothing_in_a_store_is_a_pickle(served: Installation) -> None:
    suffixes = {p.suffix for p in (served.home.root / "stores").rglob("*") if p.is_file()}
    assert suffixes <= {
        ".parquet",
        ".json",
        ".onnx",
        ".md",
        ".yaml",
        ".sig",
        ".log",
        ".lock",
        "",
        ".tmp",
        ".checkpoint",
    }
    for path in (served.home.root / "stores").rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                assert stream.read(2) not in (b"\x80\x04", b"\x80\x05"), path
