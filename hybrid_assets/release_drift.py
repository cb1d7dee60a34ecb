"""How far sensors have moved since the training set of the release that serves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backbone.errors import HybridError
from backbone.windows import WindowRange
from hybrid_assets import pictures
from hybrid_assets.fleet import Fleet
from hybrid_assets.metadata import picture
from hybrid_assets.workers.training_files import BASELINE, DRIFT_REFERENCE
from maintenance.baseline import OperatingBaseline
from maintenance.features import Features
from maintenance.readings import MaintenanceHistory, Readings, Rows, readings_from_arrow
from quality.drift import DriftReference
from quality.profiles import DRIFT_DAYS
from resources.plant import Plant
from resources.stores.opened import unnoted
from resources.stores.tables import DATE

_PRODUCT = "condition_features"
"""Whose contract says what drift is too much."""
_NO_EVENTS = MaintenanceHistory({}, {})


@dataclass(frozen=True, slots=True)
class ReleaseDrift:
    """A release, and a row a window and sensor: (date, column, psi, allowed), see `DriftReference.profile`."""

    version: int
    profile: pa.Table

    def daily(self) -> dict[date, dict[str, float]]:
        """Of each window that can be judged: the largest population stability index, how many sensors are beyond what
        is allowed of them, and since which release."""
        found: dict[date, dict[str, float]] = {}
        for row in self.profile.to_pylist():
            told = found.setdefault(row[DATE], {"drift_psi": 0.0, "drifted_sensors": 0, "drift_since": self.version})
            told["drift_psi"] = max(told["drift_psi"], row["psi"])
            told["drifted_sensors"] += int(row["psi"] > row["allowed"])
        return found

    def pictures(self) -> dict[str, Any]:
        """The newest window that can be judged; nothing where none can."""
        if not self.profile.num_rows:
            return {}
        day = pc.max(self.profile[DATE])
        newest = self.profile.filter(pc.equal(self.profile[DATE], day))
        drawn = pictures.feature_drift(
            [name.partition(".")[0] for name in newest["column"].to_pylist()],
            newest["psi"].to_numpy(),
            newest["allowed"].to_numpy(),
            title=f"{DRIFT_DAYS} days to {day}, against what v{self.version} learnt from",
        )
        return {"feature_drift": picture(drawn)}


def training_reference(fleet: Fleet, site: str, learnt: pa.Table, features: Features) -> DriftReference:
    """What sensors told in a training set, and how far months of its time differed from it.

    Args:
        learnt: its rows, with their `date`.
        features: of all readings, those too that nothing is learnt from.
    """
    if not learnt.num_rows:
        return DriftReference()
    reference = DriftReference.fit(learnt, fleet.contracts[_PRODUCT].inputs)
    days = WindowRange(site, *(bound(learnt[DATE]).as_py() for bound in (pc.min, pc.max)))
    day = features.rows.ts.astype("datetime64[D]")
    own = features.take((day >= np.datetime64(days.first)) & (day <= np.datetime64(days.last)))
    matrix = own.matrix[:, [own.names.index(name) for name in reference.columns]]
    return reference.with_usual(_sensor_rows(own.rows, reference.columns, matrix), list(days))


def drift_since_release(plant: Plant, fleet: Fleet, windows: WindowRange) -> ReleaseDrift | None:
    """What is known of the windows; None where no release serves, or none that says what it learnt from.

    Taken from telemetry and not from stored features, which may be against the baseline of a release before.
    """
    rule = fleet.contracts[_PRODUCT].rule("drift")
    try:
        release = plant.registry(fleet.name).current()
    except HybridError:
        return None
    kept = release.bundle / DRIFT_REFERENCE
    if rule is None or not kept.exists():
        return None
    reference = DriftReference.from_json(json.loads(kept.read_text(encoding="utf-8")))
    baseline = OperatingBaseline.from_json((release.bundle / BASELINE).read_text(encoding="utf-8"))
    with unnoted():  # no answer is made from these days
        readings = _readings(plant, fleet, windows)
    names = [f"{name}.last" for name in baseline.inputs]
    rows = _sensor_rows(readings.rows, names, baseline.transform(readings))
    return ReleaseDrift(release.version, reference.profile(rows, list(windows), float(rule.parameters["psi_above"])))


def _readings(plant: Plant, fleet: Fleet, windows: WindowRange) -> Readings:
    """Of the windows and of `DRIFT_DAYS` up to each, less windows that a check has blocked."""
    cls = fleet.equipment_class
    columns = ["equipment_id", "ts", DATE, *cls.contract.inputs, *cls.contract.with_role("setting")]
    since = windows.first - timedelta(days=DRIFT_DAYS - 1)
    rows = plant.table(fleet.name, "telemetry").read(windows.site, since, windows.last, columns=columns)
    blocked = pa.array(sorted(plant.verdicts(fleet.name).blocked()), pa.date32())
    return readings_from_arrow(cls, rows.filter(pc.invert(pc.is_in(rows[DATE], value_set=blocked))), _NO_EVENTS)


def _sensor_rows(rows: Rows, names: Sequence[str], matrix: np.ndarray) -> pa.Table:
    """(date, equipment_id, names)."""
    columns: Mapping[str, Any] = {
        DATE: pa.array(rows.ts.astype("datetime64[D]")),
        "equipment_id": pa.array(rows.equipment, pa.string()),
        **{name: pa.array(np.ascontiguousarray(matrix[:, j], dtype=float)) for j, name in enumerate(names)},
    }
    return pa.table(columns)
