"""What a piece of work needs of the place it runs at, as its asset declares it and a site may change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from backbone.errors import ConfigurationError, UnknownName
from backbone.settings import settings_from

LocationKind = Literal["edge", "on_prem", "cloud"]
LOCATION_KINDS: tuple[LocationKind, ...] = get_args(LocationKind)

Classification = Literal["public", "internal", "confidential", "restricted"]
CLASSIFICATIONS: tuple[Classification, ...] = get_args(Classification)
"""From what anybody may see to what few may; a location is cleared for one and everything before it."""

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Requirements:
    """What work needs. The default of every field asks for nothing.

    Attributes:
        deadline_s: seconds by which an answer is due. It bounds a try, and everything that is tried after a failure.
        classification: of the data that goes there.
        residency: jurisdictions the data may be in; empty: any.
        kinds: kinds of location; empty: any.
        targets: names of targets; empty: any.
        gpus, memory_gb: what the location must have.
        max_cost: of one piece of work, in the site's currency.
        budget: share of the full effort that is worth making, for work that can be made smaller.
        expected_s: how long it is thought to take, until runs have told.
        hour_value: what an hour of waiting costs, in the site's currency; above 0, speed can outweigh price.
        attempts: how often it is tried at most, wherever that is.
        any_of: names of other workloads of the site, in order of preference, each read as a change to this one. The
            first that any target can take is what is done.
    """

    deadline_s: AboveZero | None = None
    classification: Classification = "public"
    residency: tuple[str, ...] = ()
    kinds: tuple[LocationKind, ...] = ()
    targets: tuple[str, ...] = ()
    gpus: Annotated[int, Field(ge=0)] = 0
    memory_gb: NotNegative = 0.0
    max_cost: NotNegative | None = None
    budget: Annotated[float, Field(gt=0, le=1)] = 1.0
    expected_s: AboveZero = 1.0
    hour_value: NotNegative = 0.0
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    any_of: tuple[str, ...] = ()


WORKLOADS: Mapping[str, Requirements] = {
    "training": Requirements(deadline_s=4 * 3600, classification="internal", memory_gb=0.5, expected_s=120),
    "evaluation": Requirements(deadline_s=3600, classification="internal", memory_gb=0.5, expected_s=20),
    "scoring": Requirements(deadline_s=60, classification="internal", expected_s=0.1, hour_value=1),
}
"""Work that is placed, and what each needs unless a site says otherwise."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to do a workload: `name` is the workload itself, or one of its `any_of`."""

    name: str
    requirements: Requirements


Workloads = Mapping[str, tuple[Alternative, ...]]
"""Workload → its alternatives, the preferred one first."""


def workloads_from_toml(tables: Mapping[str, Any], *, site: str) -> Workloads:
    """The alternatives of every workload of a site.

    Args:
        tables: the site's `[workloads]`: name → a table of requirements, or the name of the one target to use. Names
            beside those in `WORKLOADS` are for `any_of`.

    Raises:
        UnknownName: a key, or a name in an `any_of`, that does not exist.
        ConfigurationError: a wrong value; an `any_of` that comes back to itself; a name that nothing uses.
    """
    given = {name: _table(table) for name, table in tables.items()}
    for name, table in given.items():
        _read(Requirements(), name, table, site)
    found = {w: tuple(_expand(w, declared, given, site, ())) for w, declared in WORKLOADS.items()}
    used = set(WORKLOADS)
    while more := {other for name in used for other in given.get(name, {}).get("any_of", ())} - used:
        used |= more
    for name in given:
        if name not in used:
            raise UnknownName(
                f"workload in site {site}",
                name,
                WORKLOADS,
                next_step="Use one of these, or name it in the any_of of one.",
                at=("workloads", name),
            )
    return found


def _table(table: Any) -> Mapping[str, Any]:
    return {"targets": [table]} if isinstance(table, str) else table


def _expand(
    name: str, base: Requirements, given: Mapping[str, Mapping[str, Any]], site: str, way: tuple[str, ...]
) -> list[Alternative]:
    if name in way:
        raise ConfigurationError(
            f"Site {site}: any_of goes in a circle: {' → '.join((*way, name))}.",
            next_step="Let each workload name only others that do not lead back to it.",
            at=("workloads", way[-1], "any_of"),
        )
    merged = _read(base, name, given.get(name, {}), site)
    if not merged.any_of:
        return [Alternative(name, merged)]
    alternatives = []
    for other in merged.any_of:
        if other not in given:
            at = ("workloads", name, "any_of")
            raise UnknownName(f"workload in any_of of {name}, site {site}", other, given, at=at)
        alternatives += _expand(other, replace(merged, any_of=()), given, site, (*way, name))
    return alternatives


def _read(base: Requirements, name: str, table: Mapping[str, Any], site: str) -> Requirements:
    """The base with what the table says instead."""
    try:
        read = settings_from(Requirements, table, where=f"site {site}, workload {name}")
    except ConfigurationError as error:
        error.at = ("workloads", name, *error.at)
        raise
    said = {field.name: getattr(read, field.name) for field in fields(read) if field.name in table}
    return replace(base, **said)
