"""`hybrid impact`: which features, models and open advisories a bad sensor touched."""

from __future__ import annotations

from datetime import date

from cli.reporting import Report
from resources.home import Home
from resources.lineage.impact import impact, lines
from resources.lineage.index import LineageIndex
from resources.state.database import Database

_CARRIES = ("condition_features",)
"""Features keep a state from one window to the next: sums, trends, what a machine was like since it was new."""


def explain(equipment: str, sensor: str, first: date, last: date, site: str | None, *, as_json: bool) -> None:
    """Print what a sensor's readings of some days, both included, went into.

    Raises:
        UnknownName: no event tells of such a machine or column.
    """
    from maintenance.advisories import SAFE_DEFAULT

    index = LineageIndex(Database(Home.from_environment().state_url))
    found = impact(index, equipment, sensor, first, last, site, carries=_CARRIES, constant=(SAFE_DEFAULT,))
    Report(as_json=as_json).result(found.to_dict() if as_json else {}, lines(found))
