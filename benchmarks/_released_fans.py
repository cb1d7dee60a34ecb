"""A plant of 1,000 fans of 20 sensors each, with a gateway and a release that was trained on the spot.

No history: the class, its baseline and its model are made of drawn readings.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gateway.exchange import folders_of
from gateway.porter.edge_copies import EdgeCopies
from gateway.porter.releases import copy_releases
from gateway.settings import settings_of
from maintenance.baseline import OperatingBaseline, fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.features import feature_digest, feature_names
from maintenance.onnx_export import export_onnx
from maintenance.readings import Readings, Rows
from resources.catalog.contracts import SHIPPED as SHIPPED_CONTRACTS
from resources.catalog.sites import SHIPPED as SHIPPED_SITES
from resources.home import Home
from resources.plant import Catalog, Plant

SITE, FLEET = "north", "fan"
MACHINES, SENSORS, TREES = 1_000, 20, 300
NAMES = [f"sensor_{n:02d}" for n in range(SENSORS)]
LEVEL, SPREAD = 50.0, 2.0
_DRAWN_MACHINES, _DRAWN_READINGS = 10, 150
_SITE = """\
[calendar]
first_day = {first_day}

[fleets.fan]
source = {{ kind = "gateway" }}

[gateway]
name = "gw-1"
listen = "127.0.0.1:0"
spool = {{ max_mib = 256, on_full = "drop_oldest" }}

[gateway.fleets.fan]
equipment = ["F-*"]

[[gateway.sources]]
kind = "mqtt"
url = "{url}"

"""


def released_fans(folder: Path, url: str) -> Plant:
    """The plant, with what its porter would have brought to its gateway."""
    home = Home(folder / "home").prepare()
    _contract(home.contracts / f"{FLEET}.odcs.yaml")
    shipped = (SHIPPED_SITES / "riverside.toml").read_text()
    places = shipped[shipped.index("[[locations]]") : shipped.index("[fleets.")]
    first_day = (datetime.now(UTC) - timedelta(days=7)).date()
    (home.sites / f"{SITE}.toml").write_text(_SITE.format(first_day=first_day, url=url) + places)
    plant = Plant(Catalog(home), SITE)
    cls = equipment_class_from_contract(plant.contract(FLEET))
    readings = _readings(cls)
    baseline = fit_baseline(cls, readings)
    features, _ = compute_features(cls, baseline, readings)
    _release(plant, cls, baseline, features.matrix)
    folders = folders_of(plant, settings_of(plant))
    list(EdgeCopies(plant, folders, {FLEET: None}, partial(copy_releases, plant, folders)).look())
    return plant


def _contract(file: Path) -> None:
    document = yaml.safe_load((SHIPPED_CONTRACTS / "pump.odcs.yaml").read_text())
    (table,) = document["schema"]
    keys = [column for column in table["properties"] if column.get("primaryKey")]
    sensors = [
        {
            "name": name,
            "logicalType": "number",
            "description": "A sensor.",
            "logicalTypeOptions": {"minimum": 0, "maximum": 100},
            "customProperties": [{"property": "role", "value": "input"}, {"property": "unit", "value": "1"}],
        }
        for name in NAMES
    ]
    table["properties"] = keys + sensors
    document |= {"id": f"{FLEET}-telemetry", "name": FLEET, "dataProduct": f"{FLEET} telemetry"}
    kept = ("remainingUsefulLife", "features")
    document["customProperties"] = [each for each in document["customProperties"] if each["property"] in kept]
    file.write_text(yaml.safe_dump(document))


def _readings(cls: EquipmentClass) -> Readings:
    """Two hours apart."""
    machine = np.repeat(np.arange(_DRAWN_MACHINES), _DRAWN_READINGS)
    ts = np.datetime64("2026-01-01", "us") + np.arange(_DRAWN_READINGS) * np.timedelta64(2, "h")
    rows = Rows(
        np.array([f"F-{n:04d}" for n in range(_DRAWN_MACHINES)], dtype=object),
        machine,
        np.tile(ts, _DRAWN_MACHINES),
        np.zeros(len(machine), np.int64),
    )
    drawn = np.random.default_rng(7).normal(LEVEL, SPREAD, (len(machine), SENSORS))
    return Readings(rows, cls.contract.inputs, drawn)


def _release(plant: Plant, cls: EquipmentClass, baseline: OperatingBaseline, matrix: np.ndarray) -> None:
    """A regression of 300 trees on all features but the age, as training makes them; what it says is drawn, too."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    # What depends on the time between readings is of another size where a benchmark sends them faster.
    names = tuple(name for name in feature_names(cls) if not name.endswith(("age", "trend")) and "slope" not in name)
    X = matrix[:, [feature_names(cls).index(name) for name in names]].astype(np.float32)
    cap = cls.rul.cap
    life = np.random.default_rng(8).uniform(cap / 2, cap, len(X))
    model = HistGradientBoostingRegressor(max_iter=TREES, early_stopping=False, max_features=0.2, random_state=0).fit(
        X, life
    )
    low, high = np.nanmin(X, axis=0), np.nanmax(X, axis=0)
    manifest: dict[str, Any] = {
        "features": list(names),
        "baseline": baseline.id,
        "feature_digest": feature_digest(cls),
        "rul": {"cap": cap},
        "policy": {"act_below": 2.0},
        "intervals": {"coverage": 0.9, "cap": cap, "centres": [0.0], "low": [-1.0], "high": [1.0]},
        "ranges": {"low": low.tolist(), "high": high.tolist()},
        "healthy": np.zeros(len(names)).tolist(),
    }
    files = {
        "model.onnx": export_onnx(model, X.shape[1]),
        "baseline.json": baseline.to_json().encode(),
        "model_card.md": b"# A model for a benchmark",
    }
    digests = {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in files.items()}
    arrived = plant.root("on_prem") / "arrived"
    arrived.mkdir(parents=True)
    for name, content in files.items():
        (arrived / name).write_bytes(content)
    (arrived / "manifest.json").write_text(json.dumps(manifest | {"digests": digests}))
    plant.registry(FLEET).publish(arrived, additions={})
