"""A plant with a gateway, with features of two days, and with releases made on the spot."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from backbone.windows import WindowRange
from gateway.exchange import Folders
from hybrid_assets.feature_tables import features_to_arrow
from maintenance.baseline import OperatingBaseline, fit_baseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.feature_state import FeatureState
from maintenance.features import feature_digest, feature_names
from maintenance.readings import Readings, history_from_arrow, readings_from_arrow
from resources.home import Home
from resources.plant import Catalog, Plant

SITE = """\
[calendar]
first_day = 2025-12-01
[fleets.pump]
source = { kind = "gateway" }
[gateway]
name = "gw-1"
[gateway.fleets.pump]
equipment = ["P-*"]
[[locations]]
name = "hall"
kind = "on_prem"
zone = "plant"
jurisdiction = "DE"
[[locations]]
name = "cell"
kind = "edge"
zone = "cell"
jurisdiction = "DE"
[[locations]]
name = "sky"
kind = "cloud"
zone = "sky"
jurisdiction = "IE"
[[targets]]
name = "here"
location = "hall"
kind = "in_process"
"""
DAYS = (date(2025, 12, 1), date(2025, 12, 2))
MACHINES = ("P-1", "P-2", "P-3")
REPAIRED = datetime(2025, 12, 1, 12, 30, tzinfo=UTC)


@cache
def linear_model(columns: int, slope: float) -> bytes:
    """ONNX: five, and the sum of the features times `slope`."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "slope"], ["product"]),
            helper.make_node("Add", ["product", "five"], ["answer"]),
        ],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None, 1])],
        [
            numpy_helper.from_array(np.full((columns, 1), slope, np.float32), "slope"),
            numpy_helper.from_array(np.array([5], np.float32), "five"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@dataclass
class ReleasedPlant:
    """Of pumps, at the premises of which days have been served."""

    root: Path
    plant: Plant = field(init=False)
    cls: EquipmentClass = field(init=False)
    baseline: OperatingBaseline = field(init=False)

    def __post_init__(self) -> None:
        home = Home(self.root / "home").prepare()
        (home.sites / "north.toml").write_text(SITE)
        self.plant = Plant(Catalog(home), "north")
        self.cls = equipment_class_from_contract(self.plant.contract("pump"))
        self.baseline = fit_baseline(self.cls, self.readings())

    @property
    def folders(self) -> Folders:
        return Folders(self.plant.root("edge") / "gateway" / "north" / "gw-1")

    @property
    def names(self) -> tuple[str, ...]:
        """What the models look at."""
        return feature_names(self.cls)[:4]

    @property
    def usual(self) -> dict[str, float]:
        """Sensor → 50, or the middle where the contract does not allow that."""
        sensors = {*self.cls.contract.inputs, *self.cls.contract.with_role("setting")}
        limits = {c.name: (c.minimum or 0.0, c.maximum or 0.0) for c in self.cls.contract.columns if c.name in sensors}
        return {name: 50.0 if low < 48 and high > 52 else (low + high) / 2 for name, (low, high) in limits.items()}

    def events(self) -> pa.Table:
        return pa.table(
            {"equipment_id": ["P-2"], "ts": [REPAIRED], "event": ["failure"], "failure_mode": ["seal_leak"]}
        )

    def readings(self, day: date | None = None) -> Readings:
        """Twelve a day of each machine, about what is usual."""
        contract, random = self.cls.contract, np.random.default_rng(5)
        sensors = (*contract.inputs, *contract.with_role("setting"))
        tables = []
        for machine in MACHINES:
            at = np.datetime64(DAYS[0], "us") + np.arange(24) * np.timedelta64(2, "h")
            values = {name: self.usual[name] + random.normal(0, 1, len(at)) for name in sensors}
            ts = pa.array(at).cast(pa.timestamp("us", tz="UTC"))
            tables.append(pa.table({"equipment_id": [machine] * len(at), "ts": ts, **values}))
        rows = pa.concat_tables(tables)
        found = readings_from_arrow(self.cls, rows, history_from_arrow(self.events()))
        return found if day is None else found.take(found.rows.ts.astype("datetime64[D]") == np.datetime64(day))

    def serve(self, day: date, state: FeatureState | None = None) -> FeatureState:
        """What the graph leaves of a day: features, a checkpoint, the history."""
        features, after = compute_features(self.cls, self.baseline, self.readings(day), state)
        window = WindowRange("north", day, day)
        tables = {
            "condition_features": features_to_arrow(features, self.baseline.id),
            "feature_state": after.to_arrow(),
            "maintenance_history": self.events() if day == DAYS[0] else None,
        }
        for name, rows in tables.items():
            if rows is not None:
                self.plant.table("pump", name).replace(window, rows, run_id="r")
        return after

    def manifest(self, baseline: OperatingBaseline | None = None) -> dict[str, Any]:
        n, cap = len(self.names), self.cls.rul.cap
        return {
            "features": list(self.names),
            "baseline": (baseline or self.baseline).id,
            "feature_digest": feature_digest(self.cls),
            "rul": {"cap": cap},
            "policy": {"act_below": 2.0},
            "intervals": {"coverage": 0.9, "cap": cap, "centres": [0.0], "low": [-1.0], "high": [1.0]},
            "ranges": {"low": [-9.0] * n, "high": [9.0] * n},
            "healthy": [0.0] * n,
        }

    def release(self, *, slope: float = 0.1, onnx: bytes | None = None, manifest: dict[str, Any] | None = None) -> Path:
        """Publish one; where it lies."""
        model = linear_model(len(self.names), slope) if onnx is None else onnx
        files = {"model.onnx": model, "baseline.json": self.baseline.to_json().encode(), "model_card.md": b"# A model"}
        digests = {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in files.items()}
        arrived = self.plant.root("on_prem") / "arrived"
        arrived.mkdir(parents=True)
        for name, content in files.items():
            (arrived / name).write_bytes(content)
        (arrived / "manifest.json").write_text(json.dumps((manifest or self.manifest()) | {"digests": digests}))
        return self.plant.registry("pump").publish(arrived, additions={}).bundle
