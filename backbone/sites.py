"""A plant as data: its fleets of equipment, its locations, and where its work may run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

from pydantic import Field

from backbone.errors import ConfigurationError, UnknownName
from backbone.placement import Candidate
from backbone.requirements import AboveZero, Classification, LocationKind, NotNegative, Workloads

DEFAULT_TIMEOUT_S = 3600.0

Name = Annotated[str, Field(min_length=1)]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""Stands in paths and in the names of breakers: letters, digits, `_`, `.` and `-`."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where: a place with a store of its own, inside one security zone (IEC 62443).

    Attributes:
        store: path of the location's store; None: below the home folder.
        clearance: the highest classification of data that may be there.
        price_per_hour, price_per_gb: of computing there, and of moving data there and back, in the site's currency.
        priced_on, price_source: when that was the price, and who says so; needed where there is a price.
        latency_ms: from the plant to there and back.
        capacity: pieces of work it takes at a time; None: any number.
        gpus, memory_gb: what it has; memory None: enough.
    """

    name: FolderName
    kind: LocationKind
    zone: Name
    jurisdiction: Name
    store: str | None = None
    clearance: Classification = "confidential"
    price_per_hour: NotNegative = 0.0
    price_per_gb: NotNegative = 0.0
    priced_on: date | None = None
    price_source: str | None = None
    latency_ms: NotNegative = 0.0
    capacity: Annotated[int, Field(ge=1)] | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    memory_gb: AboveZero | None = None

    def __post_init__(self) -> None:
        if (self.price_per_hour or self.price_per_gb) and not (self.priced_on and self.price_source):
            raise ConfigurationError(
                "a price without its date and source.", next_step="Add priced_on and price_source, so that it can age."
            )


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """How: one way to run code at a location. `kind` names a plug-in in `resources.targets`.

    Work that takes longer than `timeout_s` is cancelled and counts as failed; so does work at a target that has not
    answered for `silence_s`.
    """

    name: FolderName
    location: Name
    kind: Name
    timeout_s: AboveZero = DEFAULT_TIMEOUT_S
    silence_s: AboveZero = 30.0
    breaker: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The equipment of one class at a site, and the source its telemetry comes from."""

    equipment_class: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Site:
    """A plant (ISA-95). Days outside [`first_day`, `last_day`] are not in its calendar; `last_day` None: it goes on.

    With `day_s`, today passes in so many seconds, for a plant that only replays: its readings of today come
    ahead of their time, those of tomorrow wait for tomorrow. `gateway` is the site's table of that name, which the
    gateway gives its meaning.
    """

    name: str
    description: str
    first_day: date
    last_day: date | None
    fleets: tuple[Fleet, ...]
    locations: tuple[Location, ...]
    targets: tuple[TargetConfig, ...]
    workloads: Workloads
    currency: str = "EUR"
    day_s: float | None = None
    gateway: Mapping[str, Any] = field(default_factory=dict)

    def fleet(self, equipment_class: str) -> Fleet:
        for fleet in self.fleets:
            if fleet.equipment_class == equipment_class:
                return fleet
        raise UnknownName(f"equipment class at site {self.name}", equipment_class, self.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f.equipment_class for f in self.fleets)

    def at(self, kind: LocationKind) -> Location:
        """The site's first location of a kind."""
        for location in self.locations:
            if location.kind == kind:
                return location
        raise ConfigurationError(
            f"Site {self.name} has no location of kind {kind!r}.",
            next_step="Add a [[locations]] table of that kind to its file.",
        )

    def location(self, name: str) -> Location:
        for location in self.locations:
            if location.name == name:
                return location
        raise UnknownName(f"location at site {self.name}", name, [loc.name for loc in self.locations])

    def target(self, name: str) -> TargetConfig:
        for target in self.targets:
            if target.name == name:
                return target
        raise UnknownName(f"target at site {self.name}", name, [t.name for t in self.targets])

    def candidates(self) -> tuple[Candidate, ...]:
        """Every target at its location, as placement weighs them."""
        return tuple(_candidate(target, self.location(target.location)) for target in self.targets)


def _candidate(target: TargetConfig, location: Location) -> Candidate:
    return Candidate(
        target=target.name,
        kind=target.kind,
        location=location.name,
        location_kind=location.kind,
        jurisdiction=location.jurisdiction,
        clearance=location.clearance,
        price_per_hour=location.price_per_hour,
        price_per_gb=location.price_per_gb,
        latency_s=location.latency_ms / 1000,
        capacity=location.capacity,
        gpus=location.gpus,
        memory_gb=location.memory_gb,
        timeout_s=target.timeout_s,
    )
