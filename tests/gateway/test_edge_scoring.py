"""What answers on the plant floor: releases the porter left, tried and taken over, and the rules beneath them."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from backbone.reasons import (
    BREAKER_OPEN,
    DEADLINE,
    IMPLAUSIBLE,
    MISSING_INPUTS,
    NO_RELEASE,
    OUT_OF_RANGE,
)
from gateway import reasons
from gateway.decoding import Reading
from gateway.edge_scoring import Asked
from gateway.exchange import CANARY, Canary, read_release, release_folder, write_release
from gateway.fleets import Fleet, open_fleet
from gateway.porter.edge_copies import EdgeCopies
from gateway.porter.landing_note import LandingNote
from gateway.porter.releases import copy_releases
from gateway.settings import settings_of
from maintenance.features import feature_names
from maintenance.incremental_features import IncrementalFeatures
from maintenance.onnx_export import export_onnx
from maintenance.prognosis import Scorer
from maintenance.tree_model import TreeModel
from tests.gateway.porter.released_plant import DAYS, ReleasedPlant, linear_model

SENSOR = "vibration_mm_s"
AFTER = datetime(2025, 12, 3, tzinfo=UTC)


class Edge:
    """A plant whose porter has run, and its fleet at the gateway."""

    def __init__(self, folder: Path) -> None:
        self.made = ReleasedPlant(folder)
        copied = partial(copy_releases, self.made.plant, self.made.folders)
        self.copies = EdgeCopies(self.made.plant, self.made.folders, {"pump": None}, copied)
        state = self.made.serve(DAYS[0])
        self.made.serve(DAYS[1], state)
        self.fleet: Fleet = open_fleet(self.made.plant, settings_of(self.made.plant), self.made.folders, "pump")

    def look(self) -> None:
        """The porter looks, and then the gateway."""
        list(self.copies.look())
        if (change := self.fleet.prepared()) is not None:
            self.fleet.take_over(change)

    def reading(self, hour: int, equipment: str = "P-1", flags: tuple[str, ...] = (), **values: float) -> Reading:
        shown = self.made.usual | values
        ts_us = int((AFTER + timedelta(hours=hour)).timestamp()) * 1_000_000
        return Reading("dev", equipment, "s", hour, ts_us, list(shown.values()), flags, ts_us, "00-trace", b"")

    def ask(self, *readings: Reading) -> list[Mapping[str, Any]]:
        asked = self.fleet.scoring.take(readings)
        return [] if asked is None else [json.loads(a.payload) for a in self.fleet.scoring.answer(asked)]

    @property
    def scorer(self) -> Scorer:
        """That of the release that serves."""
        newest = self.fleet.scoring.releases.newest
        assert newest is not None
        return newest.scorer

    def taken(self, *readings: Reading) -> Asked:
        """Live ones."""
        asked = self.fleet.scoring.take(readings)
        assert asked is not None
        return asked


def forest(edge: Edge, seed: int = 0) -> bytes:
    """ONNX, of trees alone."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    drawn = np.random.default_rng(seed)
    X = drawn.normal(size=(300, len(edge.made.names))).astype(np.float32)
    model = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(X, drawn.uniform(1, 9, len(X)))
    return export_onnx(model, X.shape[1])


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


def test_a_fleet_that_is_not_commissioned_answers_nothing(edge: Edge) -> None:
    assert edge.ask(edge.reading(1)) == []
    assert edge.fleet.told()["commissioned"] is False


def test_the_rules_answer_until_there_is_a_release_and_then_the_model(edge: Edge) -> None:
    edge.made.plant.baselines("pump").put(edge.made.baseline.id, edge.made.baseline.to_json())
    edge.look()
    (first,) = edge.ask(edge.reading(1))
    assert (first["served_by"], first["fallback_reason"]) == ("rules", NO_RELEASE)
    edge.made.release()
    edge.look()
    (told,) = edge.ask(edge.reading(2))
    assert (told["served_by"], told["fallback_reason"], told["degraded"]) == ("model:v1", None, False)
    assert (told["equipment_id"], told["source"], told["session"], told["seq"]) == ("P-1", "dev", "s", 2)
    assert told["rul_low"] <= told["rul"] <= told["rul_high"]


def test_its_features_are_those_of_a_process_that_never_ended(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    readings = edge.made.readings()
    live = IncrementalFeatures(edge.made.cls, edge.made.baseline)
    rows = readings.rows
    order = np.lexsort((rows.machine, rows.ts))
    slots = np.array([live.slot(str(name)) for name in rows.equipment])
    live.take(slots[order], rows.ts.view(np.int64)[order], rows.life[order], readings.values[order])
    asked = edge.taken(edge.reading(1), edge.reading(1, "P-2"))
    sent = np.array([[edge.made.usual[name] for name in readings.columns]] * 2)
    ts = np.array([r.ts_us for r in asked.readings])
    lives = np.array([0, 1])
    expected = live.take(np.array([live.slot("P-1"), live.slot("P-2")]), ts, lives, sent)
    np.testing.assert_array_equal(asked.features.matrix, expected)


def test_late_historical_and_future_readings_are_not_answered_and_later_ones_are(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    assert len(edge.ask(edge.reading(5))) == 1
    assert edge.ask(edge.reading(4)) == [], "late"
    assert edge.ask(edge.reading(5)) == [], "again"
    assert edge.ask(edge.reading(6, flags=(reasons.IS_HISTORICAL,))) == []
    assert edge.ask(edge.reading(500, flags=(reasons.AHEAD_OF_CLOCK,))) == []
    assert [told["seq"] for told in edge.ask(edge.reading(7), edge.reading(8, "P-3"))] == [7, 8]


def test_many_readings_of_one_machine_are_answered_each(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    told = edge.ask(*(edge.reading(hour) for hour in (3, 1, 2)), edge.reading(1, "P-9"))
    assert [(a["equipment_id"], a["seq"]) for a in told] == [("P-1", 1), ("P-1", 2), ("P-1", 3), ("P-9", 1)]


def test_what_drives_a_machine_is_found_again_when_it_gets_worse_or_time_has_gone_by(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.made.release(slope=-0.1)
    edge.look()
    found: list[int] = []
    drivers = Scorer.drivers

    def counted(scorer: Scorer, X: np.ndarray) -> np.ndarray:
        found.append(len(X))
        return drivers(scorer, X)

    monkeypatch.setattr(Scorer, "drivers", counted)
    told = []
    for after_s, level in ((0, 53.0), (1, 53.0), (59, 53.0), (61, 53.0), (62, 59.0)):
        sent = edge.reading(1, **dict.fromkeys(edge.fleet.check.columns, level))
        (answer,) = edge.ask(replace(sent, ts_us=sent.ts_us + after_s * 1_000_000))
        told.append((len(found), answer["severity"], answer["component"] is not None))
    assert told == [(1, "plan", True), (1, "plan", True), (1, "plan", True), (2, "plan", True), (3, "act", True)]


def test_a_release_that_cannot_be_explained_answers_without_a_driver_until_its_breaker_opens(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.made.release(slope=-0.1)
    edge.look()

    def fails(_: Scorer, __: np.ndarray) -> np.ndarray:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(Scorer, "drivers", fails)
    told = []
    for hour in range(1, 7):
        (answer,) = edge.ask(edge.reading(hour, **dict.fromkeys(edge.fleet.check.columns, 53.0)))
        told.append((answer["served_by"], answer["fallback_reason"]))
        if hour == 1:
            assert (answer["severity"], answer["component"]) == ("plan", None)
    assert told[0] == ("model:v1", None)
    assert told[-1] == ("rules", BREAKER_OPEN)


def test_a_reading_out_of_what_was_learnt_is_left_to_the_rules(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    sensor = edge.made.names[0].partition(".")[0]
    (told,) = edge.ask(edge.reading(1, **{sensor: 1e6}))
    assert told["served_by"] == "rules"
    assert told["fallback_reason"] in (OUT_OF_RANGE, IMPLAUSIBLE, MISSING_INPUTS)


def test_a_machine_whose_sensor_was_always_silent_is_left_to_the_rules(edge: Edge) -> None:
    means = [name for name in feature_names(edge.made.cls) if ".mean_" in name][: len(edge.made.names)]
    edge.made.release(manifest=edge.made.manifest() | {"features": means})
    edge.look()
    assert edge.ask(edge.reading(1, "P-8"))[0]["served_by"] == "model:v1"
    (told,) = edge.ask(edge.reading(1, "P-9", **{means[0].partition(".")[0]: float("nan")}))
    assert (told["served_by"], told["fallback_reason"], told["degraded"]) == ("rules", MISSING_INPUTS, True)


def test_a_release_whose_features_mean_something_else_is_never_asked_and_says_so(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    edge.made.release(slope=0.2, manifest=edge.made.manifest() | {"feature_digest": "sha256:0"})
    edge.look()
    assert "reads other features" in edge.fleet.told()["rejected"]["v2"]
    assert edge.ask(edge.reading(1))[0]["served_by"] == "model:v1"


@pytest.mark.parametrize(
    "wrong",
    [
        {"onnx": lambda made: linear_model(len(made.names) + 1, 0.2)},
        {"manifest": lambda made: made.manifest() | {"features": [*made.names, "no_such.feature"]}},
    ],
    ids=["shape", "name"],
)
def test_a_release_of_another_shape_never_serves(edge: Edge, wrong: Mapping[str, Any]) -> None:
    edge.made.release()
    edge.look()
    edge.made.release(**{name: make(edge.made) for name, make in wrong.items()})
    edge.look()
    assert edge.fleet.told()["release"] == 1
    assert edge.ask(edge.reading(1))[0]["served_by"] == "model:v1"


def test_a_release_that_answers_its_canaries_otherwise_never_serves_and_says_so(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    edge.made.release(slope=0.2)
    list(edge.copies.look())
    folder = release_folder(edge.made.folders.releases("pump"), 2)
    canary = Canary.from_json((folder / CANARY).read_text())
    wrong = Canary(canary.features, canary.answers + 1, canary.tolerance, canary.origin).to_json()
    digests = json.loads((folder / "digests.json").read_text())
    (folder / CANARY).write_text(wrong)
    digests["files"][CANARY] = f"sha256:{hashlib.sha256(wrong.encode()).hexdigest()}"
    (folder / "digests.json").write_text(json.dumps(digests))
    edge.look()
    assert edge.fleet.told()["release"] == 1
    assert "canary" in edge.fleet.told()["rejected"]["v2"]
    assert edge.ask(edge.reading(1))[0]["served_by"] == "model:v1"


def test_a_model_of_trees_is_asked_without_the_runtime_and_answers_the_same(edge: Edge) -> None:
    edge.made.release(onnx=forest(edge))
    edge.look()
    scorer = edge.scorer
    runtime, scorer._single = scorer._single, None  # it would fail
    (told,) = edge.ask(edge.reading(1))
    assert told["served_by"] == "model:v1"
    assert edge.fleet.told()["asked"] == "trees"
    scorer._single = runtime
    many = scorer.select(edge.taken(edge.reading(2)).features).repeat(5_000, axis=0)  # for the runtime
    assert set(scorer.predict(many)) == set(scorer.predict(many[:1]))


def test_a_copy_of_before_there_were_trees_is_asked_by_the_runtime(edge: Edge) -> None:
    edge.made.release(onnx=forest(edge))
    list(edge.copies.look())
    folder = release_folder(edge.made.folders.releases("pump"), 1)
    copied = read_release(folder)
    write_release(folder, dataclasses.replace(copied, trees=b""), json.dumps(copied.manifest).encode())
    assert not (folder / "trees.npz").exists()
    edge.look()
    assert edge.fleet.told()["asked"] == "runtime"
    assert edge.ask(edge.reading(1))[0]["served_by"] == "model:v1"


def test_a_model_of_something_else_is_asked_by_the_runtime(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    assert read_release(release_folder(edge.made.folders.releases("pump"), 1)).trees == b""
    assert edge.fleet.told()["asked"] == "runtime"


@pytest.mark.parametrize("content", [b"no archive", None], ids=["damaged", "of another model"])
def test_trees_that_are_not_the_models_are_left_to_the_runtime_and_that_is_said(
    edge: Edge, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    edge.made.release(onnx=forest(edge))
    list(edge.copies.look())
    folder = release_folder(edge.made.folders.releases("pump"), 1)
    copied = read_release(folder)
    if content is None:
        other = TreeModel.from_onnx(forest(edge, seed=1))
        assert other is not None
        content = other.to_bytes()
    write_release(folder, dataclasses.replace(copied, trees=content), json.dumps(copied.manifest).encode())
    edge.look()
    assert "trees not taken" in caplog.messages
    assert edge.fleet.told()["asked"] == "runtime"
    (right,) = edge.scorer.predict(rows := edge.scorer.select(edge.taken(edge.reading(1)).features))
    assert right == Scorer(copied.model, copied.manifest).predict(rows)[0]
    assert edge.ask(edge.reading(2))[0]["served_by"] == "model:v1"


def test_a_copy_that_is_not_what_was_copied_never_serves(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    edge.made.release(slope=0.2)
    list(edge.copies.look())
    model = release_folder(edge.made.folders.releases("pump"), 2) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    edge.look()
    assert edge.fleet.told()["release"] == 1
    assert "not what was copied" in edge.fleet.told()["rejected"]["v2"]


def test_the_one_before_serves_again_where_the_newest_errs_and_it_is_not_tried_again(edge: Edge) -> None:
    for slope in (0.1, 0.2):
        edge.made.release(slope=slope)
        edge.look()
    assert edge.ask(edge.reading(1))[0]["served_by"] == "model:v2"
    newest = edge.fleet.scoring.releases.newest
    assert newest is not None
    newest.scorer._single = None  # the runtime fails from here on
    for hour in range(2, 7):
        (told,) = edge.ask(edge.reading(hour))
        assert told["served_by"] == "model:v1", "the chain asks the one before"
        assert told["degraded"]
    assert edge.ask(edge.reading(7))[0]["fallback_reason"] == BREAKER_OPEN
    assert edge.fleet.scoring.releases.go_back()
    edge.look()
    told = edge.ask(edge.reading(8))[0]
    assert (told["served_by"], told["degraded"]) == ("model:v1", False)
    assert "v2" in edge.fleet.told()["rejected"]


def test_the_one_before_serves_again_though_the_disk_cannot_keep_that_the_newest_failed(edge: Edge) -> None:
    for slope in (0.1, 0.2):
        edge.made.release(slope=slope)
        edge.look()
    newest = edge.fleet.scoring.releases.newest
    assert newest is not None
    newest.scorer._single = None
    for hour in range(1, 7):
        edge.ask(edge.reading(hour))
    (edge.made.folders.releases("pump") / "failed.json").mkdir()  # no file can be put in its place
    assert edge.fleet.scoring.releases.go_back()
    (told,) = edge.ask(edge.reading(8))
    assert (told["served_by"], told["degraded"]) == ("model:v1", False)


def test_the_rules_say_why_no_model_was_waited_for(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    asked = edge.taken(edge.reading(1), edge.reading(1, "P-2"))
    told = edge.fleet.scoring.answer_by_rules(asked, DEADLINE)
    assert [(a.reading.equipment, a.fallback_reason, a.reading.traceparent) for a in told] == [
        ("P-1", DEADLINE, "00-trace"),
        ("P-2", DEADLINE, "00-trace"),
    ]


def test_late_readings_are_counted_and_seen_in_the_next_process_too(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    edge.ask(edge.reading(5))
    assert edge.fleet.told()["features"] == "whole"
    edge.ask(edge.reading(3), edge.reading(4))
    edge.ask(edge.reading(500, flags=(reasons.AHEAD_OF_CLOCK,)))
    assert (edge.fleet.told()["features"], edge.fleet.told()["late"]) == ("behind", 2)
    state = edge.fleet.checkpoint()
    assert state is not None
    edge.fleet.write(state)
    again = open_fleet(edge.made.plant, settings_of(edge.made.plant), edge.made.folders, "pump")
    again.recover()
    assert (again.told()["features"], again.told()["late"]) == ("behind", 2)


@pytest.mark.parametrize("own", [True, False])
def test_features_that_hold_what_the_disk_refused_are_built_anew_without_it(edge: Edge, own: bool) -> None:
    """`own`: from a checkpoint of the gateway's, else from the porter's."""
    edge.made.release()
    edge.look()
    edge.ask(edge.reading(1))
    if own:
        parts = edge.fleet.checkpoint()
        assert parts is not None
        edge.fleet.write(parts)
    edge.ask(edge.reading(2, **{SENSOR: 90.0}))
    edge.fleet.scoring.doubt()
    assert edge.fleet.doubted
    edge.look()
    assert not edge.fleet.doubted
    told = edge.taken(edge.reading(2))
    assert len(told.readings) == 1, "it is not known to features"
    assert told.features[f"{SENSOR}.last"][0] < 10
    assert edge.fleet.told()["release"] == 1


def test_where_nobody_has_anything_against_their_baseline_doubted_features_start_over_and_say_so(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    edge.ask(edge.reading(1))
    edge.made.folders.state("pump").unlink()
    edge.fleet.scoring.doubt()
    change = edge.fleet.prepared()
    assert change is not None
    edge.fleet.take_over(change)
    assert not edge.fleet.doubted
    assert edge.fleet.wants_state
    assert edge.fleet.told()["features"] == "behind"
    assert len(edge.ask(edge.reading(2))) == 1


def test_features_that_lack_what_landed_are_whole_once_the_porter_has_written_it_down(edge: Edge) -> None:
    edge.made.release()
    list(edge.copies.look())
    spool = ("an id", 10)
    cold = open_fleet(edge.made.plant, settings_of(edge.made.plant), edge.made.folders, "pump", lambda: spool)
    assert cold.recover() is True
    for _ in range(2):  # release, then nothing new
        if (change := cold.prepared()) is not None:
            cold.take_over(change)
    assert cold.told()["release"] == 1, "it serves meanwhile"
    assert (cold.told()["features"], cold.wants_state) == ("behind", True)
    LandingNote("an id", landed=12).write(edge.made.folders.landing)
    edge.copies.want_state("pump")
    list(edge.copies.look())
    change = cold.prepared()
    assert change is not None
    assert change.features is not None
    cold.take_over(change)
    assert (cold.told()["features"], cold.wants_state) == ("whole", False)
    assert cold.prepared() is None


def test_the_next_process_goes_on_from_this_ones_checkpoint(edge: Edge) -> None:
    edge.made.release()
    edge.look()
    edge.ask(edge.reading(1), edge.reading(2))
    state = edge.fleet.checkpoint()
    assert state is not None
    edge.fleet.write(state)
    again = open_fleet(edge.made.plant, settings_of(edge.made.plant), edge.made.folders, "pump")
    assert again.recover() is False, "the spool need not be read whole"
    one, other = edge.taken(edge.reading(3)), again.scoring.take([edge.reading(3)])
    assert other is not None
    np.testing.assert_array_equal(one.features.matrix, other.features.matrix)
