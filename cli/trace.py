"""`hybrid trace`: why an advisory exists, down to the sensor readings."""

from __future__ import annotations

from cli.reporting import Report
from resources.home import Home
from resources.lineage.index import LineageIndex
from resources.lineage.trace import beside_records, lines, trace
from resources.state.database import Database


def explain(advisory: str, *, readings: bool, as_json: bool) -> None:
    """Print the trace of an advisory, from events alone; then the machine's readings, from the plant's own store.

    Args:
        readings: False leaves the second part out.

    Raises:
        UnknownName: no event tells of it; lists near ones.
    """
    home, report = Home.from_environment(), Report(as_json=as_json)
    database = Database(home.state_url)
    found = beside_records(trace(LineageIndex(database), advisory), database)
    document, told = found.to_dict() if as_json else {}, lines(found)
    if readings:
        from cli.readings import readings_of

        rows = readings_of(found, home)
        if isinstance(rows, str):
            document["readings"] = {"not_read": rows}
            told.append(f"readings of {found.advisory.equipment}: not read, {rows}")
        else:
            document["readings"] = rows.to_dict()
            told += rows.lines()
    report.result(document if as_json else {}, told)
