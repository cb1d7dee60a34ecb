"""Scoring: what the releases and what the rules say of every machine in a window."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backbone.fallback import Answers
from backbone.reasons import BLOCKED
from backbone.windows import WindowRange
from hybrid_assets import pictures
from hybrid_assets.feature_tables import feature_schema, features_from_arrow
from hybrid_assets.features import serving_baseline, stored_features, window_features
from hybrid_assets.fleet import Fleet, emit_per_window
from hybrid_assets.metadata import picture, preview, row_counts, tally
from hybrid_assets.model_chain import Asked, ask_models, prognosis_table
from hybrid_assets.prognosis_tables import days, numbers, risk_columns, who
from hybrid_assets.release_drift import ReleaseDrift, drift_since_release
from maintenance.assessments import assess
from maintenance.equipment_class import EquipmentClass
from maintenance.features import Features
from maintenance.question import question_spec
from resources.bindings.partitions import SERVES
from resources.bindings.placed_work import Placed, placed_metadata
from resources.bindings.plants import Plants, failures
from resources.plant import Plant
from resources.stores.tables import DATE


def ask_for_prognoses(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> dg.MaterializeResult:
    """Ask the releases about the run's windows, and tell how far sensors have drifted since the release."""
    cls = fleet.equipment_class
    with failures():
        plant, windows, _ = fleet.attempt(context, plants)
        asked, blocked = _kept_from_the_model(plant, Asked(windows, *stored_features(plant, cls, windows)), cls)
        answers, work = ask_models(context, plant, cls, asked)
        parts = [prognosis_table(cls, asked, answers), prognosis_table(cls, blocked, nobody(blocked))]
        rows = pa.concat_tables(parts)
        plant.table(fleet.name, "prognoses").replace(windows, rows, run_id=context.run.run_id)
    for trouble in answers.troubles:
        context.log.warning(trouble)
    drift = _drift(context, plant, fleet, windows)
    daily = _daily(cls, rows, windows)
    for day, told in (drift.daily() if drift else {}).items():
        daily[day] |= told
    emit_per_window(context, fleet.key("prognoses"), windows.site, daily)
    metadata: dict[str, Any] = {
        "rows": rows.num_rows,
        "answered": rows["abstained"].null_count,
        "abstained_because": tally(rows["abstained"].drop_null()),
        "releases": tally(rows["release"].drop_null()) or "none: the rules serve",
        "preview": preview(rows.sort_by([(DATE, "descending"), _worst_first(cls)])),
    }
    if answers.troubles:
        metadata["trouble"] = "; ".join(answers.troubles)
    if work:
        metadata |= placed_metadata(work[0], plant.site.currency)
    shown = _pictures(cls, rows, work) | (drift.pictures() if drift else {})
    return dg.MaterializeResult(metadata=metadata | shown)


def assess_by_rules(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> dg.MaterializeResult:
    """Ask the rules about the run's windows."""
    cls = fleet.equipment_class
    assessment_schema = fleet.contracts["rule_assessments"].arrow_schema
    with failures():
        plant, windows, _ = fleet.attempt(context, plants)
        stands_in = SERVES in context.run.tags
        features = _at_hand(context, plant, cls, windows) if stands_in else stored_features(plant, cls, windows)[0]
        assessed = assess(cls, features)
        rows = pa.table(
            {
                **who(features.rows),
                "severity": pa.array(assessed.severity, pa.int8()),
                "rul": pa.array(assessed.rul, from_pandas=True),
                "symptom": pa.array(assessed.symptom.tolist(), pa.string()),
                "reason": pa.array(assessed.reasons(), pa.string()),
                DATE: days(features.rows),
            },
            schema=assessment_schema,
        )
        plant.table(fleet.name, "rule_assessments").replace(windows, rows, run_id=context.run.run_id)
    severe = rows.filter(pc.greater_equal(rows["severity"], 2))
    counts = {day: numbers | {"severe": 0} for day, numbers in row_counts(rows, windows).items()}
    for day in severe[DATE].to_pylist():
        counts[day]["severe"] += 1
    emit_per_window(context, fleet.key("rule_assessments"), windows.site, counts)
    return dg.MaterializeResult(
        metadata={
            "rows": rows.num_rows,
            "severe_rows": severe.num_rows,
            "preview": preview(rows.sort_by([(DATE, "descending"), ("severity", "descending")])),
        }
    )


def _kept_from_the_model(plant: Plant, asked: Asked, cls: EquipmentClass) -> tuple[Asked, Asked]:
    """What may be asked, and what may not, since a check forbids to rest an answer on it."""
    blocked = [np.datetime64(day) for day in plant.verdicts(cls.name).blocked() if day in asked.windows]
    forbidden = np.isin(asked.features.rows.ts.astype("datetime64[D]"), np.array(blocked, "datetime64[D]"))
    may, must_not = (asked.features.take(np.flatnonzero(mask)) for mask in (~forbidden, forbidden))
    return replace(asked, features=may), replace(asked, features=must_not)


def nobody(asked: Asked) -> Answers:
    """No answer to what a check has blocked."""
    n = len(asked.features)
    return Answers((), np.full(n, -1, np.int8), np.full(n, BLOCKED, dtype=object), (), ())


def _at_hand(context: dg.AssetExecutionContext, plant: Plant, cls: EquipmentClass, windows: WindowRange) -> Features:
    """The best features there are, for an answer in another run's place: computed now, else stored, else none.

    The run that failed may have failed at any of this; whatever fails here is passed over, since an answer is due.
    """
    try:
        return window_features(plant, cls, serving_baseline(plant, cls), windows)
    except Exception as error:
        context.log.warning(f"Features cannot be computed: {error}")
    try:
        return stored_features(plant, cls, windows)[0]
    except Exception as error:
        context.log.warning(f"There are no features of these windows: {error}")
    return features_from_arrow(cls, feature_schema(cls).empty_table())


def _drift(context: dg.AssetExecutionContext, plant: Plant, fleet: Fleet, windows: WindowRange) -> ReleaseDrift | None:
    """How far sensors have moved since the release; whatever keeps that from being told keeps no answer back."""
    try:
        return drift_since_release(plant, fleet, windows)
    except Exception as error:
        context.log.warning(f"Drift since the release cannot be told: {error}")
        return None


def _worst_first(cls: EquipmentClass) -> tuple[str, str]:
    risk = question_spec(cls).risk
    return ("rul", "ascending") if risk is None else (risk, "descending")


def _daily(cls: EquipmentClass, rows: pa.Table, windows: WindowRange) -> dict[date, dict[str, Any]]:
    """Numbers of each window that plot well."""
    risk = question_spec(cls).risk
    of, worst, name = ("rul", "min", "shortest_rul") if risk is None else (risk, "max", f"highest_{risk}")
    grouped = rows.group_by(DATE).aggregate([(of, worst), (of, "mean"), ("abstained", "count")])
    values = row_counts(rows, windows)
    for row in grouped.to_pylist():
        numbers = {
            name: row[f"{of}_{worst}"],
            f"mean_{of}": row[f"{of}_mean"],
            "abstained": row["abstained_count"],
        }
        values[row[DATE]] |= {name: value for name, value in numbers.items() if value is not None}
    answered = rows.filter(pc.is_valid(rows["release"])).group_by([DATE, "release"]).aggregate([([], "count_all")])
    for row in answered.to_pylist():
        told = values[row[DATE]].setdefault("answer", {"releases": {}})
        told["releases"][str(row["release"])] = row["count_all"]
    return values


def _pictures(cls: EquipmentClass, rows: pa.Table, work: Sequence[Placed]) -> dict[str, object]:
    """The newest window's prognoses, and what drives the most urgent one."""
    if not rows.num_rows:
        return {}
    risk = question_spec(cls).risk
    newest = rows.filter(pc.and_(pc.is_valid(rows[risk or "rul"]), pc.equal(rows[DATE], pc.max(rows[DATE]))))
    urgent = work[0].record.get("urgent") if work else None
    if not newest.num_rows or urgent is None:
        return {}
    if risk is not None:
        return {
            "prognoses_now": picture(
                pictures.risks_now(
                    newest["equipment_id"].to_pylist(),
                    *(numbers(newest, name) for name in risk_columns(cls)),
                    what=risk.replace("_", " "),
                    title=f"Newest answer about each {cls.name}",
                )
            ),
            "drivers": picture(
                pictures.drivers(
                    urgent["machine"],
                    urgent["sensors"],
                    np.array(urgent["change"]),
                    of=risk.replace("_", " "),
                    worse_if_more=True,
                )
            ),
        }
    unit = cls.rul.unit
    return {
        "prognoses_now": picture(
            pictures.prognoses_now(
                newest["equipment_id"].to_pylist(),
                *(numbers(newest, name) for name in ("rul", "rul_low", "rul_high")),
                unit=unit,
                title=f"Newest prognosis of each {cls.name}",
            )
        ),
        "drivers": picture(
            pictures.drivers(
                urgent["machine"], urgent["sensors"], np.array(urgent["change"]), of=f"prognosis ({unit}s)"
            )
        ),
    }
