"""Scoring, on premises: what the released model and what the rules say of every machine in a window."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backbone.errors import HybridError, IntegrityError, NotCommissioned
from backbone.windows import WindowRange
from hybrid_assets import pictures
from hybrid_assets.feature_tables import features_from_arrow
from hybrid_assets.fleet import Fleet, emit_per_window
from hybrid_assets.metadata import column_schema, picture, preview, row_counts, tally
from maintenance.assessments import assess
from maintenance.equipment_class import EquipmentClass
from maintenance.features import Features
from maintenance.prognosis import Prognoses, Scorer, prognose
from maintenance.readings import Rows
from resources.bindings.plants import Plants, failures
from resources.plant import Plant
from resources.stores.tables import DATE

NO_RELEASE, UNVERIFIED = "no_release", "unverified"

_WHO = (pa.field("equipment_id", pa.string()), pa.field("ts", pa.timestamp("us", tz="UTC")))
PROGNOSIS_SCHEMA = pa.schema(
    [
        *_WHO,
        ("rul", pa.float64()),
        ("rul_low", pa.float64()),
        ("rul_high", pa.float64()),
        ("driver", pa.string()),
        ("driven", pa.float64()),
        ("abstained", pa.string()),
        ("act_below", pa.float64()),
        ("release", pa.int64()),
        ("passed_over", pa.string()),
        (DATE, pa.date32()),
    ]
)
ASSESSMENT_SCHEMA = pa.schema(
    [
        *_WHO,
        ("severity", pa.int8()),
        ("rul", pa.float64()),
        ("symptom", pa.string()),
        ("reason", pa.string()),
        (DATE, pa.date32()),
    ]
)


def scoring_assets(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """`prognoses` and `rule_assessments`: one row a machine and window, from its newest reading."""
    cls = fleet.equipment_class

    @fleet.by_window(
        "prognoses",
        fleet.spec(
            "prognoses",
            "Remaining useful life of every machine with a 90 % interval, by the newest release that verifies.",
            deps=[*fleet.same_window("condition_features"), *fleet.same_site("model_release")],
            kinds={"onnx", "deltalake"},
            location="on_prem",
            columns=column_schema(PROGNOSIS_SCHEMA),
        ),
    )
    def prognoses(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        with failures():
            plant, windows = fleet.window(context, plants)
            features, baseline = _newest_of_each_day(plant, cls, windows)
            model = _model_in_service(plant, fleet.name)
            answers = _ask(cls, model, features, baseline)
            rows = _prognosis_table(answers, model)
            plant.table(fleet.name, "prognoses").replace(windows, rows, run_id=context.run_id)
        if model.trouble:
            context.log.warning(model.trouble)
        emit_per_window(context, fleet.key("prognoses"), windows.site, _daily(rows, windows))
        asked = rows["abstained"].null_count
        metadata: dict[str, Any] = {
            "rows": rows.num_rows,
            "answered": asked,
            "abstained_because": tally(rows["abstained"].drop_null()),
            "release": model.version or "none: the rules serve",
            "preview": preview(rows.sort_by([(DATE, "descending"), ("rul", "ascending")])),
        }
        if model.trouble:
            metadata["trouble"] = model.trouble
        return dg.MaterializeResult(metadata=metadata | _pictures(cls, model, features, answers))

    @fleet.by_window(
        "rule_assessments",
        fleet.spec(
            "rule_assessments",
            "What the rules say of every machine, from the same features; they serve where the model cannot.",
            deps=fleet.same_window("condition_features"),
            kinds={"python", "deltalake"},
            location="on_prem",
            columns=column_schema(ASSESSMENT_SCHEMA),
        ),
    )
    def rule_assessments(context: dg.AssetExecutionContext, plants: Plants) -> dg.MaterializeResult:
        with failures():
            plant, windows = fleet.window(context, plants)
            features, _ = _newest_of_each_day(plant, cls, windows)
            assessed = assess(cls, features)
            rows = pa.table(
                {
                    **_who(features.rows),
                    "severity": pa.array(assessed.severity, pa.int8()),
                    "rul": pa.array(assessed.rul, from_pandas=True),
                    "symptom": pa.array(assessed.symptom.tolist(), pa.string()),
                    "reason": pa.array(assessed.reasons(), pa.string()),
                    DATE: _days(features.rows),
                },
                schema=ASSESSMENT_SCHEMA,
            )
            plant.table(fleet.name, "rule_assessments").replace(windows, rows, run_id=context.run_id)
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

    return [prognoses, rule_assessments]


@dataclass(frozen=True, slots=True)
class _Model:
    """What serves: a scorer and its version, or why there is none; `trouble` is for people."""

    scorer: Scorer | None
    version: int | None
    missing: str | None
    passed_over: str | None
    trouble: str = ""


def _model_in_service(plant: Plant, equipment_class: str) -> _Model:
    """The newest release that verifies and loads."""
    try:
        release = plant.registry(equipment_class).current()
        scorer = Scorer((release.bundle / "model.onnx").read_bytes(), release.manifest)
    except NotCommissioned as error:
        return _Model(None, None, NO_RELEASE, None, str(error))
    except HybridError as error:
        return _Model(None, None, UNVERIFIED, None, str(error))
    newer = "; ".join(release.passed_over)
    return _Model(scorer, release.version, None, UNVERIFIED if newer else None, newer)


def _ask(cls: EquipmentClass, model: _Model, features: Features, baseline: str | None) -> Prognoses:
    if model.scorer is not None:
        return prognose(cls, model.scorer, features, baseline=baseline or model.scorer.baseline)
    nothing, n = np.full(len(features), np.nan), len(features)
    reason, none = np.full(n, model.missing, dtype=object), np.full(n, None, dtype=object)
    return Prognoses(features.rows, nothing, nothing, nothing, none, nothing, reason, np.nan)


def _newest_of_each_day(plant: Plant, cls: EquipmentClass, windows: WindowRange) -> tuple[Features, str | None]:
    """Features of each machine's last reading of each window, and the baseline they were taken against."""
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
    features = features_from_arrow(cls, rows)
    day = features.rows.ts.astype("datetime64[D]")
    last = np.ones(len(features), bool)
    last[:-1] = (np.diff(features.rows.machine) != 0) | (day[1:] != day[:-1])
    return features.take(last), baselines[0] if baselines else None


def _prognosis_table(answers: Prognoses, model: _Model) -> pa.Table:
    n = len(answers)
    return pa.table(
        {
            **_who(answers.rows),
            "rul": pa.array(answers.rul, from_pandas=True),
            "rul_low": pa.array(answers.low, from_pandas=True),
            "rul_high": pa.array(answers.high, from_pandas=True),
            "driver": pa.array(answers.driver.tolist(), pa.string()),
            "driven": pa.array(answers.driven, from_pandas=True),
            "abstained": pa.array(answers.abstained.tolist(), pa.string()),
            "act_below": pa.array(np.full(n, answers.act_below), from_pandas=True),
            "release": pa.array([model.version] * n, pa.int64()),
            "passed_over": pa.array([model.passed_over] * n, pa.string()),
            DATE: _days(answers.rows),
        },
        schema=PROGNOSIS_SCHEMA,
    )


def _who(rows: Rows) -> dict[str, pa.Array]:
    return {
        "equipment_id": pa.array(rows.equipment.tolist(), pa.string()),
        "ts": pa.array(rows.ts).cast(pa.timestamp("us", tz="UTC")),
    }


def _days(rows: Rows) -> pa.Array:
    return pa.array(rows.ts.astype("datetime64[D]"))


def _daily(rows: pa.Table, windows: WindowRange) -> dict[date, dict[str, Any]]:
    """Numbers of each window that plot well."""
    grouped = rows.group_by(DATE).aggregate([("rul", "min"), ("rul", "mean"), ("abstained", "count")])
    values = row_counts(rows, windows)
    for row in grouped.to_pylist():
        numbers = {"shortest_rul": row["rul_min"], "mean_rul": row["rul_mean"], "abstained": row["abstained_count"]}
        values[row[DATE]] |= {name: value for name, value in numbers.items() if value is not None}
    return values


def _pictures(cls: EquipmentClass, model: _Model, features: Features, answers: Prognoses) -> dict[str, object]:
    """The newest window's prognoses, and what drives the most urgent one."""
    if model.scorer is None or not len(answers):
        return {}
    newest = answers.rows.latest
    newest = newest[np.isfinite(answers.rul[newest])]
    if not len(newest):
        return {}
    machines, unit = answers.rows.equipment, cls.rul.unit
    urgent = int(newest[answers.rul[newest].argmin()])
    change = -model.scorer.drivers(model.scorer.select(features.take(np.array([urgent]))))[0]
    return {
        "prognoses_now": picture(
            pictures.prognoses_now(
                [str(m) for m in machines[newest]],
                answers.rul[newest],
                answers.low[newest],
                answers.high[newest],
                unit=unit,
                title=f"Newest prognosis of each {cls.name}",
            )
        ),
        "drivers": picture(pictures.drivers(str(machines[urgent]), model.scorer.sensors, change, unit=unit)),
    }
