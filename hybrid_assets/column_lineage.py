"""Which columns of which products a product's columns are made from, in the words of OpenLineage.

`DIRECT` sources are what values are computed from, `INDIRECT` ones decide which values are used; under the empty name
stands what decides on all columns of a product.
"""

from collections.abc import Iterable, Mapping

from backbone.contracts import Contract
from maintenance.equipment_class import EquipmentClass
from maintenance.features import feature_list
from maintenance.question import question_spec

Sources = dict[str, list[tuple[str, str, str, str]]]
"""Column → asset, column, kind and how of each of its sources."""

IDENTITY, TRANSFORMED, AGGREGATED = ("DIRECT", "IDENTITY"), ("DIRECT", "TRANSFORMATION"), ("DIRECT", "AGGREGATION")
CONDITIONAL, WINDOW, FILTER, SORT, JOIN = (
    ("INDIRECT", how) for how in ("CONDITIONAL", "WINDOW", "FILTER", "SORT", "JOIN")
)
_ROW = ("equipment_id", "ts")


def column_lineage(cls: EquipmentClass, asset: str, contracts: Mapping[str, Contract]) -> Sources:
    """Where a product's columns come from; empty for documents, which have none.

    Args:
        contracts: asset → its contract; columns that it does not have are left out.
    """
    makers = {
        "telemetry": _telemetry,
        "maintenance_history": _history,
        "telemetry_quarantine": _quarantine,
        "dead_letters": _dead_letters,
        "condition_features": _features,
        "training_set": _training_set,
        "prognoses": _prognoses,
        "rule_assessments": _assessments,
        "advisories": _advisories,
        "maintenance_plan": _plan,
    }
    if asset not in makers or asset not in contracts:
        return {}
    known = {"", *(column.name for column in contracts[asset].columns)}
    return {column: sources for column, sources in makers[asset](cls, contracts).items() if column in known and sources}


def _from(asset: str, columns: Iterable[str], how: tuple[str, str]) -> list[tuple[str, str, str, str]]:
    return [(asset, column, *how) for column in columns]


def _same(asset: str, columns: Iterable[str]) -> Sources:
    return {column: _from(asset, [column], IDENTITY) for column in columns}


def _telemetry(cls: EquipmentClass, contracts: Mapping[str, Contract]) -> Sources:
    columns = [c.name for c in contracts["telemetry"].columns]
    landed = f"{cls.name}/landing/telemetry"
    return {**_same(landed, columns), "": _from(landed, columns, FILTER)}


def _history(cls: EquipmentClass, contracts: Mapping[str, Contract]) -> Sources:
    columns = [c.name for c in contracts["maintenance_history"].columns]
    landed = f"{cls.name}/landing/maintenance"
    return {**_same(landed, columns), "": _from(landed, columns, FILTER)}


def _quarantine(cls: EquipmentClass, contracts: Mapping[str, Contract]) -> Sources:
    telemetry, history = (
        _from(f"{cls.name}/landing/{stream}", [c.name for c in contracts[asset].columns], TRANSFORMED)
        for stream, asset in (("telemetry", "telemetry"), ("maintenance", "maintenance_history"))
    )
    landed = [f"{cls.name}/landing/{stream}" for stream in ("telemetry", "maintenance")]
    rows: Sources = {column: [source for at in landed for source in _from(at, [column], IDENTITY)] for column in _ROW}
    return {**rows, "raw": telemetry + history, "reason": telemetry + history}


def _dead_letters(cls: EquipmentClass, _: Mapping[str, Contract]) -> Sources:
    came = f"{cls.name}/landing/dead_letters"
    common = ("date", "gateway", "source", "reason", "equipment_class")
    return {
        **_same(came, common),
        "letters": _from(came, common, AGGREGATED),
        "newest_at": _from(came, ["received_at"], AGGREGATED),
        "equipment_id": _from(came, ["equipment"], IDENTITY),
        "digest": _from(came, ["digest"], IDENTITY),
    }


def _feature_columns(cls: EquipmentClass) -> Sources:
    telemetry = f"{cls.name}/telemetry"
    return {
        feature.name: _from(
            telemetry, [feature.sensor or "ts"], TRANSFORMED if feature.statistic in ("last", "age") else AGGREGATED
        )
        for feature in feature_list(cls)
    }


def _features(cls: EquipmentClass, _: Mapping[str, Contract]) -> Sources:
    telemetry, history = f"{cls.name}/telemetry", f"{cls.name}/maintenance_history"
    return {
        **_same(telemetry, _ROW),
        "life": _from(history, _ROW, AGGREGATED),
        **_feature_columns(cls),
        "": [
            *_from(telemetry, cls.contract.with_role("setting"), CONDITIONAL),
            *_from(telemetry, _ROW, WINDOW),
            *_from(history, _ROW, WINDOW),
        ],
    }


def _training_set(cls: EquipmentClass, contracts: Mapping[str, Contract]) -> Sources:
    telemetry, history = f"{cls.name}/telemetry", f"{cls.name}/maintenance_history"
    labels = [*_from(history, ["ts"], TRANSFORMED), *_from(telemetry, ["ts"], TRANSFORMED)]
    return {**_features(cls, contracts), "rul": labels}


def _prognoses(cls: EquipmentClass, _: Mapping[str, Contract]) -> Sources:
    features = f"{cls.name}/condition_features"
    inputs = _from(features, [f.name for f in feature_list(cls)], TRANSFORMED)
    risk = {} if (name := question_spec(cls).risk) is None else {name: inputs}
    return {**_same(features, _ROW), "rul": inputs, "rul_low": inputs, "rul_high": inputs, **risk}


def _assessments(cls: EquipmentClass, _: Mapping[str, Contract]) -> Sources:
    features = f"{cls.name}/condition_features"
    inputs = _from(features, [f.name for f in feature_list(cls)], TRANSFORMED)
    return {**_same(features, _ROW), "severity": inputs, "rul": inputs}


def _advisories(cls: EquipmentClass, _: Mapping[str, Contract]) -> Sources:
    model, rules = f"{cls.name}/prognoses", f"{cls.name}/rule_assessments"
    rows = {column: [*_from(model, [column], IDENTITY), *_from(rules, [column], IDENTITY)] for column in _ROW}
    risk = question_spec(cls).risk
    told = ("rul", "rul_low", "act_below") if risk is None else (risk, "act_above")
    decided = [*_from(model, told, TRANSFORMED), *_from(rules, ["severity"], TRANSFORMED)]
    which = [*_from(model, ("release", "abstained", "passed_over"), CONDITIONAL)]
    return {
        **rows,
        "severity": decided,
        "action": decided,
        "act_by": [*_from(model, ("ts", "rul", "rul_low"), TRANSFORMED), *_from(rules, ("ts", "rul"), TRANSFORMED)],
        "served_by": [*_from(model, ["release"], TRANSFORMED)],
        "fallback_reason": [*_from(model, ("abstained", "passed_over"), TRANSFORMED)],
        "degraded": which,
        "component": [*_from(model, ["driver"], TRANSFORMED), *_from(rules, ["symptom"], TRANSFORMED)],
        "reason": [*_from(model, ("driver", "driven"), TRANSFORMED), *_from(rules, ["reason"], TRANSFORMED)],
        "rul": [*_from(model, ["rul"], IDENTITY), *_from(rules, ["rul"], IDENTITY)],
        "rul_low": _from(model, ["rul_low"], IDENTITY),
        "rul_high": _from(model, ["rul_high"], IDENTITY),
        **({} if risk is None else {risk: _from(model, [risk], IDENTITY)}),
        "date": _from(model, ["date"], IDENTITY),
        "": [*which, *_from(model, _ROW, JOIN), *_from(rules, _ROW, JOIN)],
    }


def _plan(cls: EquipmentClass, contracts: Mapping[str, Contract]) -> Sources:
    advisories = f"{cls.name}/advisories"
    same = ("equipment_id", "severity", "action", "act_by", "served_by", "date")
    told = [c.name for c in contracts["advisories"].columns if c.name == "failure_probability"]
    risk = _from(advisories, ("rul", "rul_low", "rul_high", *told), TRANSFORMED)
    costs = [*risk, *_from(advisories, ["severity"], TRANSFORMED)]
    return {
        **_same(advisories, same),
        "failure_probability": risk,
        "cost_now": _from(advisories, ["severity"], TRANSFORMED),
        "cost_of_waiting": costs,
        "rank": _from(advisories, ("severity", "act_by"), SORT),
        "": _from(advisories, ["severity"], FILTER),
    }
