"""`hybrid block` and `hybrid unblock`: what is to be left alone for a while, as people announce it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from backbone.errors import ConfigurationError, UnknownName
from backbone.placement import BlockedTarget
from cli.as_it_stands import PlantAsItStands
from cli.durations import duration
from cli.reporting import Report
from resources.dispatch import alternatives_of
from resources.home import Home
from resources.plant import Catalog, Plant

_LONGEST = timedelta(days=366)


def block(
    site: str,
    target: str | None,
    location: str | None,
    workload: str | None,
    *,
    lasts: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Leave alone what is named, all of it together; what is not named is a wildcard.

    Args:
        workload: its name, or that of one of its alternatives.
        lasts: such as `45m`, `2h` or `1h30m`.

    Raises:
        UnknownName: there is no such site, target, location or workload; lists those there are.
        ConfigurationError: nothing is named; time or reason is missing or makes no sense; there is no home.
    """
    plant = _plant(site)
    _check(plant, target, location, workload)
    if lasts is None or not (reason or "").strip():
        raise ConfigurationError(
            "A block needs its time and its reason.", next_step='Say --for 2h --reason "cluster maintenance".'
        )
    until = plant.clock.now() + _lasts(lasts)
    made = plant.dispatcher.blocks.announce(
        until, str(reason).strip(), target=target, location=location, workload=workload
    )
    leaves = {name: chosen for name in plant.site.workloads if (chosen := _runs_at(plant, name)) is not None}
    lines = [_line(made)]
    lines += [f"  {name} would now run on {leaves[name]}" for name in leaves]
    lines += [f"  no target is left for {name}" for name in plant.site.workloads if name not in leaves]
    document = {"site": site, **_document(made), "now_runs_on": {w: leaves.get(w) for w in plant.site.workloads}}
    Report(as_json=as_json).result(document, lines)


def unblock(site: str, target: str | None, location: str | None, workload: str | None, *, as_json: bool) -> None:
    """End the blocks of exactly what is named, whether somebody announced or a failure made them.

    Raises:
        UnknownName: no such site or names, or nothing of that kind is blocked; lists what is.
        ConfigurationError: nothing is named, or there is no home.
    """
    plant = _plant(site)
    _check(plant, target, location, workload)
    blocks, named = plant.dispatcher.blocks, {"target": target, "location": location, "workload": workload}
    active = blocks.active(plant.clock.now())
    ended = [b for b in active if (b.target, b.location, b.workload) == (target, location, workload)]
    if not ended:
        scope = BlockedTarget(plant.clock.now(), "", target, location, workload).scope
        raise UnknownName(f"block at site {site}", scope, [b.scope for b in active], next_step="Name it as it was.")
    blocks.lift(**named)
    lines = [f"{ended[0].scope} is no longer left alone"]
    Report(as_json=as_json).result({"site": site, "ended": [_document(b) for b in ended]}, lines)


def list_blocks(site: str, *, as_json: bool) -> None:
    """Tell what is left alone now, what ends first before the others.

    Raises:
        UnknownName: there is no such site.
    """
    plant, report = PlantAsItStands(Catalog(Home.from_environment()), site), Report(as_json=as_json)
    if plant.untouched is not None:
        report.note(plant.untouched)
    active = plant.dispatcher.blocks.active(plant.clock.now())
    lines = [_line(b) for b in active] or [f"nothing is left alone at {site}"]
    report.result({"site": site, "blocks": [_document(b) for b in active]}, lines)


def _plant(site: str) -> Plant:
    """The plant, to be written to: so that a mistyped home is not made."""
    home = Home.from_environment()
    if not home.root.is_dir():
        raise ConfigurationError(
            f"There is no {home.root}, so nothing runs that could leave anything alone.",
            next_step="Set HYBRID_HOME to the plant's home, or begin one with `hybrid up`.",
        )
    return Plant(Catalog(home), site)


def _check(plant: Plant, target: str | None, location: str | None, workload: str | None) -> None:
    site = plant.site
    if target is None and location is None and workload is None:
        raise ConfigurationError(
            "Nothing is named that could be blocked.",
            next_step=f"Name a --target ({', '.join(t.name for t in site.targets)}), a --location "
            f"({', '.join(at.name for at in site.locations)}) or a --workload ({', '.join(alternatives_of(site))}).",
        )
    if location is not None:
        site.location(location)
    if target is not None and location not in (None, at := site.target(target).location):
        raise ConfigurationError(
            f"Target {target} is at {at}, not at {location}: this would block nothing.", next_step="Name one of them."
        )
    if workload is not None and workload not in (known := alternatives_of(site)):
        raise UnknownName(f"workload at site {site.name}", workload, known)


def _lasts(text: str) -> timedelta:
    lasts = duration(text)
    if not timedelta(0) < lasts <= _LONGEST:
        raise ConfigurationError(
            f"{text} is out of range.", next_step="Block for more than 0s and at most 366d; or change the site's file."
        )
    return lasts


def _runs_at(plant: Plant, workload: str) -> str | None:
    chosen = plant.dispatcher.place(workload).chosen
    return chosen.candidate.target if chosen is not None else None


def _document(b: BlockedTarget) -> dict[str, Any]:
    return {
        "target": b.target,
        "location": b.location,
        "workload": b.workload,
        "until": b.until.isoformat(),
        "reason": b.why,
        "announced": b.announced,
    }


def _line(b: BlockedTarget) -> str:
    who = "announced" if b.announced else "failed"
    return f"{b.scope} is left alone until {b.until:%Y-%m-%d %H:%M:%S} UTC ({who}): {b.why}"
