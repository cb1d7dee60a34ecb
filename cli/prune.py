"""`hybrid prune`: what of tables nobody needs any more, and of what spools set aside, goes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from cli.durations import duration
from cli.reporting import Report
from gateway.exchange import Folders
from gateway.set_aside import DAMAGED
from resources.home import Home
from resources.plant import Catalog, Plant
from resources.pruning import prune_tables
from resources.stores.opened import NOTHING, Size
from resources.stores.prune import Pruned


def prune(site: str | None, older_than: str, *, damaged: bool, dry_run: bool, as_json: bool) -> int:
    """Remove it, and print how much of each table that is.

    Args:
        older_than: such as `7d`: a version stays that was the newest at some time since then.
        damaged: also what spools set aside as damaged before that.

    Returns:
        The exit code: 1 where a table could not be pruned.

    Raises:
        UnknownName: there is no such site.
        ConfigurationError: the time makes no sense, or is less than an hour.
    """
    catalog, age = Catalog(Home.from_environment()), duration(older_than)
    plants = [Plant(catalog, name) for name in ([site] if site else catalog.sites)]
    tables = dict(prune_tables(plants, age, dry_run=dry_run))
    aside = _prune_damaged(plants, age, dry_run=dry_run) if damaged else {}
    done = {name: told for name, told in tables.items() if isinstance(told, Pruned)}
    troubles = {name: told for name, told in tables.items() if isinstance(told, str)}
    gone = _sum([size for told in done.values() for size in (told.data, told.log)] + list(aside.values()))
    document = {
        "older_than_s": age.total_seconds(),
        "dry_run": dry_run,
        "removed": _size(gone),
        "kept": _size(_sum([told.kept for told in done.values()])),
        "tables": {name: _document(told) for name, told in done.items()},
        "damaged": {name: _size(size) for name, size in aside.items()},
        "troubles": troubles,
    }
    Report(as_json=as_json).result(document, _lines(done, troubles, aside, gone, dry_run=dry_run))
    return 1 if troubles else 0


def _prune_damaged(plants: Sequence[Plant], older_than: timedelta, *, dry_run: bool) -> dict[str, Size]:
    """Gateway → damaged parts of its spool that are as old."""
    found: dict[str, Size] = {}
    for plant in plants:
        before_s = (plant.clock.now() - older_than).timestamp()
        for gateway in sorted((plant.root("edge") / "gateway" / plant.site.name).glob("*")):
            files = [f for f in (Folders(gateway).spool / DAMAGED).glob("*") if f.stat().st_mtime <= before_s]
            if files:
                found[f"{plant.site.name}/{gateway.name}"] = Size.of(files)
            for file in files if not dry_run else ():
                file.unlink(missing_ok=True)
    return found


def _sum(sizes: Sequence[Size]) -> Size:
    total = NOTHING
    for size in sizes:
        total = total.plus(size)
    return total


def _size(size: Size) -> dict[str, int]:
    return {"files": size.files, "bytes": size.bytes}


def _document(told: Pruned) -> dict[str, Any]:
    return {
        "data": _size(told.data),
        "log": _size(told.log),
        "kept": _size(told.kept),
        "since_version": told.since,
    }


def _lines(
    done: dict[str, Pruned], troubles: dict[str, str], aside: dict[str, Size], gone: Size, *, dry_run: bool
) -> list[str]:
    lines = []
    for name, told in done.items():
        if told.data.files or told.log.files:
            parts = [
                f"{_shown(size)} of {what}" for what, size in (("data", told.data), ("log", told.log)) if size.files
            ]
            lines.append(f"{name}: {', '.join(parts)}; {_shown(told.kept)} stay, readable since version {told.since}")
    lines += [f"{name}: {_shown(size)} that the spool set aside as damaged" for name, size in aside.items()]
    lines += [f"{name}: not pruned: {why}" for name, why in troubles.items()]
    return [*lines, f"{'would go' if dry_run else 'gone'}: {_shown(gone)}"]


def _shown(size: Size) -> str:
    return f"{size.files} files ({size.bytes / 1e6:.1f} MB)"
