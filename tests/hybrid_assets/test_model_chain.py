"""The releases that one scoring call asks share its tries and its time, whatever becomes of them."""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backbone.breaker import BreakerSettings
from backbone.fallback import Answers
from backbone.reasons import INHERENT
from backbone.targets import ComputeTarget, TargetStatus
from backbone.windows import WindowRange
from hybrid_assets.model_chain import Asked, ask_models, prognosis_table
from hybrid_assets.prognosis_tables import ANSWER_SCHEMA
from hybrid_assets.workers import score
from hybrid_assets.workers.session import Job, run_worker
from hybrid_assets.workers.training_files import BASELINE
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import equipment_class_from_contract
from maintenance.features import Features, feature_names
from maintenance.readings import Rows
from resources.home import Home
from resources.plant import Catalog, Plant
from tests.shared_instance import shared_instance
from tests.simulated_clock import Simulated

DEADLINE_S = 20.0
SITE = """\
[calendar]
first_day = 2025-01-01
[fleets.pump]
source = {{ kind = "files" }}
[[locations]]
name = "hall"
kind = "on_prem"
zone = "plant"
jurisdiction = "DE"
[[locations]]
name = "cell"
kind = "edge"
zone = "cell"
jurisdiction = "DE"
[[locations]]
name = "sky"
kind = "cloud"
zone = "sky"
jurisdiction = "IE"
[workloads.scoring]
deadline_s = {deadline_s}
attempts = {attempts}
"""
TARGET = """
[[targets]]
name = "{name}"
location = "hall"
kind = "faulty"
wraps = {{ kind = "in_process", background = false }}
{fault}
"""
MACHINES = ("p1", "p2", "p3")


def hangs_at(launch: int) -> str:
    """A target's fault: the launch with this number hangs, those before it do not."""

    def drawn(seed: int, number: int) -> float:
        return random.Random(f"{seed}:{number}").random()  # noqa: S311 - as the target draws

    seeds = (s for s in range(1000) if drawn(s, launch) < 0.5 and min(drawn(s, n) for n in range(launch)) > 0.5)
    return f"hang = 0.5\nseed = {next(seeds)}"


@dataclass
class Model:
    """What a release says of the machines: its RUL, or that it abstains."""

    abstains: Sequence[str] = ()
    rul: float = 5.0


@dataclass
class Bench:
    """A plant with two releases, whose answers are made up."""

    home: Home
    clock: Simulated = field(default_factory=Simulated)
    models: dict[int, Model] = field(default_factory=lambda: {1: Model(), 2: Model()})

    def site(self, faults: Mapping[str, str], *, attempts: int = 3) -> "Bench":
        text = SITE.format(deadline_s=DEADLINE_S, attempts=attempts)
        targets = "".join(TARGET.format(name=name, fault=fault) for name, fault in faults.items())
        (self.home.sites / "north.toml").write_text(text + targets)
        self.plant = Plant(Catalog(self.home), "north", clock=self.clock)
        self.cls = equipment_class_from_contract(self.plant.contract("pump"))
        inputs = self.cls.contract.inputs
        flat = np.ones((1, len(inputs)))
        self.baseline = OperatingBaseline((), inputs, np.empty((1, 0)), np.empty(0), np.ones(1), flat, flat)
        for _ in self.models:
            self._publish()
        return self

    def _publish(self) -> None:
        folder = self.plant.root("on_prem") / "arriving"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"made up")
        (folder / BASELINE).write_text(self.baseline.to_json())
        digests = {"model.onnx": f"sha256:{hashlib.sha256(b'made up').hexdigest()}"}
        (folder / "manifest.json").write_text(json.dumps({"digests": digests, "baseline": self.baseline.id}))
        self.plant.registry("pump").publish(folder, additions={})

    def answers(self, job: Job) -> Mapping[str, Any]:
        """What stands for the model of the release that is asked."""
        version = int(job.input("release").parent.name.removeprefix("v"))
        model, rows = self.models[version], pq.read_table(job.input("features") / score.FEATURES)
        silent = [machine in model.abstains for machine in rows["equipment_id"].to_pylist()]
        rul = pa.array([None if quiet else model.rul for quiet in silent], pa.float64())
        columns = {name: pa.nulls(len(silent), ANSWER_SCHEMA.field(name).type) for name in ANSWER_SCHEMA.names}
        columns |= {"equipment_id": rows["equipment_id"], "ts": rows["ts"], "rul": rul, "rul_low": rul, "rul_high": rul}
        columns["abstained"] = pa.array(["out_of_range" if quiet else None for quiet in silent], pa.string())
        pq.write_table(pa.table(columns, schema=ANSWER_SCHEMA), job.folder / score.PROGNOSES)
        return {"rows": len(silent)}

    def ask(self) -> Answers:
        n = len(MACHINES)
        names = feature_names(self.cls)
        ts = np.full(n, np.datetime64("2025-01-01T12:00", "us"))
        rows = Rows(np.array(MACHINES, dtype=object), np.arange(n), ts, np.zeros(n, np.int64))
        windows = WindowRange("north", ts[0].item().date(), ts[0].item().date())
        self.asked = Asked(windows, Features(rows, names, np.zeros((n, len(names)))), self.baseline.id)
        got: list[Answers] = []

        @dg.asset
        def prognoses(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            got.append(ask_models(context, self.plant, self.cls, self.asked)[0])
            return dg.MaterializeResult()

        dg.materialize([prognoses], instance=shared_instance())
        return got[0]

    @property
    def after_the_first_try_s(self) -> float:
        """How much time passed from the end of the first try on."""
        first = self.plant.works.all()[0].seconds
        assert first is not None
        return self.clock.passed_s - first

    def served(self, answers: Answers) -> dict[str, tuple[int | None, str | None]]:
        """Machine → the release that answered, or the reason why none did."""
        table = prognosis_table(self.cls, self.asked, answers).to_pylist()
        return {row["equipment_id"]: (row["release"], row["abstained"]) for row in table}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(Home(tmp_path / "home").prepare())
    run: Callable[..., None] = partial(run_worker, made.answers)
    monkeypatch.setattr(score, "run", run)
    return made


@pytest.mark.parametrize("attempts", [1, 2, 3, 10])
@pytest.mark.parametrize("fault", ["refuse = 1.0", "hang = 1.0", "wrong = 1.0", "die = 1.0\ndie_after_s = 0"])
def test_over_all_releases_tries_are_bounded_and_end_within_one_deadline(
    bench: Bench, fault: str, attempts: int
) -> None:
    bench.site(dict.fromkeys("abcdefgh", fault), attempts=attempts)
    answers = bench.ask()
    assert set(answers.rung) == {-1}
    tries = bench.plant.works.all()
    assert 1 <= len(tries) <= attempts
    assert {w.state for w in tries} == {"failed"}
    assert bench.after_the_first_try_s <= DEADLINE_S + 1e-6
    assert set(answers.reasons) == {"deadline" if fault.startswith("hang") else "error"}
    assert len(answers.troubles) == 2


def test_where_no_time_is_left_the_release_before_is_not_asked_and_that_is_said(bench: Bench) -> None:
    bench.site(dict.fromkeys("abcde", "hang = 1.0"), attempts=5)
    answers = bench.ask()
    assert [w.seconds for w in bench.plant.works.all()] == [pytest.approx(DEADLINE_S), pytest.approx(DEADLINE_S)]
    assert bench.served(answers) == dict.fromkeys(MACHINES, (None, "deadline"))
    assert answers.troubles[1].startswith("model:v1: It was not asked: those before it took all the time there is.")


class HangsWithTheNewest:
    """A target that is sound, at which the newest release's model never ends."""

    def __init__(self, inner: ComputeTarget, newest: int) -> None:
        self._inner, self._newest = inner, f"v{newest:04d}"

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        if inputs["release"].parent.name == self._newest:
            return "hangs"
        return self._inner.launch(command, env, inputs)

    def poll(self, handle: str) -> TargetStatus:
        return TargetStatus("running") if handle == "hangs" else self._inner.poll(handle)

    def cancel(self, handle: str) -> None:
        if handle != "hangs":
            self._inner.cancel(handle)

    def logs(self, handle: str) -> str:
        return "" if handle == "hangs" else self._inner.logs(handle)


def test_a_release_that_never_ends_opens_its_breaker_and_the_one_before_has_all_the_time_again(bench: Bench) -> None:
    """Until then the one before was not asked for want of time, which is nothing against it."""
    bench.site(dict.fromkeys("ab", "breaker = { minimum = 20 }"))
    for name in "ab":
        bench.plant._targets[name] = HangsWithTheNewest(bench.plant.target(name), 2)
    served = []
    for _ in range(BreakerSettings().minimum + 1):
        served.append(bench.served(bench.ask())["p1"])
        bench.clock.passed_s += 4000 if len(served) < BreakerSettings().minimum else 1
        bench.plant.dispatcher.blocks.lift(target="a")
    assert served == [(None, "deadline")] * BreakerSettings().minimum + [(1, None)]


def test_an_error_at_the_end_of_the_time_is_lateness_too(bench: Bench) -> None:
    """The newest release errs; the one before has the rest of the deadline, and is late in it."""
    bench.models[2] = Model(rul=-1)
    bench.site({"a": hangs_at(1), "b": hangs_at(1)})
    answers = bench.ask()
    assert [w.state for w in bench.plant.works.all()] == ["succeeded", "failed"]
    assert bench.served(answers) == dict.fromkeys(MACHINES, (None, "deadline"))
    assert "the deadline passed" in answers.troubles[1]
    assert bench.after_the_first_try_s == pytest.approx(DEADLINE_S)


def test_what_is_left_is_enough_for_the_release_before_to_answer(bench: Bench) -> None:
    bench.models[2] = Model(rul=-1)
    bench.site({"a": "refuse = 1.0", "b": ""})
    answers = bench.ask()
    assert bench.served(answers) == dict.fromkeys(MACHINES, (1, None))
    assert set(answers.reasons) == {"error"}, "of the newest one"
    assert [w.target for w in bench.plant.works.all()] == ["a", "b", "b"]


def test_a_release_that_abstains_leaves_the_one_before_the_rest_of_the_tries_and_one_deadline(bench: Bench) -> None:
    bench.models[2] = Model(abstains=["p2"])
    bench.site({"a": hangs_at(1)})
    answers = bench.ask()
    assert bench.served(answers) == {"p1": (2, None), "p2": (None, "deadline"), "p3": (2, None)}
    assert bench.after_the_first_try_s == pytest.approx(DEADLINE_S)


def test_without_tries_left_what_could_still_be_answered_is_asked_again_later(bench: Bench) -> None:
    bench.models[2] = Model(abstains=["p2"])
    bench.site({"a": ""}, attempts=1)
    answers = bench.ask()
    assert len(bench.plant.works.all()) == 1
    assert bench.served(answers) == {"p1": (2, None), "p2": (None, "error"), "p3": (2, None)}
    assert "error" not in INHERENT
    assert "It was not asked: those before it made all 1 tries." in answers.troubles[0]


def test_rows_that_both_releases_abstain_from_are_nobodys_to_mend(bench: Bench) -> None:
    bench.models = {1: Model(abstains=["p2"]), 2: Model(abstains=["p2", "p3"])}
    bench.site({"a": ""})
    assert bench.served(bench.ask()) == {"p1": (2, None), "p2": (None, "out_of_range"), "p3": (1, None)}
