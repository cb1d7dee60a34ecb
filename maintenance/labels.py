"""Remaining useful life as a label: known only for lives that a failure ended."""

from __future__ import annotations

import numpy as np

from maintenance.equipment_class import EquipmentClass
from maintenance.readings import MaintenanceHistory, Rows


def rul_labels(cls: EquipmentClass, rows: Rows, history: MaintenanceHistory) -> np.ndarray:
    """Time from each row to the failure that ended its life, cut at the class's cap.

    Args:
        history: as known when labelling; a label looks at nothing but the end of its own life.

    Returns:
        (n,) float64 in RUL units, 0 at the failure. NaN where the life goes on or was ended by preventive
        work: how long the machine would have run is unknown (right-censored).
    """
    rul = np.full(len(rows), np.nan)
    for first, last in zip(rows.starts, rows.ends, strict=True):
        name, life = rows.machines[rows.machine[first]], rows.life[first]
        if name in history.ts and life < len(history.ts[name]) and history.failed[name][life]:
            rul[first:last] = (history.ts[name][life] - rows.ts[first:last]) / np.timedelta64(1, "s")
    return np.minimum(rul / cls.rul.seconds, cls.rul.cap)
