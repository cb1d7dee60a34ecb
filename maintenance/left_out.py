"""Features that do not rest on days which nothing may rest on."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import numpy as np

from maintenance.baseline import OperatingBaseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass
from maintenance.feature_state import FeatureState
from maintenance.features import Features, feature_names
from maintenance.readings import Readings


def compute_features_without(
    blocked: Collection[date],
    cls: EquipmentClass,
    baseline: OperatingBaseline,
    readings: Readings,
    state: FeatureState | None = None,
) -> tuple[Features, FeatureState]:
    """As `compute_features`, but a blocked day leaves no trace in the features after it, nor in the state.

    A blocked day has features all the same, of its own readings and those before it: the rules look at them.

    Args:
        blocked: days, UTC.
    """
    day = readings.rows.ts.astype("datetime64[D]")
    known = np.unique(day)
    alone = known[np.isin(known, np.array(sorted(blocked), "datetime64[D]"))]
    if not len(alone):
        return compute_features(cls, baseline, readings, state)
    matrix = np.empty((len(readings), len(feature_names(cls))))
    at = np.searchsorted(alone, day)  # how many blocked days lie before each row
    kept = ~np.isin(day, alone)
    for piece in range(len(alone) + 1):
        mine = kept & (at == piece)
        features, state = compute_features(cls, baseline, readings.take(mine), state)
        matrix[mine] = features.matrix
        if piece < len(alone):
            mine = day == alone[piece]
            matrix[mine] = compute_features(cls, baseline, readings.take(mine), state)[0].matrix
    assert state is not None  # the last piece gave one
    return Features(readings.rows, feature_names(cls), matrix), state
