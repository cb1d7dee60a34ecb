"""Gives a parsed site file its meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from backbone.errors import ConfigurationError, UnknownName
from backbone.placement import Situation, place
from backbone.requirements import LOCATION_KINDS, workloads_from_toml
from backbone.settings import settings_from
from backbone.sites import Fleet, Location, Site, TargetConfig

_MOST = {"history_days": 36_500, "day_s": 86_400}
_SITE_KEYS = {"name", "description", "currency", "calendar", "fleets", "locations", "targets", "workloads", "gateway"}


def site_from_toml(
    document: Mapping[str, Any], *, name: str, anchor: date, target_kinds: Mapping[str, type[Any]] | None = None
) -> Site:
    """Give a parsed site file its meaning.

    Args:
        name: the file's stem; the document may not contradict it.
        anchor: the day that `history_days` counts back from, the same at every start of an installation.
        target_kinds: kind → the settings it takes, of the plug-ins there are; None: any kind and setting will do.

    Raises:
        ConfigurationError: names the site, the table and the key, lists what is valid, and says where it stands (`at`).
    """
    _only(name, "", document, _SITE_KEYS)
    _check_shapes(name, document)
    if document.get("name", name) != name:
        raise ConfigurationError(
            f"Site file {name}.toml is named {document['name']!r} inside.", next_step="Make the two names agree."
        )
    if any(c in name for c in "|/\\ ") or not name:
        raise ConfigurationError(
            f"Site name {name!r} cannot be a partition or a folder.", next_step="Use letters, digits, '-' and '_'."
        )
    first, last, day_s = _calendar(name, document.get("calendar") or {}, anchor)
    tables = list(document.get("locations") or [])
    _unique(name, "location", [(("locations", n), t) for n, t in enumerate(tables)])
    _unique(
        name,
        "target",
        [
            *((("targets", n), t) for n, t in enumerate(document.get("targets") or [])),
            *(
                (("locations", n, "targets", m), t)
                for n, table in enumerate(tables)
                for m, t in enumerate(table.get("targets") or [])
            ),
        ],
    )
    locations = tuple(_location(name, n, table) for n, table in enumerate(tables))
    targets = (
        *(
            _target(name, ("targets", n), t, locations, target_kinds)
            for n, t in enumerate(document.get("targets") or [])
        ),
        *(
            _target(
                name, ("locations", n, "targets", m), {**t, "location": table.get("name", "")}, locations, target_kinds
            )
            for n, table in enumerate(tables)
            for m, t in enumerate(table.get("targets") or [])
        ),
    )
    site = Site(
        name=name,
        description=document.get("description", ""),
        first_day=first,
        last_day=last,
        fleets=tuple(_fleet(name, c, t) for c, t in (document.get("fleets") or {}).items()),
        locations=locations,
        targets=targets,
        workloads=workloads_from_toml(document.get("workloads") or {}, site=name),
        currency=document.get("currency", "EUR"),
        day_s=day_s,
        gateway=document.get("gateway", {}),
    )
    if not site.fleets:
        raise ConfigurationError(f"Site {name} has no fleet.", next_step="Add a [fleets.<class>] table.")
    for kind in LOCATION_KINDS:
        site.at(kind)
    _check_workloads(site, anchor)
    return site


def _check_shapes(site: str, document: Mapping[str, Any]) -> None:
    """What should be a table is one, and what should be an array of tables is one."""
    for key in ("description", "currency"):
        if not isinstance(document.get(key, ""), str):
            raise ConfigurationError(
                f"Site {site}: {key} is {document[key]!r}.", next_step="Write it as a text.", at=(key,)
            )
    arrays = [(key, document.get(key, [])) for key in ("locations", "targets")]
    arrays += [
        ("targets", t["targets"]) for t in document.get("locations", []) if isinstance(t, dict) and "targets" in t
    ]
    for key, value in arrays:
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise ConfigurationError(
                f"Site {site}: {key} is {value!r}.", next_step=f"Write it as [[{key}]] tables.", at=(key,)
            )
    for key in ("calendar", "fleets", "workloads", "gateway"):
        value = document.get(key, {})
        if not isinstance(value, Mapping):
            raise ConfigurationError(
                f"Site {site}: {key} is {value!r}.", next_step=f"Write it as a [{key}] table.", at=(key,)
            )
    for name, value in document.get("fleets", {}).items():
        if not isinstance(value, Mapping):
            raise ConfigurationError(
                f"Site {site}: fleet {name} is {value!r}.", next_step="Give its source.", at=("fleets", name)
            )


def _check_workloads(site: Site, anchor: date) -> None:
    """Every workload, and every way of doing it, can be placed when all is well.

    The error is the whole table of rejections. A way that nothing can ever take would be missed only when it is needed.
    """
    now, candidates = datetime.combine(anchor, time(), UTC), site.candidates()
    for workload, alternatives in site.workloads.items():
        for alternative in alternatives:
            for target in alternative.requirements.targets:
                if target not in {c.target for c in candidates}:
                    at = ("workloads", alternative.name, "targets")
                    raise UnknownName(f"target in site {site.name}", target, [c.target for c in candidates], at=at)
        for name, ways in ((workload, alternatives), *((a.name, (a,)) for a in alternatives)):
            placement = place(workload, ways, candidates, Situation(), now=now)
            if placement.chosen is None:
                table = "".join(f"\n  {line}" for line in placement.table()) or "\n  it has no target at all"
                raise ConfigurationError(
                    f"Site {site.name}: no target can ever take {name}:{table}\n",
                    next_step=f"Change [workloads.{name}], or add a target that fits.",
                    at=("workloads", name),
                )


def _calendar(site: str, table: Mapping[str, Any], anchor: date) -> tuple[date, date | None, float | None]:
    _only(site, "calendar", table, {"first_day", "history_days", "last_day", "day_s"})
    if ("first_day" in table) == ("history_days" in table):
        raise ConfigurationError(
            f"Site {site}: its calendar needs either first_day or history_days.",
            next_step="Give the first day of a real plant, or how many days before today a simulated one began.",
        )
    for key in ("history_days", "day_s"):
        value = table.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST[key]:
            most = f"Give a number above 0, and at most {_MOST[key]}."
            raise ConfigurationError(f"Site {site}: calendar.{key} is {value!r}.", next_step=most, at=("calendar", key))
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
            raise UnknownName(f"key in {where}", key, valid, at=(*table.split("."), key) if table else (key,))


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


def _location(site: str, number: int, table: Mapping[str, Any]) -> Location:
    kind = table.get("kind")
    if kind is not None and kind not in LOCATION_KINDS:
        raise UnknownName(f"location kind in site {site}", str(kind), LOCATION_KINDS, at=("locations", number, "kind"))
    given = {key: value for key, value in table.items() if key != "targets"}
    where = f"site {site}, location {table.get('name', f'number {number + 1}')}"
    with _inside("locations", number):
        return settings_from(Location, given, where=where)


def _target(
    site: str,
    at: tuple[str | int, ...],
    table: Mapping[str, Any],
    locations: Sequence[Location],
    kinds: Mapping[str, type[Any]] | None,
) -> TargetConfig:
    own = {f.name for f in fields(TargetConfig)} - {"settings"}
    where = f"site {site}, target {table.get('name', f'number {at[-1]}')}"
    given = {key: value for key, value in table.items() if key in own}
    settings = {key: value for key, value in table.items() if key not in own}
    with _inside(*at):
        config = settings_from(TargetConfig, {**given, "settings": settings}, where=where)
        if config.breaker:
            from backbone.breaker import BreakerSettings

            with _inside("breaker"):
                settings_from(BreakerSettings, config.breaker, where=f"{where}, breaker")
        if config.location not in {loc.name for loc in locations}:
            raise UnknownName(
                f"location in site {site}", config.location, [loc.name for loc in locations], at=("location",)
            )
        if kinds is not None and config.kind not in kinds:
            raise UnknownName(f"target kind in site {site}", config.kind, kinds, at=("kind",))
        if kinds is not None:
            settings_from(kinds[config.kind], config.settings, where=where)
    return config


@contextmanager
def _inside(*at: str | int) -> Iterator[None]:
    """Errors say where in the document they are, not only where in this table."""
    try:
        yield
    except ConfigurationError as error:
        error.at = (*at, *error.at)
        raise


def _fleet(site: str, equipment_class: str, table: Mapping[str, Any]) -> Fleet:
    _only(site, f"fleets.{equipment_class}", table, {"source"})
    source = dict(_need(site, f"fleets.{equipment_class}", table, "source"))
    kind = _need(site, f"fleets.{equipment_class}.source", source, "kind")
    return Fleet(
        equipment_class=equipment_class, source=kind, settings={k: v for k, v in source.items() if k != "kind"}
    )


def _unique(site: str, what: str, tables: Sequence[tuple[tuple[str | int, ...], Mapping[str, Any]]]) -> None:
    """Raises where a later table has the name of an earlier one, at the later one."""
    seen = set()
    for at, table in tables:
        name = table.get("name")
        if name in seen:
            raise ConfigurationError(
                f"Site {site} has two {what}s named {name!r}.", next_step="Rename one.", at=(*at, "name")
            )
        seen.add(name)
