"""`hybrid doctor`: is this installation sound, where does each plant stand, and what has to be done."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from backbone.compiled_modules import INTERPRETED, compiled
from backbone.errors import HybridError, NotCommissioned
from cli.reporting import Report
from resources.home import Home
from resources.plant import Catalog, Plant

_LOW_SPACE_BYTES = 1 << 30
_MARK = {"ok": "ok  ", "note": "note", "wrong": "FAIL"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `next_step` is empty where there is nothing to do."""

    level: Literal["ok", "note", "wrong"]
    subject: str
    found: str
    next_step: str = ""


def examine(*, as_json: bool) -> int:
    """Look at everything, change nothing.

    Returns:
        1 if something is wrong, else 0.
    """
    home = Home.from_environment()
    findings = list(_installation(home))
    try:
        catalog = Catalog(home)
        sites = catalog.sites
    except HybridError as error:
        findings.append(Finding("wrong", "configuration", error.problem, error.next_step))
        sites = {}
    else:
        findings.append(Finding("ok", "configuration", f"{len(catalog.contracts)} contracts, {len(sites)} sites"))
    for name in sites:
        plant = Plant(catalog, name)
        for equipment_class in plant.site.classes:
            findings += _fleet(plant, equipment_class)
    findings += _lineage(home)
    lines = [
        f"{_MARK[f.level]}  {f.subject}: {f.found}" + (f"\n      → {f.next_step}" if f.next_step else "")
        for f in findings
    ]
    Report(as_json=as_json).result({"findings": [asdict(f) for f in findings]}, lines)
    return int(any(f.level == "wrong" for f in findings))


def _installation(home: Home) -> Iterator[Finding]:
    yield Finding("ok", "python", sys.version.split()[0])
    yield _compiled()
    yield Finding("ok", "home", f"{home.root}{'' if home.root.exists() else ' (made on the first run)'}")
    yield from _instance(home)
    folder = next(p for p in (home.root, *home.root.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if free < _LOW_SPACE_BYTES:
        yield Finding("wrong", "disk", f"{free / 1e9:.1f} GB free", "Free some space; runs fail when a store is full.")
    else:
        yield Finding("ok", "disk", f"{free / 1e9:.0f} GB free")


def _compiled() -> Finding:
    """Whether the modules that readings pass through run compiled."""
    subject = "compiled modules"
    if compiled.made is None:
        return Finding("ok", subject, "none, all runs from source")
    if compiled.in_use:
        return Finding("ok", subject, f"{len(compiled.made.modules) - 1}, by {compiled.made.by}")
    if os.environ.get(INTERPRETED):
        return Finding("note", subject, f"not used, as {INTERPRETED} is set")
    return Finding("note", subject, "not used, as their sources were changed since", "make install")


def _instance(home: Home) -> Iterator[Finding]:
    """Dagster's settings are written once; a home of an earlier release may lack what answers depend on."""
    settings = home.dagster / "dagster.yaml"
    if not settings.exists():
        return
    text = settings.read_text(encoding="utf-8")
    missing = [key for key in ("free_slots_after_run_end_seconds", "poll_interval_seconds") if key not in text]
    if missing:
        yield Finding(
            "wrong",
            "dagster.yaml",
            f"run_monitoring lacks {' and '.join(missing)}: windows of a run that is killed may wait for ever",
            f"Move {settings} away; the next start writes it anew.",
        )


def _lineage(home: Home) -> Iterator[Finding]:
    """Where events go, and what became of those that could not."""
    from resources.lineage.relay import BACKEND
    from resources.lineage.transports import destination
    from resources.state.database import Database
    from resources.state.outbox import Outbox

    try:
        to = destination(home.root)
        outbox = Outbox(Database(home.state_url))
        standing, troubles, backend = outbox.standing(), outbox.troubles(), outbox.mark(BACKEND)
    except HybridError as error:
        yield Finding("wrong", "lineage", error.problem, error.next_step)
        return
    counts = f"{standing.delivered} events delivered, {standing.pending} pending"
    yield Finding(
        "note" if backend else "ok", "lineage", f"{counts}, to {to}" + (f"; {backend['why']}" if backend else "")
    )
    if standing.set_aside:
        newest = outbox.all_set_aside(limit=1)[0]
        yield Finding(
            "wrong",
            "lineage",
            f"{standing.set_aside} events set aside, the newest since {newest.reason}",
            "hybrid lineage status lists them; hybrid lineage relay --again gives them another try.",
        )
    if troubles:
        yield Finding(
            "wrong",
            "lineage",
            f"{len(troubles)} runs cannot be read, such as {troubles[0].run_id}: {troubles[0].trouble}",
            "They are tried again by themselves; report it if it lasts.",
        )


def _fleet(plant: Plant, equipment_class: str) -> Iterator[Finding]:
    from quality.reconciliation import reconcile

    subject = f"{plant.site.name}/{equipment_class}"
    try:
        plant.source(equipment_class)
        progress = plant.progress(equipment_class)
    except HybridError as error:
        yield Finding("wrong", subject, error.problem, error.next_step)
        return
    due = sum(progress.served.get(day) != fingerprint for day, fingerprint in progress.landed.items())
    counts = f"{len(progress.landed)} windows landed, {len(progress.served)} served, {due} due"
    yield Finding("note" if due else "ok", subject, counts, f"hybrid run --site {plant.site.name}" if due else "")
    balance = reconcile(plant, equipment_class)
    wrong = [day for day, accepted, kept in balance if accepted != kept]
    if wrong:
        yield Finding(
            "wrong",
            subject,
            f"accepted ≠ stored + quarantined in {len(wrong)} windows, first {wrong[0]}",
            f"hybrid run --site {plant.site.name} --from {wrong[0]}",
        )
    elif balance:
        yield Finding("ok", subject, f"{sum(a for _, a, _ in balance)} rows accepted = stored + quarantined")
    yield from _release(plant, equipment_class, subject)


def _release(plant: Plant, equipment_class: str, subject: str) -> Iterator[Finding]:
    try:
        release = plant.registry(equipment_class).current()
    except NotCommissioned:
        yield Finding("note", subject, "no release yet, the rules serve")
    except HybridError as error:
        yield Finding("wrong", subject, error.problem, error.next_step)
    else:
        refused = "; ".join(release.passed_over)
        if refused:
            yield Finding(
                "wrong", subject, f"{release.name} serves, since newer ones do not verify: {refused}", "Train again."
            )
        else:
            yield Finding("ok", subject, f"release {release.name} verified")
