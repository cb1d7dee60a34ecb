"""A gateway's settings: the `[gateway]` table of a site file.

[gateway]
name = "gw-1"

[gateway.fleets.pump]
equipment = ["P-*"]

[[gateway.sources]]
kind = "mqtt"
url = "mqtt://127.0.0.1:1883"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from backbone.errors import ConfigurationError
from backbone.settings import settings_from
from backbone.sites import FolderName

if TYPE_CHECKING:
    from resources.plant import Plant

Above = Annotated[float, Field(gt=0)]
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """How much is kept until it has landed.

    Attributes:
        max_mib: on the disk, in MiB.
        segment_mib: of one file; the spool lets go of whole files.
        on_full: `reject` refuses new readings, and their senders learn it; `drop_oldest` lets go of the oldest that
            have not landed, and counts them.
        drain_per_s: readings a second at most that land while others come in.
    """

    max_mib: Annotated[float, Field(gt=0)] = 1024.0
    segment_mib: Annotated[float, Field(gt=0)] = 8.0
    on_full: Literal["reject", "drop_oldest"] = "reject"
    drain_per_s: Above = 20_000.0

    @property
    def max_bytes(self) -> int:
        return int(self.max_mib * _MIB)

    @property
    def segment_bytes(self) -> int:
        return int(self.segment_mib * _MIB)


@dataclass(frozen=True, slots=True)
class GatewayFleet:
    """The machines of one class that this gateway serves.

    Attributes:
        equipment: names or patterns (`*`, `?`).
        machines: as many at most; a reading of yet another one is a dead letter. Senders choose names.
    """

    equipment: tuple[str, ...]
    machines: Annotated[int, Field(ge=1)] = 10_000

    def __post_init__(self) -> None:
        if not self.equipment:
            raise ConfigurationError("equipment is empty.", next_step='Name the machines, such as equipment = ["P-*"].')


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The `[gateway]` table.

    Attributes:
        listen: host and port of health, metrics and status.
        deadline_ms: from a reading's arrival to its answer, the disk's time apart; after it the rules answer.
        land_every_s: how often what was kept becomes part of the landing tables; the graph then serves today again.
        ahead_s: how far ahead of the gateway's clock a reading's time may be without being flagged.
        historical_s: readings that were kept for longer than this before they landed are marked as historical.
        pending: messages that may wait for the disk; more are refused as `busy`.
        per_source_per_s: readings a second at most of one source; None: any number.
        others: what is done with equipment that no fleet here names: `dead_letter`, or `ignore` where other gateways of
            the plant serve it.
    """

    name: FolderName
    fleets: Mapping[str, GatewayFleet]
    sources: tuple[Mapping[str, Any], ...] = ()
    listen: str = "127.0.0.1:0"
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    deadline_ms: Above = 50.0
    land_every_s: Above = 60.0
    ahead_s: Above = 600.0
    historical_s: Above = 60.0
    pending: Annotated[int, Field(ge=1)] = 50_000
    per_source_per_s: Above | None = None
    others: Literal["dead_letter", "ignore"] = "dead_letter"


def gateway_settings(site: str, table: Mapping[str, Any]) -> GatewaySettings:
    """The settings of a site's gateway.

    Raises:
        ConfigurationError: something is missing, unknown or of the wrong type; says what fits.
    """
    where = f"site {site}, table [gateway]"
    fleets = {
        name: settings_from(GatewayFleet, given, where=f"{where}, fleet {name}")
        for name, given in dict(table.get("fleets") or {}).items()
    }
    settings = settings_from(GatewaySettings, {**table, "fleets": {}}, where=where)
    if not fleets:
        raise ConfigurationError(f"{where} serves no fleet.", next_step="Add a [gateway.fleets.<class>] table.")
    for source in settings.sources:
        if not isinstance(source.get("kind"), str):
            raise ConfigurationError(f"{where}: a source lacks its kind.", next_step='Add kind = "mqtt", or another.')
    return GatewaySettings(**{f: getattr(settings, f) for f in settings.__slots__} | {"fleets": fleets})


def settings_of(plant: Plant) -> GatewaySettings:
    """The settings of the gateway that a site names.

    Raises:
        ConfigurationError: it names none, or says something wrong.
    """
    if not plant.site.gateway:
        raise ConfigurationError(
            f"Site {plant.site.name} has no gateway.",
            next_step="Add a [gateway] table to its file; docs/gateway.md has one to start from.",
        )
    settings = gateway_settings(plant.site.name, plant.site.gateway)
    for name in settings.fleets:
        plant.site.fleet(name)
    return settings
