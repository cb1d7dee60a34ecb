"""Features: the operating baseline of a plant, and each window's condition features against it."""

import json
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backbone.document_checks import require_document
from backbone.errors import HybridError, IntegrityError, NotCommissioned
from backbone.windows import WindowRange, left_out, listed
from hybrid_assets.feature_tables import features_from_arrow, features_to_arrow
from hybrid_assets.fleet import Fleet, emit_per_window
from hybrid_assets.metadata import preview, row_counts
from maintenance.baseline import OperatingBaseline, fit_baseline
from maintenance.equipment_class import EquipmentClass
from maintenance.feature_state import FeatureState
from maintenance.features import Features
from maintenance.left_out import compute_features_without
from maintenance.readings import MaintenanceHistory, Readings, Rows, history_from_arrow, readings_from_arrow
from resources.bindings.plants import Plants, failures
from resources.plant import Plant
from resources.stores.opened import unnoted
from resources.stores.tables import DATE

if TYPE_CHECKING:
    from datetime import date


def fit_operating_baseline(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> dg.MaterializeResult:
    """Fit the operating baseline of the run's site to all its telemetry."""
    cls = fleet.equipment_class
    with failures():
        plant = plants.plant(context.partition_key)
        readings, _ = plant_readings(plant, cls)
        baseline = fit_baseline(cls, readings)
        require_document(fleet.contracts["operating_baseline"], json.loads(baseline.to_json()))
        plant.baselines(fleet.name).put(document_name(baseline), baseline.to_json())
    return dg.MaterializeResult(
        metadata={
            "baseline": baseline.id,
            "readings": len(readings),
            "regimes": len(baseline.centres),
            "uninformative_sensors": ", ".join(baseline.uninformative) or "none",
            "regime_table": preview(_regime_table(baseline)),
        }
    )


def compute_condition_features(
    context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet
) -> Iterator[dg.MaterializeResult]:
    """Compute and store the features of the run's windows, and a checkpoint to go on from."""
    cls = fleet.equipment_class
    with failures():
        plant, windows, _ = fleet.attempt(context, plants)
        baseline = serving_baseline(plant, cls)
        # Taken before the readings are read: what is blocked from here on makes the windows due again.
        blocked = _blocked(plant, cls)
        features, state, since = _compute(plant, cls, baseline, windows, blocked)
        rows = features_to_arrow(features, baseline.id)
        plant.table(fleet.name, "condition_features").replace(windows, rows, run_id=context.run.run_id)
        _keep_checkpoint(plant, cls, windows, state, blocked, context.run.run_id)
        plant.state.features_leave_out(fleet.name, windows, blocked, run_id=context.run.run_id)
    emit_per_window(
        context,
        fleet.key("condition_features"),
        windows.site,
        row_counts(rows, windows),
    )
    yield dg.MaterializeResult(
        metadata={
            "rows": rows.num_rows,
            "features": len(features.names),
            "baseline": baseline.id,
            "computed_from": since.isoformat() if since else "the first window",
            "left_out": ", ".join(f"{day}" for day in sorted(left_out(blocked, windows.last))) or "nothing",
            "preview": preview(
                rows, columns=["equipment_id", "ts", "life", *features.names[: len(cls.contract.inputs)]]
            ),
        }
    )


def plant_readings(plant: Plant, cls: EquipmentClass) -> tuple[Readings, MaintenanceHistory]:
    """All telemetry of a plant to learn from, less windows that a check has blocked, and the history of its machines.

    Raises:
        NotCommissioned: there is no telemetry yet.
    """
    return _readings(plant, cls, None, None, without=_blocked(plant, cls))


def document_name(baseline: OperatingBaseline) -> str:
    return baseline.id.removeprefix("sha256:")


def serving_baseline(plant: Plant, cls: EquipmentClass) -> OperatingBaseline:
    """The baseline windows are served with: the release's own, or the newest where no release serves.

    Raises:
        NotCommissioned: the plant has no baseline yet.
    """
    return released_baseline(plant, cls.name) or newest_baseline(plant, cls.name)


def released_baseline(plant: Plant, equipment_class: str) -> OperatingBaseline | None:
    """The baseline of the release in service; None where none was made, or none verifies."""
    try:
        release = plant.registry(equipment_class).current()
    except HybridError:
        return None
    return OperatingBaseline.from_json((release.bundle / "baseline.json").read_text(encoding="utf-8"))


def newest_baseline(plant: Plant, equipment_class: str) -> OperatingBaseline:
    """The baseline that was fitted last.

    Raises:
        NotCommissioned: the plant has no baseline yet.
    """
    documents = plant.baselines(equipment_class)
    name = documents.current()
    if name is None:
        raise NotCommissioned(
            f"{plant.site.name} has no operating baseline for {equipment_class} yet.",
            next_step=f"Materialize {equipment_class}/operating_baseline, or: hybrid run --site {plant.site.name}",
        )
    return OperatingBaseline.from_json(documents.get(name))


def stored_features(plant: Plant, cls: EquipmentClass, windows: WindowRange) -> tuple[Features, str | None]:
    """Stored features of each machine's last reading of each window, and the baseline they were taken against.

    Raises:
        NotCommissioned: there are none at all.
        IntegrityError: they were taken against several baselines.
    """
    table = plant.table(cls.name, "condition_features")
    if not table.exists:
        raise NotCommissioned(
            f"{plant.site.name} has no condition features.", next_step=f"Materialize {cls.name}/condition_features."
        )
    rows = table.read(windows.site, windows.first, windows.last)
    baselines = pc.unique(rows["baseline"]).to_pylist()
    if len(baselines) > 1:
        raise IntegrityError(
            f"The features of {windows.first} to {windows.last} were taken against {len(baselines)} baselines.",
            next_step=f"Materialize {cls.name}/condition_features for all of these windows, then this again.",
        )
    return newest_of_each_day(features_from_arrow(cls, rows)), baselines[0] if baselines else None


def window_features(
    plant: Plant, cls: EquipmentClass, baseline: OperatingBaseline, windows: WindowRange, *, rows: Rows | None = None
) -> Features:
    """Features of each machine's last reading of each window, computed now against a baseline; nothing is stored.

    Args:
        rows: the readings to give features for; None: those that are there.

    Raises:
        IntegrityError: a reading asked for is not among the telemetry.
    """
    features, _, _ = _compute(plant, cls, baseline, windows, _blocked(plant, cls))
    newest = newest_of_each_day(features)
    if rows is None:
        return newest
    at = {key: n for n, key in enumerate(zip(newest.rows.equipment.tolist(), newest.rows.ts.tolist(), strict=True))}
    wanted = [at.get(key, -1) for key in zip(rows.equipment.tolist(), rows.ts.tolist(), strict=True)]
    if -1 in wanted:
        raise IntegrityError(
            f"A reading of {windows.first} to {windows.last} has features, but is not among the telemetry.",
            next_step=f"Materialize {cls.name}/condition_features for these windows, then this again.",
        )
    return newest.take(np.array(wanted, dtype=int))


def newest_of_each_day(features: Features) -> Features:
    """The last reading of each machine on each day; rows are in order, by machine, then time."""
    day = features.rows.ts.astype("datetime64[D]")
    last = np.ones(len(features), bool)
    last[:-1] = (np.diff(features.rows.machine) != 0) | (day[1:] != day[:-1])
    return features.take(last)


def _readings(
    plant: Plant,
    cls: EquipmentClass,
    first: "date | None",
    last: "date | None",
    *,
    without: "Collection[date]" = (),
) -> tuple[Readings, MaintenanceHistory]:
    telemetry = plant.table(cls.name, "telemetry")
    if not telemetry.exists:
        raise NotCommissioned(
            f"{plant.site.name} has no telemetry of {cls.name} yet.",
            next_step=f"Materialize {cls.name}/telemetry first, or: hybrid run --site {plant.site.name}",
        )
    columns = ["equipment_id", "ts", *cls.contract.inputs, *cls.contract.with_role("setting")]
    rows = telemetry.read(plant.site.name, first, last, columns=[*columns, DATE] if without else columns)
    if without:
        blocked = pa.array(sorted(without), pa.date32())
        rows = rows.filter(pc.invert(pc.is_in(rows[DATE], value_set=blocked))).drop_columns([DATE])
    # A life is numbered by all events before it, whatever the first day that is read.
    events = plant.table(cls.name, "maintenance_history").read(plant.site.name, None, last)
    history = history_from_arrow(events)
    return readings_from_arrow(cls, rows, history), history


def _blocked(plant: Plant, cls: EquipmentClass) -> "frozenset[date]":
    return frozenset(plant.verdicts(cls.name).blocked())


def _compute(
    plant: Plant, cls: EquipmentClass, baseline: OperatingBaseline, windows: WindowRange, blocked: "frozenset[date]"
) -> tuple[Features, FeatureState, "date | None"]:
    """Features of the windows, from the newest checkpoint before them or from the first day.

    A blocked window has features of its own, which the rules look at, but leaves no trace in those after it.
    """
    since, state = _checkpoint_before(plant, cls, baseline, windows.first, blocked)
    readings, _ = _readings(plant, cls, since + timedelta(days=1) if since else None, windows.last)
    features, after = compute_features_without(blocked, cls, baseline, readings, state)
    wanted = features.rows.ts >= np.datetime64(windows.first, "us")
    return features.take(wanted), after, since


def _checkpoint_before(
    plant: Plant, cls: EquipmentClass, baseline: OperatingBaseline, day: "date", blocked: "frozenset[date]"
) -> tuple["date | None", FeatureState | None]:
    """The newest checkpoint to go on from: of this baseline and these features, and resting on nothing blocked."""
    table = plant.table(cls.name, "feature_state")
    # Whoever computes features goes on from a checkpoint: a saving of work, not a data set that answers are made from.
    with unnoted():
        for end in sorted((d for d in table.rows_by_day(plant.site.name) if d < day), reverse=True):
            kept = table.read(plant.site.name, end, end)
            if _left_out_of(kept) != listed(left_out(blocked, end + timedelta(days=1))):
                continue
            try:
                return end, FeatureState.from_arrow(cls, baseline.id, kept)
            except IntegrityError:
                continue  # made with another baseline or other features
    return None, None


def _keep_checkpoint(
    plant: Plant,
    cls: EquipmentClass,
    windows: WindowRange,
    state: FeatureState,
    blocked: "frozenset[date]",
    run_id: str,
) -> None:
    """Keep the state at the end of the windows, and drop those that it makes obsolete: all later ones."""
    table = plant.table(cls.name, "feature_state")
    later = max([windows.last, *table.rows_by_day(plant.site.name)])
    rows = state.to_arrow()
    without = listed(left_out(blocked, windows.last + timedelta(days=1)))
    rows = rows.append_column(_LEFT_OUT, pa.repeat(pa.scalar(without), rows.num_rows))
    rows = rows.append_column(DATE, pa.repeat(pa.scalar(windows.last, pa.date32()), rows.num_rows))
    table.replace(WindowRange(windows.site, windows.first, later), rows, run_id=run_id)


_LEFT_OUT = "left_out"
"""Column of a checkpoint: the blocked days that it rests on nothing of."""


def _left_out_of(checkpoint: pa.Table) -> str:
    if _LEFT_OUT not in checkpoint.column_names:
        return ""  # of before such days were left out
    return next((value for value in checkpoint[_LEFT_OUT].to_pylist() if value), "")


def _regime_table(baseline: OperatingBaseline) -> pa.Table:
    columns = {"share": pa.array(baseline.shares)}
    columns |= {name: pa.array(baseline.centres[:, j]) for j, name in enumerate(baseline.settings)}
    columns |= {f"level of {name}": pa.array(baseline.level[:, j]) for j, name in enumerate(baseline.inputs[:6])}
    return pa.table(columns)
