"""`hybrid cost`: what a plant's work has cost, beside all of it in the cloud and all of it on premises."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from backbone.costs import Done, Outage, elsewhere, outage, spent
from backbone.errors import ConfigurationError
from backbone.requirements import LocationKind
from cli.as_it_stands import PlantAsItStands
from cli.reporting import Report
from resources.home import Home
from resources.plant import Catalog, Plant

_PERIOD_DAYS = 30
_COMPARED: tuple[LocationKind, ...] = ("cloud", "on_prem")


def report_cost(site: str, first: date | None, last: date | None, *, as_json: bool) -> None:
    """Sum up a period, both days included; default: the last thirty days.

    Raises:
        UnknownName: there is no such site.
    """
    plant, report = PlantAsItStands(Catalog(Home.from_environment()), site), Report(as_json=as_json)
    if plant.untouched is not None:
        report.note(plant.untouched)
    today = plant.clock.now().date()
    last = last or today
    first = first or last - timedelta(days=_PERIOD_DAYS - 1)
    if last < first:
        raise ConfigurationError(f"--to {last} lies before --from {first}.", next_step="Swap them.")
    since, until = (datetime.combine(day, time(), UTC) for day in (first, last + timedelta(days=1)))
    done = [
        Done(w.workload, w.location, w.state == "succeeded", w.seconds or 0.0, w.moved_gb, w.cost, w.placement)
        for w in plant.works.all(since=since, until=until)
        if w.state != "running"
    ]
    kinds = {location.name: location.kind for location in plant.site.locations}
    compared = [elsewhere(done, kind, kinds) for kind in _COMPARED]
    degraded = _outage(plant, since, until)
    total = sum(one.cost for one in done)
    document: dict[str, Any] = {
        "site": site,
        "first": first,
        "last": last,
        "currency": plant.site.currency,
        "cost": total,
        "spent": [asdict(s) for s in spent(done)],
        **{f"all_{e.kind}": asdict(e) for e in compared},
        "outage": asdict(degraded)
        | {"windows_per_hour": degraded.windows_per_hour, "advisories_per_hour": degraded.advisories_per_hour},
    }
    report.result(document, _lines(document, degraded))


def _outage(plant: Plant, since: datetime, until: datetime) -> Outage:
    now = plant.clock.now()
    return outage(
        [
            (f"{equipment_class} {day}", machines, max(at, since), min(mended or now, until))
            for equipment_class in plant.site.classes
            for day, machines, at, mended in plant.answers(equipment_class).degradations(since, until)
        ]
    )


def _lines(document: dict[str, Any], degraded: Outage) -> list[str]:
    currency = document["currency"]
    lines = [f"{document['site']}, {document['first']} to {document['last']}: {document['cost']:.4f} {currency}", ""]
    for s in document["spent"]:
        failed = f", {s['failed']} of them failed" if s["failed"] else ""
        lines.append(
            f"  {s['workload']:<12} {s['location']:<12} {s['tries']:>5} tries{failed}, {s['seconds']:.1f} s, "
            f"{s['moved_gb']:.4f} GB, {s['cost']:.4f} {currency}"
        )
    lines.append("")
    for kind in _COMPARED:
        e = document[f"all_{kind}"]
        notes = [f"policy forbids {e['forbidden']}"] if e["forbidden"] else []
        notes += [f"no target there for {e['impossible']}, left out"] if e["impossible"] else []
        said = f" ({'; '.join(notes)})" if notes else ""
        lines.append(f"  all of it {kind:<8} {e['cost']:.4f} {currency} expected{said}")
    lines.append("")
    if degraded.hours:
        lines.append(
            f"  outages: {degraded.hours:.2f} hours in which {degraded.windows} windows with {degraded.advisories} "
            f"advisories stood answered second best: {degraded.advisories_per_hour:.1f} advisories an hour"
        )
    else:
        lines.append("  outages: none; every window was answered by the best there was")
    return lines
