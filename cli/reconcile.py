"""`hybrid reconcile`: whether everything that a site's gateways have acknowledged is somewhere, and once."""

from __future__ import annotations

import json
from collections.abc import Mapping

from backbone.errors import ConfigurationError
from gateway.reconciliation import Reconciliation, reconcile_site
from resources.home import Home
from resources.plant import Catalog, Plant


def reconcile(site: str, *, as_json: bool) -> int:
    """Print what became of it.

    Returns:
        The exit code: 1 where something is missing or there twice.

    Raises:
        ConfigurationError: no gateway has ever worked for the site here.
    """
    found = reconcile_site(Plant(Catalog(Home.from_environment()), site))
    if not found:
        raise ConfigurationError(
            f"No gateway has taken in anything for {site} here.",
            next_step=f"Start one with hybrid gateway --site {site}, or look where it keeps its store.",
        )
    total = Reconciliation()
    for one in found.values():
        total = total.plus(one)
    if as_json:
        gateways = {name: one.to_dict() for name, one in found.items()}
        print(json.dumps({"site": site, **total.to_dict(), "gateways": gateways}, indent=2))
    else:
        print("\n".join(_lines(site, total, found)))
    return 0 if total.holds else 1


def _lines(site: str, total: Reconciliation, found: Mapping[str, Reconciliation]) -> list[str]:
    lines = [f"{site}: {total.accepted} accepted by {', '.join(found)}"]
    for name, text in _TEXTS.items():
        number = getattr(total, name)
        if number or name in ("stored", "missing", "twice"):
            lines.append(f"  {number:>12}  {text}")
    for fleet, counts in total.fleets.items():
        lines.append(f"  of {fleet}: {counts.stored} stored, {counts.quarantined} of them to quarantine")
    if total.missing:
        lines.append(f"  missing positions: {', '.join(total.missing_positions)}")
    if total.twice:
        lines.append(f"  twice: {', '.join(total.twice_ids)}")
    if aside := str(total.set_aside):
        lines.append(f"  no records any more, beside the spool: {aside}")
    return lines


_TEXTS = {
    "stored": "stored in landing tables",
    "quarantined": "of these to quarantine",
    "dead_lettered": "dead letters",
    "spooled": "spooled, to land",
    "dropped": "dropped by a full spool, as it is set to",
    "missing": "missing",
    "twice": "there twice",
}
