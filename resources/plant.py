"""One plant's adapters, composed from its site file: stores, landing, conduit, registry, source, targets."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbone import plugins
from backbone.clock import Clock
from backbone.contracts import Contract
from backbone.errors import UnknownName
from backbone.requirements import LocationKind
from backbone.sites import Site
from backbone.windows import PlantState
from resources import sources, targets
from resources.catalog.contracts import SHIPPED as SHIPPED_CONTRACTS
from resources.catalog.contracts import read_contract_files
from resources.catalog.sites import SHIPPED as SHIPPED_SITES
from resources.catalog.sites import read_sites
from resources.clock import SystemClock
from resources.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

    from backbone.conduit import StorePath
    from backbone.sources import Source, SourceContext, SourceSpec, Stream
    from backbone.targets import ComputeTarget, TargetSpec
    from resources.conduit import RecordingConduit
    from resources.dead_letters import DeadLetters
    from resources.dispatch import Dispatcher
    from resources.landing import Landing
    from resources.registry.releases import ReleaseRegistry
    from resources.state.answers import Answers
    from resources.state.breakers import Breakers, SharedBreaker
    from resources.state.database import Database
    from resources.state.plant_state import State
    from resources.state.verdicts import Verdicts
    from resources.state.works import Works
    from resources.stores.answers import AnswerTable
    from resources.stores.documents import DocumentStore
    from resources.stores.tables import WindowTable

MAINTENANCE = "maintenance"
"""Name of the contract that maintenance events hold, whatever the class."""


class Catalog:
    """Every contract and every plant this installation knows."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @cached_property
    def contracts(self) -> dict[str, Contract]:
        return {contract.name: contract for contract in self._contract_files.values()}

    @cached_property
    def _contract_files(self) -> dict[Path, Contract]:
        return read_contract_files([SHIPPED_CONTRACTS, self.home.contracts], marks=self.home.sound_contracts)

    @cached_property
    def classes(self) -> list[str]:
        """Names of the contracts that telemetry may hold: those of equipment classes."""
        return [contract.name for contract in self.contracts.values() if contract.product == "telemetry"]

    def contract_file(self, name: str) -> Path:
        """The file a contract was read from."""
        return next(path for path, contract in self._contract_files.items() if contract.name == name)

    @cached_property
    def sites(self) -> dict[str, Site]:
        """Checked against the plug-ins and classes that exist, so that a wrong name fails here, not in a run."""
        sites = read_sites([SHIPPED_SITES, self.home.sites], anchor=self.home.since)
        for site in sites.values():
            self._check(site)
        return sites

    def site(self, name: str) -> Site:
        if name not in self.sites:
            raise UnknownName("site", name, self.sites, next_step=f"Add one as {self.home.sites}/{name}.toml.")
        return self.sites[name]

    def with_class(self, equipment_class: str) -> list[Site]:
        return [s for s in self.sites.values() if equipment_class in s.classes]

    def _check(self, site: Site) -> None:
        for fleet in site.fleets:
            if fleet.equipment_class not in self.classes:
                raise UnknownName(
                    f"equipment class (site {site.name})",
                    fleet.equipment_class,
                    self.classes,
                    next_step=f"Add {self.home.contracts}/{fleet.equipment_class}.odcs.yaml.",
                )
            if fleet.source not in plugins.names(sources):
                raise UnknownName(f"source (site {site.name})", fleet.source, plugins.names(sources))


class Plant:
    """A site with its adapters. Nothing is opened before it is asked for, nor imported: definitions open none."""

    def __init__(self, catalog: Catalog, site: str, *, clock: Clock | None = None) -> None:
        self.catalog, self.site, self.clock = catalog, catalog.site(site), clock or SystemClock()
        self._targets: dict[str, ComputeTarget] = {}

    @cached_property
    def database(self) -> Database:
        from resources.state.database import Database

        return Database(self.catalog.home.state_url)

    @cached_property
    def state(self) -> State:
        from resources.state.plant_state import State

        return State(self.database)

    @cached_property
    def works(self) -> Works:
        from resources.state.works import Works

        return Works(self.database, self.site.name)

    @cached_property
    def breakers(self) -> Breakers:
        from resources.state.breakers import Breakers

        return Breakers(self.database, self.clock)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        from resources.dispatch import Dispatcher
        from resources.state.works import Blocks

        blocks = Blocks(self.database, self.site.name)
        return Dispatcher(self.site, self.works, blocks, self.breakers, self.clock)

    def model_breaker(self, equipment_class: str, version: int) -> SharedBreaker:
        """The circuit breaker of a release: one that takes more than half of the time there is counts as failing."""
        from backbone.breaker import BreakerSettings

        deadline_s = self.site.workloads["scoring"][0].requirements.deadline_s
        settings = BreakerSettings()
        if deadline_s is not None:
            settings = BreakerSettings(slow_s=deadline_s / 2, probe_lease_s=deadline_s * 2)
        return self.breakers.breaker(f"model/{self.site.name}/{equipment_class}/v{version}", settings)

    def answers(self, equipment_class: str) -> Answers:
        """How the windows of a fleet stand answered."""
        from resources.state.answers import Answers

        return Answers(self.database, self.site.name, equipment_class)

    def verdicts(self, equipment_class: str) -> Verdicts:
        """What the checks of a fleet's windows found."""
        from resources.state.verdicts import Verdicts

        return Verdicts(self.database, self.site.name, equipment_class)

    @cached_property
    def conduit(self) -> RecordingConduit:
        from resources.conduit import RecordingConduit

        return RecordingConduit(self.store, self.state, now=self.clock.now)

    def store(self, location: str) -> Path:
        """Root of a location's store."""
        configured = self.site.location(location).store
        return Path(configured) if configured else self.catalog.home.store(location)

    def root(self, kind: LocationKind) -> Path:
        return self.store(self.site.at(kind).name)

    def fetch(self, what: str, folder: StorePath, name: str, *, run_id: str, discard: bool = False) -> pa.Table:
        """A Parquet table that placed work left in its folder, brought to the premises where it is not there.

        Args:
            discard: the folder is not needed any more.
        """
        import pyarrow.parquet as pq

        from backbone.conduit import StorePath

        premises = self.site.at("on_prem").name
        at, arrived = StorePath(folder.location, f"{folder.path}/{name}"), None
        try:
            if folder.location == premises:
                return pq.read_table(self.store(premises) / at.path)
            arrived = StorePath(premises, f"arrivals/{run_id}-{folder.path.rpartition('/')[2]}-{name}")
            self.conduit.carry(what, at, arrived, run_id=run_id)
            return pq.read_table(self.store(premises) / arrived.path)
        finally:
            if arrived is not None:
                (self.store(premises) / arrived.path).unlink(missing_ok=True)
            if discard:
                shutil.rmtree(self.store(folder.location) / folder.path, ignore_errors=True)

    def contract(self, equipment_class: str) -> Contract:
        return self.catalog.contracts[equipment_class]

    def table(self, equipment_class: str, name: str) -> WindowTable:
        """A table in the on-premises store."""
        from resources.stores.tables import WindowTable

        return WindowTable(self.root("on_prem") / equipment_class / name)

    def advisories(self, equipment_class: str) -> AnswerTable:
        """Every advisory that was ever given, in the on-premises store."""
        from resources.stores.answers import AnswerTable

        return AnswerTable(self.root("on_prem") / equipment_class / "advisories")

    def landing(self, equipment_class: str) -> Landing:
        from resources.landing import Landing

        path = self.root("edge") / equipment_class / "landing" / self.site.name
        contracts: Mapping[Stream, Contract] = {
            "telemetry": self.contract(equipment_class),
            "maintenance": self.catalog.contracts[MAINTENANCE],
        }
        return Landing(path, self.site.name, contracts, self.site.first_day, self.site.last_day)

    def dead_letters(self) -> DeadLetters:
        """What the site's gateways could not use, all of theirs in one table at the edge."""
        from resources.dead_letters import NAME, DeadLetters

        return DeadLetters(self.root("edge") / "gateway" / self.site.name / NAME)

    def delta_tables(self) -> dict[str, Path]:
        """Every Delta table that there is of the site's fleets, by location and place. Those on the premises hold what
        other sites have of the class as well."""
        at = {kind: (self.site.at(kind).name, self.root(kind)) for kind in ("edge", "on_prem")}
        edge, premises = at["edge"], at["on_prem"]
        places = [(*edge, self.dead_letters().path)]
        for fleet in self.site.fleets:
            landing = edge[1] / fleet.equipment_class / "landing" / self.site.name
            places += [(*edge, path) for path in sorted(landing.glob("*"))]
            places += [(*premises, path) for path in sorted((premises[1] / fleet.equipment_class).glob("*"))]
        return {
            f"{location}/{path.relative_to(root).as_posix()}": path
            for location, root, path in places
            if (path / "_delta_log").is_dir()
        }

    def registry(self, equipment_class: str) -> ReleaseRegistry:
        from resources.registry.releases import ReleaseRegistry
        from resources.registry.signing import Signer

        root = self.root("on_prem") / equipment_class / "registry" / self.site.name
        return ReleaseRegistry(root, Signer(self.catalog.home.keys))

    def source(self, equipment_class: str) -> Source:
        """Opens the fleet's source; raises `ConfigurationError` where its settings are wrong."""
        fleet = self.site.fleet(equipment_class)
        spec: SourceSpec = plugins.load(sources, fleet.source)
        return spec.open(self.source_context(equipment_class, fleet.settings))

    def source_context(self, equipment_class: str, settings: Mapping[str, Any]) -> SourceContext:
        """What a source of a fleet may know, with settings of its own."""
        from backbone.sources import SourceContext

        return SourceContext(
            site=self.site.name,
            telemetry=self.contract(equipment_class),
            maintenance=self.catalog.contracts[MAINTENANCE],
            first_day=self.site.first_day,
            last_day=self.site.last_day,
            drop_folder=self.catalog.home.drop_folder(self.site.name, equipment_class),
            settings=settings,
        )

    def target(self, name: str) -> ComputeTarget:
        """Opens a compute target, once."""
        from backbone.targets import TargetContext

        if name not in self._targets:
            config = self.site.target(name)

            def opened(kind: str, settings: Mapping[str, Any]) -> ComputeTarget:
                spec: TargetSpec = plugins.load(targets, kind)
                return spec.open(TargetContext(name, self.store(config.location), self.clock, settings, opened))

            self._targets[name] = opened(config.kind, config.settings)
        return self._targets[name]

    def baselines(self, equipment_class: str) -> DocumentStore:
        """The fleet's operating baselines, by their ids."""
        return self._documents(equipment_class, "operating_baseline")

    def candidates(self, equipment_class: str) -> DocumentStore:
        """What each training reported, by its run."""
        return self._documents(equipment_class, "trained_model")

    def evaluations(self, equipment_class: str) -> DocumentStore:
        """How each trained model was judged, by the run that trained it."""
        return self._documents(equipment_class, "model_evaluation")

    def _documents(self, equipment_class: str, name: str) -> DocumentStore:
        from resources.stores.documents import DocumentStore

        return DocumentStore(self.root("on_prem") / equipment_class / name / self.site.name)

    def progress(self, equipment_class: str) -> PlantState:
        """How far a fleet has come, from the landing's log and the shared state."""
        records = self.state.windows(self.site.name, equipment_class)
        return PlantState(
            landed=self.landing(equipment_class).fingerprints(),
            ingested={r.day: r.ingested for r in records if r.ingested},
            served={r.day: r.served for r in records if r.served},
            commissioned=self.baselines(equipment_class).current() is not None,
            blocked=frozenset(self.verdicts(equipment_class).blocked()),
            omissions=self.state.omissions(self.site.name, equipment_class),
        )
