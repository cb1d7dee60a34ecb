"""The hot process finds verified releases and a fleet's newest state, and nothing that does not verify."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from backbone.errors import NotCommissioned
from backbone.sources import Batch
from backbone.windows import WindowRange
from gateway.edge_features import EdgeFeatures
from gateway.exchange import read_release, read_state, release_folder, release_versions
from gateway.porter.edge_copies import EdgeCopies
from gateway.porter.landing_note import LandingNote
from gateway.porter.releases import copy_releases
from maintenance.feature_state import FeatureState, state_schema
from maintenance.prognosis import Scorer
from tests.gateway.porter.released_plant import DAYS, MACHINES, REPAIRED, ReleasedPlant

NO_STATE = state_schema().empty_table()


@pytest.fixture
def made(tmp_path: Path) -> ReleasedPlant:
    return ReleasedPlant(tmp_path)


@pytest.fixture
def copies(made: ReleasedPlant) -> EdgeCopies:
    return copies_of(made)


def copies_of(made: ReleasedPlant) -> EdgeCopies:
    """In this process, as the one that the porter starts does it."""
    return EdgeCopies(made.plant, made.folders, {"pump": None}, partial(copy_releases, made.plant, made.folders))


def told(copies: EdgeCopies, kind: str) -> list[dict[str, Any]]:
    return [dict(message[kind]) for message in copies.look() if kind in message]


def test_a_plant_that_has_nothing_yet(copies: EdgeCopies, made: ReleasedPlant) -> None:
    assert list(copies.look()) == [{"release": {"fleet": "pump", "versions": [], "refused": {}}}]
    assert list(copies.look()) == []
    with pytest.raises(NotCommissioned):
        made.plant.registry("pump").current()


def test_the_newest_two_releases_are_copied_and_older_ones_go(copies: EdgeCopies, made: ReleasedPlant) -> None:
    for version in (1, 2, 3):
        bundle = made.release(slope=version / 10)
        kept = sorted({version, version - 1} - {0}, reverse=True)
        assert told(copies, "release") == [{"fleet": "pump", "versions": kept, "refused": {}}]
        assert release_versions(made.folders.releases("pump")) == kept
    assert list(copies.look()) == []
    found = read_release(release_folder(made.folders.releases("pump"), 3))
    assert found.model == (bundle / "model.onnx").read_bytes()
    assert found.baseline == (bundle / "baseline.json").read_text()
    assert (found.version, found.manifest["version"]) == (3, 3)
    assert found.contract["name"] == "pump"


@pytest.mark.parametrize("harm", ["signature", "model", "added"])
def test_a_release_that_does_not_verify_is_refused_and_the_one_before_stays(
    copies: EdgeCopies, made: ReleasedPlant, harm: str
) -> None:
    made.release()
    assert told(copies, "release")[0]["versions"] == [1]
    bundle = made.release(slope=0.2)
    if harm == "signature":
        (bundle.parent / "bundle.sig").unlink()
    elif harm == "model":
        (bundle / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes()[:-1] + b"x")
    else:
        (bundle / "more.txt").write_text("more")
    (message,) = told(copies, "release")
    assert message["versions"] == [1]
    assert list(message["refused"]) == ["2"]
    assert "v0002" in message["refused"]["2"]
    assert release_versions(made.folders.releases("pump")) == [1]
    assert list(copies.look()) == [], "told once"


def test_a_copied_release_that_is_tampered_with_at_the_premises_later_no_longer_serves(
    copies: EdgeCopies, made: ReleasedPlant
) -> None:
    made.release()
    bundle = made.release(slope=0.2)
    assert told(copies, "release")[0]["versions"] == [2, 1]
    (bundle / "model.onnx").write_bytes(b"another")
    (message,) = told(copies, "release")
    assert (message["versions"], list(message["refused"])) == ([1], ["2"])


def test_where_none_verifies_any_more_those_that_did_stay(copies: EdgeCopies, made: ReleasedPlant) -> None:
    bundle = made.release()
    told(copies, "release")
    (bundle.parent / "bundle.sig").unlink()
    (message,) = told(copies, "release")
    assert (message["versions"], list(message["refused"])) == ([1], ["1"])
    assert read_release(release_folder(made.folders.releases("pump"), 1)).version == 1


@pytest.mark.parametrize("wrong", [{"onnx": b"no graph"}, {"manifest": {"features": []}}])
def test_a_signed_release_that_is_no_model_is_refused(
    copies: EdgeCopies, made: ReleasedPlant, wrong: dict[str, Any]
) -> None:
    made.release()
    made.release(**wrong)
    (message,) = told(copies, "release")
    assert (message["versions"], list(message["refused"])) == ([1], ["2"])


def test_a_damaged_copy_is_made_again(copies: EdgeCopies, made: ReleasedPlant) -> None:
    made.release()
    list(copies.look())
    folder = release_folder(made.folders.releases("pump"), 1)
    (folder / "model.onnx").write_bytes(b"")
    list(copies_of(made).look())
    assert read_release(folder).version == 1


def test_canary_rows_are_of_the_plant_and_answered_by_the_model(copies: EdgeCopies, made: ReleasedPlant) -> None:
    made.release()
    list(copies.look())
    folder = release_folder(made.folders.releases("pump"), 1)
    canary = read_release(folder).canary
    assert canary.origin == "manifest"
    assert len(canary.features) == 4

    made.serve(DAYS[1], made.serve(DAYS[0]))
    shutil.rmtree(folder)
    list(copies_of(made).look())
    release = read_release(folder)
    canary = release.canary
    assert canary.origin == "condition_features"
    stored = made.plant.table("pump", "condition_features").read("north", DAYS[1], DAYS[1])
    known = np.column_stack([stored[name].to_numpy() for name in made.names])
    assert all(any(np.array_equal(row, other) for other in known) for row in canary.features)
    expected = (5 + 0.1 * canary.features.sum(axis=1)).clip(0, made.cls.rul.cap)
    np.testing.assert_allclose(canary.answers, expected, atol=canary.tolerance)
    np.testing.assert_array_equal(Scorer(release.model, release.manifest).predict(canary.features), canary.answers)


def test_the_state_is_that_of_the_newest_window_and_features_go_on_from_it(
    copies: EdgeCopies, made: ReleasedPlant
) -> None:
    made.release()
    after = made.serve(DAYS[0])
    assert told(copies, "state") == [{"fleet": "pump", "window": "2025-12-01"}]
    assert told(copies, "state") == []
    after = made.serve(DAYS[1], after)
    assert told(copies, "state") == [{"fleet": "pump", "window": "2025-12-02"}]
    state = read_state(made.folders.state("pump"))
    assert state is not None
    assert state.checkpoint is not None
    held = FeatureState(**state.checkpoint)
    for name in FeatureState.__slots__:
        np.testing.assert_array_equal(getattr(held, name), getattr(after, name))
    assert dict(zip(held.equipment.tolist(), held.life.tolist(), strict=True)) == {"P-1": 0, "P-2": 1, "P-3": 0}
    assert {k: v.tolist() for k, v in state.events.of().items()} == {"P-2": [int(REPAIRED.timestamp() * 1e6)]}
    live = EdgeFeatures(made.cls, state, made.cls.contract.inputs + made.cls.contract.with_role("setting"))
    assert live.baseline.id == made.baseline.id
    assert tuple(held.equipment) == MACHINES


def test_the_state_holds_what_landed_after_the_newest_window(made: ReleasedPlant) -> None:
    made.release()
    second = made.readings(DAYS[1])
    expected = made.serve(DAYS[1], made.serve(DAYS[0]))
    made.plant.table("pump", "feature_state").replace(WindowRange("north", DAYS[1], DAYS[1]), NO_STATE, run_id="r")
    rows, columns = second.rows, dict(zip(second.columns, second.values.T, strict=True))
    ts = pa.array(rows.ts).cast(pa.timestamp("us", tz="UTC"))
    table = pa.table({"equipment_id": rows.equipment.tolist(), "ts": ts, **columns})
    shuffled = table.take(np.random.default_rng(3).permutation(len(rows)))
    again = pa.concat_tables([shuffled, table.slice(0, 5)])
    until = datetime.combine(DAYS[1] + timedelta(days=1), time(), UTC)
    made.plant.landing("pump").take_up([Batch("b", "telemetry", DAYS[1], again, "a test", "")], until=until)
    LandingNote("an id", landed=72).write(made.folders.landing)
    copies = copies_of(made)

    assert told(copies, "state") == [{"fleet": "pump", "window": "2025-12-01"}]

    state = read_state(made.folders.state("pump"))
    assert state is not None
    assert state.checkpoint is not None
    assert (state.spool, state.landed) == ("an id", 72)
    for name in FeatureState.__slots__:
        np.testing.assert_array_equal(state.checkpoint[name], getattr(expected, name))
    assert told(copies, "state") == []
    made.serve(DAYS[0])
    assert len(told(copies, "state")) == 1
    served = read_state(made.folders.state("pump"))
    assert served is not None
    assert served.landed == 0, "days of readings are read only for who asks"
    copies.want_state("pump")
    assert told(copies, "state") == [{"fleet": "pump", "window": "2025-12-01"}]
    asked = read_state(made.folders.state("pump"))
    assert asked is not None
    assert asked.landed == 72


def test_the_state_holds_nothing_of_what_landed_and_the_contract_refuses(made: ReleasedPlant) -> None:
    made.release()
    rows = made.readings(DAYS[1])
    sent = pa.table(
        {
            "equipment_id": rows.rows.equipment.tolist(),
            "ts": pa.array(rows.rows.ts).cast(pa.timestamp("us", tz="UTC")),
            **dict(zip(rows.columns, rows.values.T, strict=True)),
        }
    )
    expected = made.serve(DAYS[1], made.serve(DAYS[0]))
    made.plant.table("pump", "feature_state").replace(WindowRange("north", DAYS[1], DAYS[1]), NO_STATE, run_id="r")
    last = sent.slice(len(sent) - 1)
    impossible = with_column(last, "flow_m3_h", 1e6).set_column(
        1, "ts", pc.add(last["ts"], pa.scalar(timedelta(minutes=5)))
    )
    strangers = with_column(last, "equipment_id", "  ")
    conflicting = with_column(sent, "vibration_mm_s", 7.5)
    until = datetime.combine(DAYS[1] + timedelta(days=1), time(), UTC)
    batches = [
        Batch(f"b{n}", "telemetry", DAYS[1], table, "a file", "")
        for n, table in enumerate((impossible, strangers, sent, conflicting))
    ]
    made.plant.landing("pump").take_up(batches, until=until)

    assert told(copies_of(made), "state") == [{"fleet": "pump", "window": "2025-12-01"}]
    state = read_state(made.folders.state("pump"))
    assert state is not None
    assert state.checkpoint is not None
    for name in FeatureState.__slots__:
        np.testing.assert_array_equal(state.checkpoint[name], getattr(expected, name))


def with_column(rows: pa.Table, name: str, value: object) -> pa.Table:
    """The rows, all of them with one value."""
    at = rows.column_names.index(name)
    return rows.set_column(at, name, pa.repeat(pa.scalar(value, rows.schema.field(at).type), len(rows)))


def test_before_the_first_release_features_are_against_the_plants_newest_baseline(
    copies: EdgeCopies, made: ReleasedPlant
) -> None:
    made.serve(DAYS[0])
    assert told(copies, "state") == []
    made.plant.baselines("pump").put(made.baseline.id.removeprefix("sha256:"), made.baseline.to_json())
    assert told(copies, "state") == [{"fleet": "pump", "window": "2025-12-01"}]


def test_a_checkpoint_against_another_baseline_is_none(copies: EdgeCopies, made: ReleasedPlant) -> None:
    made.serve(DAYS[0])
    made.baseline = replace(made.baseline, level=made.baseline.level + 1)
    made.release(manifest=made.manifest())
    assert told(copies, "state") == [{"fleet": "pump", "window": None}]
    state = read_state(made.folders.state("pump"))
    assert state is not None
    assert state.checkpoint is None


def test_trouble_with_one_fleet_is_told_once_and_does_not_stop_others(made: ReleasedPlant) -> None:
    copies = copies_of(made)
    made.release()
    made.folders.root.mkdir(parents=True)
    (made.folders.root / "releases").write_text("a file in the way")
    (message,) = copies.look()
    assert message["what"] == "releases and state of pump"
    assert message["next_step"]
    assert list(copies.look()) == []
