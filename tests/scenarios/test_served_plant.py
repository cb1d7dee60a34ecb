"""A plant from its first reading to its advisories, looked at from outside."""

from typing import Any

import dagster as dg
import pyarrow.compute as pc
import pytest

from backbone.windows import WindowRange
from quality.profiles import DRIFT_LEAST_DAYS
from quality.reconciliation import reconcile
from tests.scenarios.installation import Installation

Served = tuple[Installation, dict[str, Any]]


def test_it_is_stored_trained_and_scored_in_this_order(served_once: Served) -> None:
    _, report = served_once
    assert [s["step"] for s in report["steps"]] == ["ingest", "train", "score"]
    fleet = report["fleets"]["pump"]
    assert fleet["windows_landed"] == fleet["windows_served"] == 60


def test_every_machine_is_advised_by_the_model_and_says_so(served_once: Served) -> None:
    installation, report = served_once
    assert set(report["fleets"]["pump"]["served_by"]) == {"model:v1"}
    rows = installation.plant().advisories("pump").read("north")
    assert pc.sum(rows["degraded"]).as_py() == 0
    assert rows["fallback_reason"].null_count == rows.num_rows
    assert set(rows["severity"].to_pylist()) <= {"ok", "watch", "plan", "act"}
    due = rows.filter(pc.is_in(rows["severity"], pc.cast(["plan", "act"], "string")))
    assert due.num_rows > 0
    assert due["act_by"].null_count == 0


def test_a_release_shows_how_good_it_is_in_numbers_and_pictures(served: Installation) -> None:
    (trained,), (judged,), (released,) = (
        served.metadata("pump", asset) for asset in ("trained_model", "model_evaluation", "model_release")
    )
    assert released["version"] == 1
    for told in (trained, judged, released):
        assert all(isinstance(told[name], float) for name in ("rmse", "coverage", "width", "cost_ratio"))
        for picture in ("predicted_against_true", "interval_coverage"):
            assert told[picture].startswith("![](data:image/png;base64,")
    assert {name: released[name] for name in ("rmse", "coverage")} == {n: judged[n] for n in ("rmse", "coverage")}
    assert trained["interval_coverage"] != judged["interval_coverage"]


def test_windows_show_how_far_sensors_have_moved_since_the_release(served: Installation) -> None:
    windows = served.metadata("pump", "prognoses")
    told = [w for w in windows if "drift_psi" in w]
    assert len(windows) == 60
    assert len(told) == 60 - DRIFT_LEAST_DAYS + 1, "before that there is too little to look at"
    assert {w["drift_since"] for w in told} == {1}
    assert all(w["drift_psi"] >= 0 and w["drifted_sensors"] >= 0 for w in told)
    assert max(w["drift_psi"] for w in told) > 0
    assert all(w["feature_drift"].startswith("![](data:image/png;base64,") for w in windows)


def test_accepted_is_stored_plus_quarantined(served: Installation) -> None:
    balance = reconcile(served.plant(), "pump")
    assert len(balance) == 60
    assert all(accepted == kept for _, accepted, kept in balance)
    quarantine = served.plant().table("pump", "telemetry_quarantine").read("north")
    assert quarantine.num_rows > 0
    assert quarantine["reason"].null_count == quarantine["raw"].null_count == 0


def test_serving_again_changes_nothing_that_is_stored(copied: Any) -> None:
    installation = copied()
    first = WindowRange("north", *[d for d, _, _ in reconcile(installation.plant(), "pump")][5:7])
    before = {n: _content(installation, n, first) for n in ("telemetry", "condition_features", "advisories")}
    report = installation.hybrid("run", "--site", "north", "--from", str(first.first), "--to", str(first.last))
    assert [s["step"] for s in report["steps"]] == ["serve"]
    after = {n: _content(installation, n, first) for n in before}
    assert after == before
    given = installation.plant().advisories("pump").history("north", first.first, first.last)
    (older, newer) = (
        given.filter(pc.equal(given["epoch"], epoch)) for epoch in sorted(set(given["epoch"].to_pylist()))
    )
    assert older.num_rows == newer.num_rows > 0, "what was superseded stays on record"


def _content(installation: Installation, name: str, windows: WindowRange) -> str:
    """To the last bit, as text: NaN is to equal NaN. Not the epoch, which counts how often it was answered."""
    plant = installation.plant()
    table = plant.advisories("pump") if name == "advisories" else plant.table("pump", name)
    rows = table.read("north", windows.first, windows.last)
    rows = rows.select([column for column in rows.column_names if column != "epoch"])
    return str(rows.sort_by([("ts", "ascending"), ("equipment_id", "ascending")]).to_pylist())


@pytest.mark.slow
def test_windows_served_one_by_one_equal_windows_served_at_once(copied: Any) -> None:
    """The state of features carries over: serving the last days one at a time gives the same features."""
    installation = copied()
    days = [d for d, _, _ in reconcile(installation.plant(), "pump")][-2:]
    windows = WindowRange("north", days[0], days[1])
    at_once = _content(installation, "condition_features", windows)
    for day in days:
        installation.hybrid("run", "--site", "north", "--from", str(day), "--to", str(day))
    assert _content(installation, "condition_features", windows) == at_once


def test_no_value_passes_between_assets_through_dagster(served: Installation) -> None:
    storage = served.home.dagster / "storage"
    kept = [p for p in storage.rglob("*") if p.is_file() and "compute_logs" not in p.parts]
    assert kept == []


def test_each_window_has_its_own_materialization_and_numbers(served: Installation) -> None:
    with dg.DagsterInstance.from_config(str(served.home.dagster)) as instance:
        key = dg.AssetKey(["pump", "advisories"])
        found = instance.fetch_materializations(key, limit=1000).records
        assert len({r.partition_key for r in found}) == 60
        counts = [r.asset_materialization.metadata["dagster/partition_row_count"].value for r in found[:20]]
        assert min(counts) > 0
