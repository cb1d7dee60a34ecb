"""What befalls a plant's floor, one thing after the other: written by people, or drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from backbone.errors import ConfigurationError, UnknownName
from backbone.settings import settings_from
from chaos.floor.strikes import When
from chaos.scenario import read_file

FloorFaultKind = Literal[
    "gateway_killed",
    "porter_killed",
    "disk_full",
    "disk_error",
    "disk_lies",
    "broker_restarted",
    "broker_down",
    "broker_flapping",
    "line_reset",
    "line_half_open",
    "clock_step",
    "torn_page",
    "corrupt_page",
    "second_gateway",
    "store_gone",
]
FLOOR_FAULT_KINDS: tuple[FloorFaultKind, ...] = get_args(FloorFaultKind)
SHIPPED = Path(__file__).resolve().parent / "scenarios"

_OPTIONS: Mapping[str, frozenset[str]] = {
    "gateway_killed": frozenset({"step", "when"}),
    "porter_killed": frozenset({"step", "when"}),
    "disk_full": frozenset({"seconds"}),
    "disk_error": frozenset({"step", "errors"}),
    "broker_down": frozenset({"seconds"}),
    "broker_flapping": frozenset({"flaps"}),
    "line_half_open": frozenset({"seconds"}),
    "clock_step": frozenset({"by_s"}),
    "store_gone": frozenset({"seconds"}),
}
_ALWAYS = frozenset({"kind", "times"})


@dataclass(frozen=True, slots=True)
class FloorFault:
    """One fault, or so many of a kind one after the other.

    Attributes:
        step: the durable step at which a process dies, or the disk errs; `*` and `?` stand for what they do in file
            names. None: of those that were seen, one that was struck least often.
        when: before the step, after it, or half way where it is a write; None: drawn.
        seconds: how long it lasts.
        errors: how often the disk errs.
        flaps: how often the broker dies.
        by_s: how far the clock steps, there and back.
    """

    kind: FloorFaultKind
    times: Annotated[int, Field(ge=1, le=100_000)] = 1
    step: str | None = None
    when: When | None = None
    seconds: Annotated[float, Field(gt=0, le=3600)] = 2.0
    errors: Annotated[int, Field(ge=1, le=1000)] = 1
    flaps: Annotated[int, Field(ge=1, le=100)] = 5
    by_s: Annotated[float, Field(ge=-86_400, le=86_400)] = 3600.0


@dataclass(frozen=True, slots=True)
class FloorScenario:
    """A rehearsal of a plant's floor.

    Attributes:
        seed: of every draw that the faults leave open, and of what machines send.
    """

    name: str
    description: str
    seed: int
    faults: tuple[FloorFault, ...]


@dataclass(frozen=True)
class _Head:
    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0


def read_floor_scenario(path: Path) -> FloorScenario:
    """A scenario from its file.

    Raises:
        UnknownName: a fault kind or a key that does not exist; lists those that do.
        ConfigurationError: there is no such file, it is no TOML, or a value is wrong. Both name file and line.
    """
    return read_file(path, _meaning)


def _meaning(document: Mapping[str, Any]) -> FloorScenario:
    head = settings_from(_Head, {k: v for k, v in document.items() if k != "faults"}, where="scenario")
    tables = document.get("faults")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError("faults is no array of tables.", next_step="Write [[faults]].", at=("faults",))
    faults = tuple(_fault(number, table) for number, table in enumerate(tables))
    return FloorScenario(head.name, head.description, head.seed, tuple(f for f in faults for _ in range(f.times)))


def _fault(number: int, table: Mapping[str, Any]) -> FloorFault:
    kind = table.get("kind")
    if kind not in FLOOR_FAULT_KINDS:
        raise UnknownName("fault kind", str(kind), FLOOR_FAULT_KINDS, at=("faults", number, "kind"))
    options = _ALWAYS | _OPTIONS.get(kind, frozenset())
    for key in table:
        if key not in options:
            raise UnknownName(f"setting of fault {kind}", key, options, at=("faults", number, key))
    try:
        return settings_from(FloorFault, table, where=f"fault {number + 1}, {kind}")
    except ConfigurationError as error:
        error.at = ("faults", number, *error.at)
        raise


_SHARES: Mapping[FloorFaultKind, float] = {
    "gateway_killed": 10,
    "porter_killed": 5,
    "disk_full": 1,
    "disk_error": 3,
    "broker_restarted": 1,
    "broker_down": 1,
    "broker_flapping": 0.5,
    "line_reset": 1,
    "line_half_open": 0.5,
    "clock_step": 1,
    "torn_page": 1,
    "corrupt_page": 0.5,
    "second_gateway": 0.5,
    "store_gone": 0.5,
}
"""How often each kind is drawn, against the others: those that last longer more seldom. A disk that lies is never
drawn: no gateway can hold against it. It shows that the report tells what is missing."""


def drawn_floor_scenario(*, seed: int, faults: int, kinds: Collection[str] = ()) -> FloorScenario:
    """So many faults, drawn from a seed.

    Args:
        kinds: only these; empty: all.

    Raises:
        UnknownName: there is no such kind.
    """
    for kind in kinds:
        if kind not in FLOOR_FAULT_KINDS:
            raise UnknownName("fault kind", kind, FLOOR_FAULT_KINDS)
    chance = random.Random(f"floor:{seed}")  # noqa: S311 - faults need no secrecy
    shares = {
        kind: _SHARES.get(kind, 1.0) for kind in FLOOR_FAULT_KINDS if (kind in kinds if kinds else kind in _SHARES)
    }
    drawn = chance.choices(list(shares), list(shares.values()), k=faults)
    return FloorScenario(
        name=f"drawn from seed {seed}",
        description=f"{faults} faults",
        seed=seed,
        faults=tuple(_drawn(kind, chance) for kind in drawn),
    )


def _drawn(kind: FloorFaultKind, chance: random.Random) -> FloorFault:
    return FloorFault(
        kind,
        seconds=round(chance.uniform(1.0, 3.0), 2),
        errors=chance.randint(1, 3),
        flaps=chance.randint(2, 5),
        by_s=chance.choice((-3600.0, 3600.0)),
    )
