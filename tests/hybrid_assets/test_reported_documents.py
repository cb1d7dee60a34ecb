"""What a worker elsewhere reports is held to its contract before it is kept."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from backbone.conduit import StorePath
from hybrid_assets import training
from hybrid_assets.assets.training import training_assets
from hybrid_assets.fleet import Fleet
from maintenance.equipment_class import equipment_class_from_contract
from resources.bindings.plants import Plants
from resources.home import Home
from tests.shared_instance import shared_instance

SITE = "riverside"
POINTS = {"true": [1.0, 2.0], "predicted": [1.0, 2.5]}
TRAINED: dict[str, Any] = {
    "bundle": "bundle",
    "manifest": {"metrics": {}, "model": ["ridge"], "candidates": []},
    "card": "# A model",
    "train_seconds": 1.5,
    "points": POINTS,
}
BAND = {"told": 3.0, "share": 0.9, "rows": 4, "width": 2.0}
RELIABILITY = {"kind": "interval_coverage", "promised": 0.9, "bands": [BAND]}
JUDGED = {"passed": True, "reasons": [], "metrics": {}, "points": POINTS}


@pytest.fixture
def plants(tmp_path: Path) -> Plants:
    found = Plants(home=str(Home(tmp_path / "home").prepare().root))
    candidate = {**TRAINED, "location": "cloud"}
    found.plant(SITE).candidates("pump").put("a-run", json.dumps(candidate))
    return found


def materialize(plants: Plants, asset: str, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an asset of a class as if a worker had reported a record."""

    def reported(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(record=dict(record), crossings=[], location="cloud", folder=StorePath("cloud", "work/1"))

    monkeypatch.setattr(training, "run_placed", reported)
    monkeypatch.setattr(training, "placed_metadata", lambda *_: {})
    monkeypatch.setattr(training, "_require_failures", lambda *_: None)
    known = plants.catalog.contracts
    fleet = Fleet(equipment_class_from_contract(known["pump"]), tuple(plants.catalog.with_class("pump")), known)
    (made,) = [a for a in training_assets(fleet) if fleet.key(asset) in a.keys]
    return dg.materialize(
        [made], resources={"plants": plants}, partition_key=SITE, raise_on_error=False, instance=shared_instance()
    )


@pytest.mark.parametrize(
    ("asset", "record", "reason"),
    [
        ("trained_model", TRAINED, None),
        ("trained_model", TRAINED | {"train_seconds": -1.0}, "out_of_range:train_seconds"),
        ("trained_model", TRAINED | {"card": None}, "missing:card"),
        (
            "trained_model",
            TRAINED | {"manifest": TRAINED["manifest"] | {"metrics": {"onnx_max_abs_diff": 0.5}}},
            "out_of_range:manifest.metrics.onnx_max_abs_diff (0.5, range 0 to 0.01)",
        ),
        ("model_evaluation", JUDGED, None),
        ("model_evaluation", JUDGED | {"reliability": RELIABILITY}, None),
        (
            "model_evaluation",
            JUDGED | {"reliability": RELIABILITY | {"bands": [BAND, BAND | {"share": 1.5}]}},
            "out_of_range:reliability.bands[1].share (1.5, range 0 to 1)",
        ),
        ("model_evaluation", JUDGED | {"passed": "yes"}, "wrong_type:passed"),
        (
            "model_evaluation",
            JUDGED | {"metrics": {"rmse": 1000.0}},
            "out_of_range:metrics.rmse (1000.0, range 0 to 40)",
        ),
    ],
)
def test_a_report_that_does_not_hold_is_not_kept(
    plants: Plants, asset: str, record: dict[str, Any], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = materialize(plants, asset, record, monkeypatch)
    plant = plants.plant(SITE)
    kept = plant.candidates("pump").current() != "a-run" or plant.evaluations("pump").current() is not None
    assert (result.success, kept) == (reason is None, reason is None)
    if reason is not None:
        (failed,) = [e for e in result.all_events if e.is_step_failure]
        assert reason in str(failed.step_failure_data.error)
