"""Scenarios: which faults befall a plant, when, and for how long; written by people or drawn from a seed."""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field

from backbone.errors import ConfigurationError, UnknownName
from backbone.settings import settings_from
from backbone.sites import Site
from resources.catalog.toml_lines import line_of

T = TypeVar("T")
FaultKind = Literal[
    "target_dies",
    "target_hangs",
    "target_flaps",
    "target_refuses",
    "target_late",
    "target_wrong",
    "location_cut",
    "model_corrupt",
    "model_missing",
    "model_slow",
    "telemetry_missing",
    "telemetry_stuck",
    "state_locked",
    "worker_killed",
    "clock_step",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
SHIPPED = Path(__file__).resolve().parent / "scenarios"

DAY_S = 86_400.0
OF_TARGETS = tuple(kind for kind in FAULT_KINDS if kind.startswith("target_"))
OF_TELEMETRY = tuple(kind for kind in FAULT_KINDS if kind.startswith("telemetry_"))
_OPTIONS: Mapping[str, frozenset[str]] = {
    **{kind: frozenset({"target", "probability"}) for kind in OF_TARGETS},
    "target_late": frozenset({"target", "probability", "seconds"}),
    "location_cut": frozenset({"location"}),
    "model_slow": frozenset({"seconds", "probability"}),
    "worker_killed": frozenset({"after"}),
    "state_locked": frozenset({"after"}),
    "clock_step": frozenset({"seconds"}),
}
_ALWAYS = frozenset({"kind", "day", "at", "minutes"})


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault.

    Attributes:
        day: of the rehearsal, counted from 0.
        at: time of that day, by a clock that does not step.
        minutes: how long it lasts.
        target, location: whom it befalls; with neither, `target_*` befalls every target.
        probability: that it befalls a piece of work.
        seconds: by how much work is late, or the wall clock steps; None: what is usual for the kind.
        after: how many steps of a run pass before a worker is killed, or the state database locked, amid it. A step
            is a look at the clock or at a table.
    """

    kind: FaultKind
    day: Annotated[int, Field(ge=0)]
    at: time = time(0, 0)
    minutes: Annotated[float, Field(gt=0, le=7 * 24 * 60)] = 10.0
    target: str | None = None
    location: str | None = None
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    seconds: Annotated[float, Field(ge=-86_400, le=86_400)] | None = None
    after: Annotated[int, Field(ge=1, le=1_000)] = 1

    def __post_init__(self) -> None:
        if self.kind == "location_cut" and self.location is None:
            raise ConfigurationError("a location_cut without a location.", next_step="Name the location.")
        if self.kind in ("target_late", "model_slow") and self.seconds is not None and self.seconds <= 0:
            raise ConfigurationError(
                f"{self.kind} by {self.seconds:g} seconds.", next_step="Give a number above 0.", at=("seconds",)
            )

    @property
    def start_s(self) -> float:
        """Seconds from the beginning of the rehearsal."""
        at = self.at
        return self.day * DAY_S + at.hour * 3600 + at.minute * 60 + at.second + at.microsecond / 1e6

    @property
    def end_s(self) -> float:
        return self.start_s + self.minutes * 60


@dataclass(frozen=True, slots=True)
class Scenario:
    """A rehearsal.

    Attributes:
        days: how many windows are served under it.
        seed: of every draw that the faults leave open.
        train_on: days on whose night, at two, the plant trains.
    """

    name: str
    description: str
    days: int
    seed: int
    faults: tuple[PlannedFault, ...]
    train_on: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Head:
    """A scenario's file, less its faults."""

    name: Annotated[str, Field(min_length=1)]
    days: Annotated[int, Field(ge=1, le=1000)]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    train_on: tuple[int, ...] = ()


def read_scenario(path: Path, site: Site) -> Scenario:
    """A scenario from its file, checked against the plant it is for.

    Raises:
        UnknownName: a fault kind, a target, a location or a key that does not exist; lists those that do.
        ConfigurationError: there is no such file, it is no TOML, or a value is wrong. Both name file and line.
    """
    return read_file(path, lambda document: scenario_from_toml(document, site))


def read_file(path: Path, meaning: Callable[[Mapping[str, Any]], T]) -> T:
    """What a scenario's file says.

    Args:
        meaning: gives a parsed document its meaning; says in an error's `at` where it stands.

    Raises:
        ConfigurationError: there is no such file, it is no TOML, or what `meaning` raised, with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.", next_step="Give a scenario's file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.", next_step="Mend the file.") from error
    try:
        return meaning(document)
    except ConfigurationError as error:
        line = line_of(text, error.at)
        where = f"{path}, line {line}" if line else str(path)
        if isinstance(error, UnknownName):
            raise UnknownName(
                f"{error.kind} ({where})", error.name, error.valid, next_step=error.next_step, at=error.at
            ) from error
        raise ConfigurationError(f"{where}: {error.problem}", next_step=error.next_step, at=error.at) from error


def scenario_from_toml(document: Mapping[str, Any], site: Site) -> Scenario:
    """Give a parsed scenario its meaning; raises as `read_scenario` does, saying where in `at`."""
    head = settings_from(_Head, {k: v for k, v in document.items() if k != "faults"}, where="scenario")
    tables = document.get("faults", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError("faults is no array of tables.", next_step="Write [[faults]].", at=("faults",))
    faults = tuple(_fault(n, table, head, site) for n, table in enumerate(tables))
    for day in head.train_on:
        if not 0 <= day < head.days:
            raise ConfigurationError(
                f"train_on names day {day} of {head.days}.", next_step="Days count from 0.", at=("train_on",)
            )
    return Scenario(head.name, head.description, head.days, head.seed, faults, head.train_on)


def _fault(number: int, table: Mapping[str, Any], head: _Head, site: Site) -> PlannedFault:
    kind = table.get("kind")
    if kind not in FAULT_KINDS:
        raise UnknownName("fault kind", str(kind), FAULT_KINDS, at=("faults", number, "kind"))
    options = _ALWAYS | _OPTIONS.get(kind, frozenset())
    for key in table:
        if key not in options:
            raise UnknownName(f"setting of fault {kind}", key, options, at=("faults", number, key))
    try:
        fault = settings_from(PlannedFault, table, where=f"fault {number + 1}, {kind}")
    except ConfigurationError as error:
        error.at = ("faults", number, *error.at)
        raise
    targets, locations = [t.name for t in site.targets], [loc.name for loc in site.locations]
    if fault.target is not None and fault.target not in targets:
        raise UnknownName(f"target at site {site.name}", fault.target, targets, at=("faults", number, "target"))
    if fault.location is not None and fault.location not in locations:
        raise UnknownName(f"location at site {site.name}", fault.location, locations, at=("faults", number, "location"))
    if fault.day >= head.days:
        raise ConfigurationError(
            f"fault {number + 1} is on day {fault.day}, the scenario has {head.days}, counted from 0.",
            next_step="Raise days, or move the fault.",
            at=("faults", number, "day"),
        )
    return fault


FAULTS_A_DAY = 120
_SHARES: Mapping[FaultKind, float] = {
    "target_dies": 3,
    "target_hangs": 2,
    "target_flaps": 3,
    "target_refuses": 2,
    "target_late": 2,
    "target_wrong": 2,
    "location_cut": 1.5,
    "model_corrupt": 1,
    "model_missing": 1,
    "model_slow": 1,
    "telemetry_missing": 0.1,
    "telemetry_stuck": 0.1,
    "state_locked": 1,
    "worker_killed": 3,
    "clock_step": 1,
}
"""How often each kind is drawn, against the others. A day of bad telemetry lasts, so that few of them fill a week."""
_NIGHTS = 3
_STUCK_EVERY = 4


def drawn_scenario(site: Site, *, seed: int, faults: int) -> Scenario:
    """So many faults, drawn from a seed and spread over as many days as they need.

    They gather around the times at which windows are served: faults that meet nobody would prove nothing.
    """
    rng = random.Random(f"scenario:{seed}")  # noqa: S311 - faults need no secrecy
    days = max(1, math.ceil(faults / FAULTS_A_DAY))
    kinds, shares = list(_SHARES), list(_SHARES.values())
    drawn = [_drawn(rng, rng.choices(kinds, shares)[0], days, site) for _ in range(faults)]
    nights = sorted({round((n + 1) * days / (_NIGHTS + 1)) for n in range(_NIGHTS)} & set(range(1, days)))
    return Scenario(
        name=f"drawn from seed {seed}",
        description=f"{faults} faults over {days} days",
        days=days,
        seed=seed,
        faults=tuple(sorted(drawn, key=lambda f: f.start_s)),
        train_on=tuple(nights),
    )


SERVED_AT_S = (60.0, DAY_S / 2 + 60.0)
"""When, on each day of a rehearsal, readings are taken up: those since noon, then those since midnight."""


def _drawn(rng: random.Random, kind: FaultKind, days: int, site: Site) -> PlannedFault:
    day, serving_s = rng.randrange(days), rng.choice(SERVED_AT_S)
    # Half of them are there before a window is served, half begin while its troubles are being mended.
    at_s = serving_s + (rng.uniform(-55, 0) if rng.random() < 0.5 else rng.uniform(0, 3600))
    minutes = math.exp(rng.uniform(math.log(1), math.log(90)))
    if kind == "location_cut":
        minutes = rng.uniform(60, 360)
    elif kind == "state_locked":
        minutes = rng.uniform(0.2, 2)
    elif kind in OF_TELEMETRY:
        # Over the next night, on some of which the plant trains, and often over the readings of the days after.
        at_s, minutes = rng.uniform(0, DAY_S / 2), rng.uniform(18 * 60, 60 * 60)
    if kind == "telemetry_stuck":
        # What it repeats stays on record: were it of most days of a week, that many readings would be the custom.
        day -= day % _STUCK_EVERY
    values: dict[str, Any] = {}
    if kind in OF_TARGETS:
        # Work goes where it is best: a fault elsewhere shows only when that has failed too.
        values["target"] = None if rng.random() < 0.3 else rng.choice([t.name for t in site.targets])
        values["probability"] = rng.choice((1.0, 0.7, 0.4))
    elif kind == "location_cut":
        values["location"] = rng.choice([loc.name for loc in site.locations])
    elif kind in ("worker_killed", "state_locked"):
        values["after"] = rng.randint(1, 90)
    if kind in ("target_late", "model_slow"):
        values["seconds"] = round(rng.uniform(5, 90), 1)
    elif kind == "clock_step":
        values["seconds"] = rng.choice((-3600.0, 3600.0))
    second = int(at_s)
    at = time(second // 3600, second // 60 % 60, second % 60)
    return PlannedFault(kind=kind, day=day, at=at, minutes=round(minutes, 2), **values)
