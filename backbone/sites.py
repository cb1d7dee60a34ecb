"""A plant as data: its fleets of equipment, its locations, and where its work runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

from backbone.errors import ConfigurationError, UnknownName

LocationKind = Literal["edge", "on_prem", "cloud"]
LOCATION_KINDS: tuple[LocationKind, ...] = ("edge", "on_prem", "cloud")
WORKLOADS = ("training", "evaluation")
"""Work that is sent to a compute target; everything else runs on premises, inside the run."""

DEFAULT_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Location:
    """Where: a place with a store of its own, inside one security zone (IEC 62443)."""

    name: str
    kind: LocationKind
    zone: str
    jurisdiction: str
    store: str | None = None
    """Path of the location's store; None: below the home folder."""


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """How: one way to run code at a location. `kind` names a plug-in in `resources.targets`.

    Work that takes longer than `timeout_s` is cancelled and counts as failed.
    """

    name: str
    location: str
    kind: str
    timeout_s: float = DEFAULT_TIMEOUT_S
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
    ahead of their time, those of tomorrow wait for tomorrow.
    """

    name: str
    description: str
    first_day: date
    last_day: date | None
    fleets: tuple[Fleet, ...]
    locations: tuple[Location, ...]
    targets: tuple[TargetConfig, ...]
    workloads: Mapping[str, str]
    day_s: float | None = None

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

    def target_for(self, workload: str) -> TargetConfig:
        """The compute target the site sends a workload to."""
        if workload not in self.workloads:
            raise UnknownName(f"workload at site {self.name}", workload, self.workloads)
        wanted = self.workloads[workload]
        return next(t for t in self.targets if t.name == wanted)


_SITE_KEYS = {"name", "description", "calendar", "fleets", "locations", "targets", "workloads"}


def site_from_toml(document: Mapping[str, Any], *, name: str, anchor: date) -> Site:
    """Give a parsed site file its meaning.

    Args:
        name: the file's stem; the document may not contradict it.
        anchor: the day that `history_days` counts back from, the same at every start of an installation.

    Raises:
        ConfigurationError: names the site, the table and the key, and lists what is valid.
    """
    _only(name, "", document, _SITE_KEYS)
    if document.get("name", name) != name:
        raise ConfigurationError(
            f"Site file {name}.toml is named {document['name']!r} inside.", next_step="Make the two names agree."
        )
    if any(c in name for c in "|/\\ ") or not name:
        raise ConfigurationError(
            f"Site name {name!r} cannot be a partition or a folder.", next_step="Use letters, digits, '-' and '_'."
        )
    calendar = document.get("calendar") or {}
    first, last, day_s = _calendar(name, calendar, anchor)
    locations = tuple(_location(name, t) for t in document.get("locations") or [])
    targets = tuple(_target(name, t, [loc.name for loc in locations]) for t in document.get("targets") or [])
    site = Site(
        name=name,
        description=document.get("description", ""),
        first_day=first,
        last_day=last,
        fleets=tuple(_fleet(name, c, t) for c, t in (document.get("fleets") or {}).items()),
        locations=locations,
        targets=targets,
        workloads=dict(document.get("workloads") or {}),
        day_s=day_s,
    )
    if not site.fleets:
        raise ConfigurationError(f"Site {name} has no fleet.", next_step="Add a [fleets.<class>] table.")
    for kind in LOCATION_KINDS:
        site.at(kind)
    _unique(name, "location", [loc.name for loc in locations])
    _unique(name, "target", [t.name for t in targets])
    for workload in WORKLOADS:
        if workload not in site.workloads:
            raise ConfigurationError(
                f"Site {name} does not say where {workload} runs.",
                next_step=f'Add `{workload} = "<target>"` to its [workloads] table.',
            )
    for workload, target in site.workloads.items():
        if workload not in WORKLOADS:
            raise UnknownName(f"workload in site {name}", workload, WORKLOADS)
        if target not in {t.name for t in targets}:
            raise UnknownName(f"target in site {name}", target, [t.name for t in targets])
    return site


def _calendar(site: str, table: Mapping[str, Any], anchor: date) -> tuple[date, date | None, float | None]:
    _only(site, "calendar", table, {"first_day", "history_days", "last_day", "day_s"})
    if ("first_day" in table) == ("history_days" in table):
        raise ConfigurationError(
            f"Site {site}: its calendar needs either first_day or history_days.",
            next_step="Give the first day of a real plant, or how many days before today a simulated one began.",
        )
    for key in ("history_days", "day_s"):
        value = table.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigurationError(f"Site {site}: calendar.{key} is {value!r}.", next_step="Give a number above 0.")
    if "history_days" in table:
        first = anchor - timedelta(days=int(table["history_days"]))
    else:
        first = _day(site, "calendar.first_day", table["first_day"])
    last = _day(site, "calendar.last_day", table["last_day"]) if "last_day" in table else None
    if last is not None and last < first:
        raise ConfigurationError(
            f"Site {site}: calendar.last_day {last} lies before its first day {first}.", next_step="Swap them."
        )
    return first, last, float(table["day_s"]) if "day_s" in table else None


def _only(site: str, table: str, given: Mapping[str, Any], valid: set[str]) -> None:
    for key in given:
        if key not in valid:
            where = f"site {site}, table [{table}]" if table else f"site {site}"
            raise UnknownName(f"key in {where}", key, valid)


def _need(site: str, table: str, given: Mapping[str, Any], key: str) -> Any:
    if key not in given:
        raise ConfigurationError(f"Site {site}: [{table}] lacks {key!r}.", next_step="Add it.")
    return given[key]


def _day(site: str, key: str, value: Any) -> date:
    if type(value) is not date:
        raise ConfigurationError(
            f"Site {site}: {key} is {value!r}, not a date.", next_step="Write it bare, as in 2025-01-31."
        )
    return value


def _location(site: str, table: Mapping[str, Any]) -> Location:
    _only(site, "locations", table, {"name", "kind", "zone", "jurisdiction", "store"})
    kind = _need(site, "locations", table, "kind")
    if kind not in LOCATION_KINDS:
        raise UnknownName(f"location kind in site {site}", str(kind), LOCATION_KINDS)
    return Location(
        name=_need(site, "locations", table, "name"),
        kind=kind,
        zone=_need(site, "locations", table, "zone"),
        jurisdiction=_need(site, "locations", table, "jurisdiction"),
        store=table.get("store"),
    )


def _target(site: str, table: Mapping[str, Any], locations: Sequence[str]) -> TargetConfig:
    own = ("name", "location", "kind", "timeout_s")
    name, location, kind = (_need(site, "targets", table, key) for key in own[:3])
    timeout_s = table.get("timeout_s", DEFAULT_TIMEOUT_S)
    if location not in locations:
        raise UnknownName(f"location in site {site}", location, locations)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not timeout_s > 0:
        raise ConfigurationError(
            f"Site {site}, target {name}: timeout_s is {timeout_s!r}.", next_step="Give seconds, above 0."
        )
    settings = {key: value for key, value in table.items() if key not in own}
    return TargetConfig(name, location, kind, float(timeout_s), settings)


def _fleet(site: str, equipment_class: str, table: Mapping[str, Any]) -> Fleet:
    _only(site, f"fleets.{equipment_class}", table, {"source"})
    source = dict(_need(site, f"fleets.{equipment_class}", table, "source"))
    kind = _need(site, f"fleets.{equipment_class}.source", source, "kind")
    return Fleet(
        equipment_class=equipment_class, source=kind, settings={k: v for k, v in source.items() if k != "kind"}
    )


def _unique(site: str, what: str, given: Sequence[str]) -> None:
    for item in given:
        if given.count(item) > 1:
            raise ConfigurationError(f"Site {site} has two {what}s named {item!r}.", next_step="Rename one.")
