"""`hybrid trace`: why an advisory exists, down to the sensor readings."""

from __future__ import annotations

from cli.reporting import Report
from resources.home import Home
from resources.lineage.index import LineageIndex
from resources.lineage.trace import beside_records, lines, trace
from resources.state.database import Database


def explain(advisory: str, *, as_json: bool) -> None:
    """Print the trace of an advisory.

    Raises:
        UnknownName: no event tells of it; lists near ones.
    """
    database = Database(Home.from_environment().state_url)
    found = beside_records(trace(LineageIndex(database), advisory), database)
    Report(as_json=as_json).result(found.to_dict() if as_json else {}, lines(found))
