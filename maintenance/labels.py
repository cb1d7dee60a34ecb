"""Remaining useful life as a label: known in full only for lives that a failure ended."""

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
    known, failed = known_life(cls, rows, history)
    return np.where(failed, known, np.nan)


def known_life(cls: EquipmentClass, rows: Rows, history: MaintenanceHistory) -> tuple[np.ndarray, np.ndarray]:
    """How long each row's machine is known to have gone on, cut at the class's cap, and whether it then failed.

    Of a life that preventive work ended, the machine is known to have gone on until then; of one that goes on, until
    its last row: silence is no proof of life.

    Args:
        history: as in `rul_labels`.

    Returns:
        (n,) float64 in RUL units, and (n,) bool; where that is false, the first is a lower bound.
    """
    known, failed = np.empty(len(rows)), np.zeros(len(rows), dtype=bool)
    for first, last in zip(rows.starts, rows.ends, strict=True):
        name, life = rows.machines[rows.machine[first]], rows.life[first]
        ended = name in history.ts and life < len(history.ts[name])
        end = history.ts[name][life] if ended else rows.ts[last - 1]
        known[first:last] = (end - rows.ts[first:last]) / np.timedelta64(1, "s")
        failed[first:last] = ended and history.failed[name][life]
    return np.minimum(known / cls.rul.seconds, cls.rul.cap), failed
