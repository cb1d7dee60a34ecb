"""The fallback chain for 1,000 pumps: what the rules take in the model's place, and what it adds to the model alone."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from backbone.fallback import FallbackChain, Guarded, RungAnswer, Unanswered
from backbone.reasons import BREAKER_OPEN
from benchmarks.measure import Benchmark, interleaved, line, paired
from maintenance.assessments import assess
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.features import Features, feature_names
from maintenance.onnx_export import onnx_session
from maintenance.prognosis import Scorer, prognose
from maintenance.readings import Rows
from maintenance.training import train
from maintenance.training_set import TrainingSet
from resources.catalog.contracts import SHIPPED, SUFFIX, read_contract
from resources.clock import SystemClock
from resources.state.breakers import Breakers
from resources.state.database import Database

ROWS = 1_000
ROUNDS, PAIRS = 101, 301
ROW_LIMIT_S = 20e-6
LIVES, READINGS = 40, 400


@dataclass(frozen=True)
class _Model:
    cls: EquipmentClass
    scorer: Scorer
    features: Features
    name: str = "model:v1"

    def answer(self, rows: np.ndarray) -> RungAnswer:
        """See `backbone.fallback.Rung.answer`."""
        features = self.features if len(rows) == len(self.features) else self.features.take(rows)
        told = prognose(self.cls, self.scorer, features, baseline=self.scorer.baseline, explained=False)
        return RungAnswer(told, None if told.complete else told.abstained)


@dataclass(frozen=True)
class _Rules:
    cls: EquipmentClass
    features: Features
    name: str = "rules"

    def answer(self, rows: np.ndarray) -> RungAnswer:
        """See `backbone.fallback.Rung.answer`."""
        told = assess(self.cls, self.features.take(rows))
        return RungAnswer((told, told.reasons()))


@dataclass(frozen=True)
class _Away:
    name: str = "model:v1"

    def answer(self, rows: np.ndarray) -> RungAnswer:  # noqa: ARG002 - the port's
        """See `backbone.fallback.Rung.answer`."""
        raise Unanswered(BREAKER_OPEN, "Its circuit breaker is open.")


def _training_set(cls: EquipmentClass, random: np.random.Generator) -> TrainingSet:
    """Lives whose features drift as they end, as many as a plant has after some months."""
    names = feature_names(cls)
    left = np.tile(np.arange(READINGS)[::-1] * cls.rul.cap / READINGS, LIVES)
    wear = (1 - left / cls.rul.cap)[:, None] ** 2 * random.uniform(0, 3, len(names))
    X = (wear + random.normal(0, 0.5, (len(left), len(names)))).astype(np.float32)
    X[:, names.index("age")] = cls.rul.cap - left
    return TrainingSet(_rows_of(LIVES, READINGS), names, X, left)


def _rows_of(machines: int, readings: int) -> Rows:
    names = np.array([f"pump-{n:04d}" for n in range(machines)], dtype=object)
    machine = np.repeat(np.arange(machines), readings)
    first = np.datetime64("2025-01-01T00:00", "us")
    ts = first + np.tile(np.arange(readings), machines) * np.timedelta64(15, "m")
    return Rows(names, machine, ts, np.zeros(len(machine), dtype=int))


def _rows() -> Iterator[str]:
    cls = equipment_class_from_contract(read_contract(SHIPPED / f"pump{SUFFIX}"))
    models = replace(cls.models, candidates=("hist_gradient_boosting",), minimum_failures=3, folds=3)
    learning = replace(cls, models=models)
    data = _training_set(cls, np.random.default_rng(7))
    model = train(learning, "baseline", data, seed=7)
    scorer = Scorer(model.onnx, model.manifest)
    some = np.linspace(0, len(data) - 1, ROWS).astype(int)
    features = Features(_rows_of(ROWS, 1), data.names, data.X[some])  # float32, as the scoring worker reads them
    by_rules = _Rules(cls, replace(features, matrix=features.matrix.astype(float)))

    def rules() -> Any:
        return FallbackChain([_Away(), by_rules]).answer(ROWS)

    took, _ = interleaved(rules, lambda: None, rounds=ROUNDS)
    each = f"{took / ROWS * 1e6:.1f} µs a row"
    yield line(
        f"the rules in the model's place, {ROWS:,} rows ({each}) / 20 µs a row", took, ROWS * ROW_LIMIT_S, "≤ 1×"
    )

    session, X = onnx_session(model.onnx, threads=1), scorer.select(features).copy()  # neither finds the other's warm
    with tempfile.TemporaryDirectory() as folder:
        breakers = Breakers(Database(f"sqlite:///{Path(folder) / 'state.db'}"), SystemClock())
        guarded = Guarded(_Model(cls, scorer, features), breakers.breaker("benchmark"), time.monotonic)
        chain = FallbackChain([guarded, by_rules])
        assert not chain.answer(ROWS).degraded.any()
        by_clock = paired(lambda: chain.answer(ROWS), lambda: session.run(None, {"features": X}), rounds=PAIRS)
        breakers.flush()
    trees = ", ".join(model.manifest["model"])
    for clock, pairs in zip(("wall", "processor"), by_clock, strict=True):
        what = f"the whole chain, healthy, {ROWS:,} × {X.shape[1]} ({trees}) / session.run, {clock} time"
        yield line(what, pairs.ours_s, pairs.peer_s, "≤ 1.05×", ratio=pairs.ratio)


SPEC = Benchmark("fallback_chain", _rows)
