"""The stage of a rehearsal: the plant's own configuration in a home of its own, with a simulated clock and fleet."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbone.conduit import Crossing
from backbone.errors import StoreBusy
from backbone.sites import Fleet, Site
from backbone.sources import Source, Stream
from backbone.targets import ComputeTarget
from chaos.clock import ChaosClock
from chaos.mischief import Ambushes, HeldDatabase, ModelFiles, WorkerKilled
from chaos.scenario import PlannedFault, Scenario
from chaos.targets import StagedTarget, staged_target
from chaos.telemetry import Line, SpoiltSource
from resources.bindings.plants import Plants
from resources.dispatch import Dispatcher, Try
from resources.home import Home
from resources.landing import Landing
from resources.plant import Catalog, Plant
from resources.state.answers import Answers
from resources.state.breakers import Breakers
from resources.state.database import Database
from resources.state.plant_state import State
from resources.state.works import Blocks
from resources.stores.answers import AnswerTable
from resources.stores.tables import WindowTable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

    from quality.data_docs import Page
    from quality.requests import Batch
    from quality.warm import Validated
    from resources.state.outbox import Outbox

EQUIPMENT_CLASS = "pump"
FIRST_DAY = date(2025, 1, 1)
HISTORY_DAYS = 32
"""Days of telemetry the plant is commissioned with: enough failures to learn from."""
_FLEET = {"seed": 2, "pumps": 8, "readings_per_day": 4, "mean_life_days": 7.0}
_STEP_S = 3600.0
_DATABASE_WAIT_S = 0.01
"""A rehearsal's database is held by this very process: nobody lets go of it while somebody waits."""


class StagedHome(Home):
    """A home whose state is its own, whatever the environment says: a rehearsal must not write to the plant's."""

    @property
    def state_url(self) -> str:
        return f"sqlite:///{self.root / 'state.db'}"


def staged_site(site: Site, days: int) -> Site:
    """The plant with its own locations, targets and workloads, but a few simulated pumps for its fleet, and no gateway:
    that one is rehearsed on its own, see `chaos.floor`."""
    return replace(
        site,
        first_day=FIRST_DAY,
        last_day=FIRST_DAY + timedelta(days=HISTORY_DAYS + days - 1),
        day_s=None,
        fleets=(Fleet(EQUIPMENT_CLASS, "simulator", _FLEET),),
        gateway={},
        locations=tuple(replace(location, store=None) for location in site.locations),
    )


class StagedCatalog(Catalog):
    """The contracts of a home, and the one plant that is rehearsed."""

    def __init__(self, home: Home, site: Site) -> None:
        super().__init__(home)
        self._site = site

    @cached_property
    def sites(self) -> dict[str, Site]:
        self._check(self._site)
        return {self._site.name: self._site}


class Stage:
    """What the plant of a rehearsal stands on.

    Attributes:
        under_way: a run is being executed, so that what befalls runs may befall it.
        calm: no fault befalls anybody.
        dead: its process was killed: nothing more of it reaches the state database.
        struck: fault kind → how often one befell somebody.
        failures: when, in seconds, work of the run under way was known to have failed.
    """

    def __init__(self, home: Home, site: Site, scenario: Scenario) -> None:
        self.home, self.site, self.scenario = StagedHome(home.root), staged_site(site, scenario.days), scenario
        self.clock = ChaosClock(datetime.combine(FIRST_DAY + timedelta(days=HISTORY_DAYS), time(), UTC), self.point)
        self.catalog = StagedCatalog(self.home, self.site)
        self.struck: Counter[str] = Counter()
        self.under_way = self.dead = self.calm = False
        self.failures: list[float] = []
        self.ambushes = Ambushes(scenario, self.struck)
        self.held = HeldDatabase(self.home.root / "state.db")
        self._targets: dict[str, StagedTarget] = {}
        self._spans = [(fault.start_s, fault.end_s, fault) for fault in scenario.faults]
        self._lasting: list[PlannedFault] = []
        self._changes_s = float("-inf")
        self.line = Line(self.clock.start.date(), self.active, lambda: self.now_s, self.rng, self._spoilt)
        self.opened: list[StagedPlant] = []
        self.read_logs: dict[Any, list[tuple[date, int]]] = {}

    @property
    def now_s(self) -> float:
        return self.clock.passed_s

    @property
    def told(self) -> Path:
        """The file that takes the events of lineage."""
        return self.home.root / "lineage" / "events.ndjson"

    def active(self, *kinds: str) -> list[PlannedFault]:
        """The faults of these kinds that last now."""
        if self.now_s >= self._changes_s:
            self._look()
        return [] if self.calm else [f for f in self._lasting if f.kind in kinds]

    @property
    def changes_s(self) -> float:
        """When the next fault begins or ends."""
        if self.now_s >= self._changes_s:
            self._look()
        return self._changes_s

    def _look(self) -> None:
        now = self.now_s
        self._lasting = [fault for start, end, fault in self._spans if start <= now < end]
        edges = (edge for start, end, _ in self._spans for edge in (start, end) if edge > now)
        self._changes_s = min(edges, default=float("inf"))
        steps = [f.seconds or _STEP_S for f in self._lasting if f.kind == "clock_step"]
        self.struck["clock_step"] += sum(steps) != self.clock.steps_s
        self.clock.steps_s = 0.0 if self.calm else sum(steps)

    def _spoilt(self, fault: PlannedFault) -> None:
        self.struck[fault.kind] += 1

    def point(self) -> None:
        """A step of whatever runs; the place where it may be killed, or find the state database held."""
        if self.under_way and self.dead:
            raise WorkerKilled  # Dagster would go on with the next step; a dead process does not
        if self.under_way and not self.calm:
            for fault in self.ambushes.sprung(self.now_s):
                if fault.kind == "state_locked":
                    self.held.until(self.now_s + fault.minutes * 60)
                else:
                    self.dead = True
                    raise WorkerKilled
        self.held.let_go(self.now_s)
        if self.now_s >= self._changes_s:
            self._look()

    @contextmanager
    def run(self) -> Iterator[None]:
        """A run in a process of its own."""
        self.under_way, self.dead, self.failures = True, False, []
        try:
            yield
        finally:
            # What a process does when it ends; one that was killed does not, and is not to do it later.
            for plant in self.opened:
                if "breakers" in plant.__dict__:
                    with contextlib.suppress(WorkerKilled):
                        if not self.dead:
                            plant.breakers.flush()
                    plant.breakers._known.clear()
            self.under_way = self.dead = False
            self.close()

    def close(self) -> None:
        """Let go of what was opened; the next one to ask gets everything anew, as a new process would."""
        self.opened.clear()

    def plant(self) -> StagedPlant:
        opened = StagedPlant(self)
        self.opened.append(opened)
        return opened

    def target(self, plant: Plant, name: str) -> ComputeTarget:
        if name not in self._targets:
            self._targets[name] = staged_target(self, plant, name)
        return self._targets[name]

    @cached_property
    def shared(self) -> Database:
        """The state database, as every process of the plant reaches it."""
        return Database(self.home.state_url, wait_s=_DATABASE_WAIT_S)

    @cached_property
    def models(self) -> ModelFiles:
        return ModelFiles(self._newest_release, self.home.root / "kept")

    def _newest_release(self) -> Path | None:
        site = self.site
        root = self.home.store(site.at("on_prem").name) / EQUIPMENT_CLASS / "registry" / site.name
        return max(root.glob("v[0-9]*"), default=None)

    def rng(self, *what: object) -> random.Random:
        """Draws that depend on the scenario's seed and on what they are for, and on nothing before them."""
        return random.Random(":".join(map(str, (self.scenario.seed, *what))))  # noqa: S311 - faults need no secrecy


class StagedPlant(Plant):
    """The plant as one process of it would open it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.catalog, stage.site.name, clock=stage.clock)
        self._stage = stage

    @cached_property
    def database(self) -> Database:
        return _StagedDatabase(self._stage)

    @property
    def state(self) -> State:
        self._stage.point()
        return State(self.database)

    @cached_property
    def breakers(self) -> Breakers:
        breakers = Breakers(self.database, self.clock, wait_s=_DATABASE_WAIT_S)
        breakers._store._database = self.database
        return breakers

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return _Witnessed(self, self._stage)

    def target(self, name: str) -> ComputeTarget:
        return self._stage.target(self, name)

    def source(self, equipment_class: str) -> Source:
        return SpoiltSource(super().source(equipment_class), self._stage.line)

    def landing(self, equipment_class: str) -> Landing:
        return _Landing(super().landing(equipment_class), self._stage.read_logs)

    def table(self, equipment_class: str, name: str) -> WindowTable:
        self._stage.point()
        return super().table(equipment_class, name)

    def advisories(self, equipment_class: str) -> AnswerTable:
        self._stage.point()
        return super().advisories(equipment_class)

    def answers(self, equipment_class: str) -> Answers:
        self._stage.point()
        return super().answers(equipment_class)


class _Landing(Landing):
    """The plant's landing; a log that has not changed is not read again, as days pass in seconds here."""

    def __init__(self, real: Landing, read: dict[Any, list[tuple[date, int]]]) -> None:
        self.__dict__ |= real.__dict__
        self._read = read

    def _adds(self, stream: Stream) -> list[tuple[date, int]]:
        log = self._path / stream / "_delta_log"
        key = (stream, len(list(log.iterdir())) if log.is_dir() else 0)
        if key not in self._read:
            self._read[key] = super()._adds(stream)
        return self._read[key]


class _StagedDatabase(Database):
    """The state database of one process of the plant: once that was killed, it writes no more."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.home.state_url, wait_s=_DATABASE_WAIT_S)
        self._stage = stage
        self._made = stage.shared._made

    @cached_property
    def engine(self) -> Engine:
        # One for all: what is known of connections and statements is no part of what a process can lose.
        return self._stage.shared.engine

    @contextmanager
    def writing(self, *tables: Table, alone: str | None = None) -> Iterator[Connection]:
        if self._stage.dead:
            raise WorkerKilled
        try:
            with super().writing(*tables, alone=alone) as connection:
                yield connection
        except StoreBusy:
            if self._stage.held.held:
                self._stage.struck["state_locked"] += 1
            raise


class _Witnessed(Dispatcher):
    """The plant's dispatcher; when work was known to have failed is written down."""

    def __init__(self, plant: StagedPlant, stage: Stage) -> None:
        blocks = Blocks(plant.database, plant.site.name)
        super().__init__(plant.site, plant.works, blocks, plant.breakers, plant.clock)
        self._stage = stage

    def failed(self, attempt: Try, why: str, crossings: Sequence[Crossing], *, targets_fault: bool) -> None:
        self._stage.failures.append(self._stage.now_s)
        super().failed(attempt, why, crossings, targets_fault=targets_fault)


@dataclass
class _Stages:
    """Dagster makes a resource anew for each run, from its settings; so the stage is found by its home."""

    by_home: dict[str, Stage] = field(default_factory=dict)


_STAGES = _Stages()


class ChaosPlants(Plants):
    """The plants of a rehearsal: the one on the stage of this home."""

    @cached_property
    def catalog(self) -> Catalog:
        return self._stage.catalog

    @property
    def clock(self) -> ChaosClock:
        return self._stage.clock

    @property
    def _stage(self) -> Stage:
        return _STAGES.by_home[self.home]

    def plant(self, site: str) -> Plant:
        self._stage.point()
        if site not in self._opened:
            self._opened[site] = self._stage.plant()
        return self._opened[site]


@contextmanager
def on_stage(stage: Stage) -> Iterator[ChaosPlants]:
    """The plants of a stage, for as long as it stands."""
    home = str(stage.home.root)
    _STAGES.by_home[home] = stage
    try:
        with _without_pictures(), _judged_here(), _told_here(stage):
            yield ChaosPlants(home=home)
    finally:
        stage.held.let_go(float("inf"))
        stage.close()
        if "shared" in stage.__dict__:
            stage.shared.engine.dispose()
        del _STAGES.by_home[home]


@contextmanager
def _put(*places: tuple[Any, str, Any]) -> Iterator[None]:
    """Put something in the place of (module, name) for a while."""
    before = [(module, name, getattr(module, name)) for module, name, _ in places]
    try:
        for module, name, value in places:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _without_pictures() -> contextlib.AbstractContextManager[None]:
    """No pictures are drawn: nobody looks at them, and they take a third of a run's time."""
    from hybrid_assets import pictures

    return _put((pictures, "_png", lambda *_, **__: b""))


def _judged_here() -> contextlib.AbstractContextManager[None]:
    """Windows are judged in this process: a worker costs the same import once more, and would have to be ended."""
    from quality import evaluations

    return _put((evaluations, "WarmValidator", _Validator))


class _Validator:
    """See `quality.judgement.Validator`. Pages of Data Docs are not written: nobody looks at them."""

    def __init__(self, folder: Path) -> None:
        del folder

    def validate(self, batches: Sequence[Batch]) -> Validated:
        from quality.validation import validate
        from quality.warm import Validated

        return Validated(validate(batches), "own process")

    def render(self, pages: Sequence[Page]) -> None:
        pass


def _told_here(stage: Stage) -> contextlib.AbstractContextManager[None]:
    """Lineage goes to the file of this home, whatever the environment says: a rehearsal is nothing to tell a backend.

    Its outbox is reached as the rest of the state database is, and waits for nobody where that is held.
    """
    from resources.bindings import lineage_relay
    from resources.lineage.index import LineageIndex
    from resources.lineage.transports import Destination, NdjsonFile
    from resources.state.outbox import Outbox
    from sensors import lineage

    def outbox(_: Plants) -> Outbox:
        database = _StagedDatabase(stage)
        return Outbox(database, LineageIndex(database))

    to = Destination(NdjsonFile(stage.told))
    return _put((lineage, "_destination", lambda _: to), (lineage_relay, "outbox_of", outbox))


def prepare_home(root: Path, contracts: Path) -> Home:
    """A home for a rehearsal, with the contracts of the user's own."""
    home = StagedHome(root)
    home.prepare()
    if contracts.is_dir():
        shutil.copytree(contracts, home.contracts, dirs_exist_ok=True)
    return home
