"""The model's rungs of the fallback chain: the newest release, then the one before, each asked where it is placed."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backbone.conduit import StorePath
from backbone.errors import IntegrityError, NotCommissioned
from backbone.fallback import Answers, FallbackChain, Guarded, Rung, RungAnswer, Unanswered, reason_of
from backbone.reasons import DEADLINE, ERROR, INHERENT
from backbone.windows import WindowRange
from hybrid_assets.feature_tables import features_to_arrow
from hybrid_assets.features import window_features
from hybrid_assets.prognosis_tables import answer_schema, days, prognosis_schema, risk_columns, texts, who
from hybrid_assets.workers.score import FEATURES, PROGNOSES
from hybrid_assets.workers.training_files import BASELINE, CONTRACT
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass
from maintenance.features import Features
from maintenance.question import question_spec
from resources.bindings.placed_work import Budget, Parcel, Placed, run_placed
from resources.plant import Plant
from resources.registry.releases import Release
from resources.stores.tables import DATE

SCORING = "scoring"
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked: one row a machine and window, and the baseline its features were taken against."""

    windows: WindowRange
    features: Features
    baseline: str | None


def ask_models(
    context: dg.AssetExecutionContext, plant: Plant, cls: EquipmentClass, asked: Asked
) -> tuple[Answers, Sequence[Placed]]:
    """Ask the releases of a fleet, the newest first; also the work that was done for it.

    All of them share one budget: as many tries as scoring may take, and one deadline from the end of the first try on.
    """
    placed: list[Placed] = []
    rungs: list[Rung] = []
    shared = _Shared(Budget(plant, SCORING))
    for version, found in plant.registry(cls.name).ladder():
        if isinstance(found, IntegrityError):
            rungs.append(_Refused(f"model:v{version}", found))
            continue
        breaker = plant.model_breaker(cls.name, version)
        model = _PlacedModel(context, plant, cls, asked, found, placed, shared.budget)
        rungs.append(_WhileItLasts(Guarded(model, breaker, plant.clock.monotonic), shared))
    if not rungs:
        rungs.append(_Refused("model", NotCommissioned("There is no release.", next_step="The rules serve.")))
    return shared.told(FallbackChain(rungs).answer(len(asked.features))), placed


def prognosis_table(cls: EquipmentClass, asked: Asked, answers: Answers) -> pa.Table:
    """Every row's answer in `prognosis_schema`: that of the release that gave one, or the reason why none did."""
    rows, schema = asked.features.rows, prognosis_schema(cls)
    n = len(rows.ts)
    columns: dict[str, Any] = {name: np.full(n, None, dtype=object) for name in schema.names}
    for part in answers.parts:
        at = part.rows[part.answered]
        for name in answer_schema(cls).names[2:]:
            columns[name][at] = texts(part.values.table, name)[part.answered]
        columns["release"][at] = part.values.version
        columns["location"][at] = part.values.location
    nobody = answers.rung < 0
    columns["abstained"][nobody] = answers.reasons[nobody]
    columns["passed_over"][~nobody] = answers.reasons[~nobody]
    columns |= {**who(rows), DATE: days(rows)}
    arrays = {
        f.name: columns[f.name] if isinstance(columns[f.name], pa.Array) else pa.array(columns[f.name].tolist(), f.type)
        for f in schema
    }
    return pa.table(arrays, schema=schema)


@dataclass(frozen=True, slots=True)
class _Answered:
    version: int
    location: str
    table: pa.Table


@dataclass(frozen=True, slots=True)
class _Refused:
    """A release that is not to be asked, or none at all."""

    name: str
    why: Exception

    def answer(self, rows: np.ndarray) -> RungAnswer:  # noqa: ARG002 - the port's
        raise self.why


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the releases share, and why any of them had too little of it."""

    budget: Budget
    lacked: list[str] = field(default_factory=list)

    def told(self, answers: Answers) -> Answers:
        """Rows that nobody answered also say where that was for want of time, or of tries.

        The newest release's own reason may lie in the readings; but the one before was never asked, or not to its end.
        """
        nobody, reasons = answers.rung < 0, answers.reasons.copy()
        if DEADLINE in self.lacked:
            reasons[nobody] = DEADLINE
        elif self.lacked:
            reasons[nobody & np.isin(reasons, list(INHERENT))] = ERROR
        return replace(answers, reasons=reasons)


@dataclass(frozen=True, slots=True)
class _WhileItLasts:
    """A release that is asked with what those before it have left of the budget; its breaker learns nothing of that."""

    rung: Rung
    shared: _Shared

    @property
    def name(self) -> str:
        return self.rung.name

    def answer(self, rows: np.ndarray) -> RungAnswer:
        """See `backbone.fallback.Rung.answer`."""
        budget, lacked = self.shared.budget, self.shared.lacked
        not_the_first = budget.counts_down
        if not budget.in_time:
            lacked.append(DEADLINE)
            raise Unanswered(DEADLINE, "It was not asked: those before it took all the time there is.")
        if not budget.tries_left:
            lacked.append(ERROR)
            raise Unanswered(ERROR, f"It was not asked: those before it made all {budget.most} tries.")
        try:
            answer = self.rung.answer(rows)
        except Exception as error:
            if not_the_first and reason_of(error) == DEADLINE:
                lacked.append(DEADLINE)
            budget.goes_on()
            raise
        if answer.reasons is not None:
            budget.goes_on()
        return answer


@dataclass(frozen=True)
class _PlacedModel:
    """A release, asked wherever scoring is placed."""

    context: dg.AssetExecutionContext
    plant: Plant
    cls: EquipmentClass
    asked: Asked
    release: Release
    done: list[Placed]
    budget: Budget

    @property
    def name(self) -> str:
        return f"model:{self.release.name}"

    def answer(self, rows: np.ndarray) -> RungAnswer:
        """See `backbone.fallback.Rung.answer`."""
        plant, premises = self.plant, self.plant.site.at("on_prem").name
        features = self._features.take(rows)
        here = f"{self.cls.name}/scoring/{plant.site.name}/{self.release.name}"
        self._pack(features, here)
        placed = run_placed(
            self.context,
            plant,
            self.cls.name,
            SCORING,
            ["{python}", "-m", "hybrid_assets.workers.score"],
            parcels={
                "features": Parcel(f"{self.cls.name}/condition_features", StorePath(premises, here)),
                "release": Parcel(f"{self.cls.name}/model_release", self._bundle),
            },
            extras={},
            budget=self.budget,
        )
        self.done.append(placed)
        table = plant.fetch(
            f"{self.cls.name}/prognoses", placed.folder, PROGNOSES, run_id=self.context.run.run_id, discard=True
        )
        self._check(features, table)
        reasons = texts(table, "abstained")
        silent = bool((reasons == None).all())  # noqa: E711 - elementwise
        return RungAnswer(_Answered(self.release.version, placed.location, table), None if silent else reasons)

    @cached_property
    def _features(self) -> Features:
        """The rows asked about, against this release's own baseline."""
        text = (self.release.bundle / BASELINE).read_text(encoding="utf-8")
        baseline = OperatingBaseline.from_json(text)
        if baseline.id == self.asked.baseline:
            return self.asked.features
        return window_features(self.plant, self.cls, baseline, self.asked.windows, rows=self.asked.features.rows)

    @property
    def _bundle(self) -> StorePath:
        premises = self.plant.site.at("on_prem").name
        root = self.plant.store(premises).resolve()
        return StorePath(premises, self.release.bundle.resolve().relative_to(root).as_posix())

    def _pack(self, features: Features, here: str) -> None:
        folder = self.plant.root("on_prem") / here
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(features_to_arrow(features, self.release.manifest["baseline"]), folder / FEATURES)
        shutil.copyfile(self.plant.catalog.contract_file(self.cls.name), folder / CONTRACT)

    def _check(self, features: Features, table: pa.Table) -> None:
        """An answer is for the rows that were asked about, and is one that there can be."""
        mine = who(features.rows)
        if not all(table[name].combine_chunks().equals(mine[name]) for name in mine):
            raise _WrongAnswer(self.name, "it is not about the machines that were asked about")
        given = table.filter(pc.is_null(table["abstained"]))
        risk = risk_columns(self.cls)[:1]
        answer, *interval = (
            given[n].to_numpy(zero_copy_only=False).astype(float) for n in (risk or ("rul", "rul_low", "rul_high"))
        )
        top = question_spec(self.cls).top(self.cls.rul.cap)
        sound = (answer >= 0) & (answer <= top + _TOLERANCE)
        if interval:
            low, high = interval
            sound &= (low <= answer + _TOLERANCE) & (answer <= high + _TOLERANCE)
        if not sound.all():
            raise _WrongAnswer(self.name, f"{int((~sound).sum())} of its prognoses cannot be")


class _WrongAnswer(RuntimeError):
    def __init__(self, who: str, why: str) -> None:
        super().__init__(f"{who} answered wrongly: {why}.")
