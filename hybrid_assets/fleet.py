"""What every asset of a class shares: its settings, its sites, its partitions and its keys."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple

import dagster as dg

from backbone.contracts import Contract
from backbone.requirements import LocationKind, Requirements
from backbone.sites import Site
from backbone.windows import WindowRange
from hybrid_assets.column_lineage import column_lineage
from hybrid_assets.metadata import column_schema
from hybrid_assets.versions import with_versions
from maintenance.data_products import contracts_of
from maintenance.equipment_class import EquipmentClass
from resources.bindings.asset_metadata import CLASSIFICATION, COLUMN_LINEAGE, CONTRACT, WORKLOAD
from resources.bindings.partitions import EPOCH, STEP, by_site, by_window, window_key, windows_of
from resources.bindings.plants import Plants
from resources.plant import Plant

CODE_VERSION = "1"


class Attempt(NamedTuple):
    """A run's windows, and the number of this attempt at them: of two answers, that of the later epoch holds."""

    plant: Plant
    windows: WindowRange
    epoch: int


@dataclass(frozen=True)
class Fleet:
    """The assets' view of one equipment class and of every site that has it."""

    equipment_class: EquipmentClass
    sites: tuple[Site, ...]
    known_contracts: Mapping[str, Contract] = field(default_factory=dict)
    """Every contract of the installation, by name."""

    @property
    def name(self) -> str:
        return self.equipment_class.name

    @cached_property
    def contracts(self) -> Mapping[str, Contract]:
        """Asset name → its contract, with the class's columns in it."""
        return contracts_of(self.equipment_class, self.known_contracts)

    @cached_property
    def held_contracts(self) -> Mapping[str, Contract]:
        """`contracts` of the assets that there are: where no site has a gateway, nobody counts dead letters."""
        without = () if self.sites_with_gateway else ("dead_letters",)
        return {name: contract for name, contract in self.contracts.items() if name not in without}

    @cached_property
    def sites_with_gateway(self) -> tuple[Site, ...]:
        """Those whose gateway takes this class's readings in."""
        return tuple(site for site in self.sites if self.name in (site.gateway.get("fleets") or {}))

    @cached_property
    def plants_with_gateway(self) -> dg.StaticPartitionsDefinition:
        return by_site(self.sites_with_gateway)

    @cached_property
    def windows(self) -> dg.MultiPartitionsDefinition:
        return by_window(self.sites)

    @cached_property
    def plants(self) -> dg.StaticPartitionsDefinition:
        return by_site(self.sites)

    def key(self, asset: str) -> dg.AssetKey:
        return dg.AssetKey([self.name, asset])

    def same_window(self, *assets: str) -> list[dg.AssetDep]:
        return [dg.AssetDep(self.key(a)) for a in assets]

    def same_site(self, *assets: str) -> list[dg.AssetDep]:
        """Between an asset of a site and one of its windows, in either direction."""
        mapping = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="site")
        return [dg.AssetDep(self.key(a), partition_mapping=mapping) for a in assets]

    def window(self, context: dg.AssetExecutionContext, plants: Plants) -> tuple[Plant, WindowRange]:
        """The plant and the windows this run is for."""
        windows = windows_of(context, {s.name: s for s in self.sites})
        return plants.plant(windows.site), windows

    def attempt(self, context: dg.AssetExecutionContext, plants: Plants) -> Attempt:
        """What a run sets out to do, and the epoch under which it answers; the same for all steps of the run."""
        plant, windows = self.window(context, plants)
        given = context.run.tags.get(EPOCH)
        if given is not None:
            return Attempt(plant, windows, int(given))
        kind = context.run.tags.get(STEP, "manual")
        epoch = plant.answers(self.name).epoch(context.run.run_id, windows, kind, plant.clock.now())
        return Attempt(plant, windows, epoch)

    def spec(
        self,
        asset: str,
        description: str,
        *,
        deps: Sequence[dg.AssetDep] = (),
        kinds: set[str],
        location: LocationKind | None = None,
        workload: str | None = None,
        freshness: dg.FreshnessPolicy | None = None,
        skippable: bool = False,
    ) -> dg.AssetSpec:
        """One asset of this class: its bytes lie at a kind of `location`, or where its `workload` is placed.

        Columns, owner, version and classification are those of its contract.
        """
        contract = self.contracts[asset]
        tags = {"hybrid/equipment_class": self.name, CLASSIFICATION: contract.classification}
        shared = "" if contract is self.equipment_class.contract else f"+{contract.version}"
        metadata: dict[str, Any] = {
            "dagster/column_schema": column_schema(contract),
            CONTRACT: f"{contract.id} {contract.version}",
        }
        if lineage := column_lineage(self.equipment_class, asset, self.contracts):
            metadata[COLUMN_LINEAGE] = dg.MetadataValue.json(lineage)
        if location is not None:
            tags["hybrid/location"] = location
        if workload is not None:
            tags[WORKLOAD] = workload
            metadata["requirements"] = requirements_shown(workload, self.sites)
        return dg.AssetSpec(
            self.key(asset),
            deps=list(deps),
            description=description,
            group_name=self.name,
            owners=[f"team:{contract.owner}"],
            kinds=kinds,
            tags=tags,
            code_version=f"{CODE_VERSION}.{self.equipment_class.contract.version}{shared}",
            metadata=metadata,
            freshness_policy=freshness,
            skippable=skippable,
        )

    def by_window(self, step: str, *specs: dg.AssetSpec) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
        """Decorates the step that makes assets for site × day; a range of days is one run of it.

        Steps of a class that write windows run one at a time, whoever started them.
        """
        made = dg.multi_asset(
            name=f"{self.name}_{step}",
            specs=specs,
            partitions_def=self.windows,
            backfill_policy=dg.BackfillPolicy.single_run(),
            pool=f"{self.name}_windows",
        )
        return lambda function: made(with_versions(function))

    def by_site(
        self,
        step: str,
        *specs: dg.AssetSpec,
        partitions_def: dg.PartitionsDefinition | None = None,
        pool: str = "training",
    ) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
        """Decorates the step that makes assets for a site as a whole: one of a class and pool at a time.

        Args:
            partitions_def: where not all sites of the class have them.
        """
        made = dg.multi_asset(
            name=f"{self.name}_{step}",
            specs=specs,
            partitions_def=partitions_def or self.plants,
            pool=f"{self.name}_{pool}",
        )
        return lambda function: made(with_versions(function))


def requirements_shown(workload: str, sites: Sequence[Site]) -> dg.MarkdownMetadataValue:
    """What a workload needs at each site, as a table."""
    lines = ["| site | way of doing it | needs |", "|---|---|---|"]
    for site in sites:
        for alternative in site.workloads[workload]:
            default = Requirements()
            needs = {f.name: getattr(alternative.requirements, f.name) for f in fields(Requirements)}
            said = ", ".join(f"{k} {_text(v)}" for k, v in needs.items() if v != getattr(default, k))
            lines.append(f"| {site.name} | {alternative.name} | {said} |")
    return dg.MetadataValue.md("\n".join(lines))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"


def emit_per_window(
    context: dg.AssetExecutionContext, key: dg.AssetKey, site: str, values: Mapping[Any, Mapping[str, Any]]
) -> None:
    """Give each window's materialization its own numbers, so that the UI plots them over the days."""
    for day, metadata in values.items():
        context.add_asset_metadata(metadata, asset_key=key, partition_key=window_key(site, day))
