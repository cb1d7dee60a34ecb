"""Where machines stand with what landed since the graph's newest checkpoint, for a gateway that has none of its own.

The graph may be hours behind, or not run at all; what has landed the spool lets go of. What landed is held to the
contract here as the graph does it: not all of it came through a gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backbone.row_checks import row_check
from gateway.exchange import MaintenanceEvents
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass
from maintenance.feature_state import FeatureState
from maintenance.incremental_features import IncrementalFeatures
from maintenance.readings import MaintenanceHistory, readings_from_arrow
from resources.landing import ARRIVAL, DEFECT, OFFSET, Landing
from resources.stores.tables import DATE, SITE, scan

_NEVER = -(1 << 62)
_AT_ONCE = 4096
"""Readings whose features are worked out at a time; nobody looks at them."""


def with_landed(
    cls: EquipmentClass,
    baseline: OperatingBaseline,
    state: FeatureState,
    landing: Landing,
    site: str,
    since: date,
    events: MaintenanceEvents,
) -> FeatureState:
    """The checkpoint, and after it what landed of its day and of those after it.

    Of each machine what comes after its newest reading counts, in the order of the readings' own time.
    """
    live = IncrementalFeatures(cls, baseline, state)
    newest = dict(zip(state.equipment.tolist(), state.latest.view(np.int64).tolist(), strict=True))
    history = MaintenanceHistory({n: ts.view("datetime64[us]") for n, ts in events.of().items()}, {})
    columns = cls.contract.inputs + baseline.settings
    for rows in _days(cls, landing, site, since):
        found = readings_from_arrow(cls, rows, history)
        ts = found.rows.ts.view(np.int64)
        known = np.array([newest.get(name, _NEVER) for name in found.rows.machines.tolist()], np.int64)
        later = ts > known[found.rows.machine]
        later[1:] &= (ts[1:] != ts[:-1]) | (found.rows.machine[1:] != found.rows.machine[:-1])
        found = found.take(later)
        ts, equipment = found.rows.ts.view(np.int64), found.rows.equipment
        slots = {name: live.slot(name) for name in found.rows.machines.tolist()}
        at = np.array([slots[name] for name in equipment.tolist()], np.int64)
        values = np.ascontiguousarray(found.of(columns))
        for n in range(0, len(found), _AT_ONCE):
            part = slice(n, n + _AT_ONCE)
            live.take(at[part], ts[part].copy(), found.rows.life[part].copy(), values[part])
        last = found.rows.latest
        newest |= zip(equipment[last].tolist(), ts[last].tolist(), strict=True)
    return live.checkpoint()


def _days(cls: EquipmentClass, landing: Landing, site: str, since: date) -> Iterator[pa.Table]:
    """What holds the contract, day by day, so that memory stays bounded."""
    check, columns = row_check(cls.contract), [c.name for c in cls.contract.columns]
    for day in sorted(day for day in landing.counts("telemetry") if day >= since):
        wanted = (pc.field(SITE) == site) & (pc.field(DATE) == pa.scalar(day))
        rows = scan(landing.path("telemetry"), wanted, [*columns, DEFECT, ARRIVAL, OFFSET])
        # Of rows of one key it is the first to have landed that counts.
        rows = rows.sort_by([(ARRIVAL, "ascending"), (OFFSET, "ascending")])
        yield rows.filter(pc.is_null(check(rows, day, day))).select(columns)
