"""`hybrid lineage`: deliver what runs have done as OpenLineage events, and see how that stands."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backbone.errors import HybridError
from cli.reporting import Report
from resources.clock import SystemClock
from resources.home import Home
from resources.lineage.relay import BACKEND
from resources.lineage.transports import Destination, destination
from resources.state.database import Database
from resources.state.outbox import Outbox, Standing

if TYPE_CHECKING:
    from resources.lineage.relay import Relay

ROUND_S = 30.0
AFTER_RUN_S = 20.0
_PAUSE_S = 2.0


def relay(*, follow: bool, again: bool, as_json: bool) -> int:
    """Read what there is and deliver it; with `follow`, until interrupted.

    Args:
        again: what was set aside gets another try first.

    Returns:
        1 where events are left that could not be delivered, else 0.

    Raises:
        ConfigurationError: the configuration of the OpenLineage client is wrong.
    """
    report = Report(as_json=as_json)
    home = Home.from_environment().prepare()
    to = destination(home.root)
    outbox = Outbox(Database(home.state_url))
    total: dict[str, Any] = {"to": str(to), "new": 0, "delivered": 0, "filtered": 0, "set_aside": 0}
    if again:
        total["tried_again"], total["read_again"] = outbox.again()
    relay = _open(home, to)
    try:
        with _interrupted_between_rounds() as interrupted:
            while True:
                done = relay.relay(ROUND_S)
                for name in ("new", "delivered", "filtered", "set_aside"):
                    total[name] += getattr(done, name)
                for trouble in done.troubles:
                    report.note(trouble)
                if done.idle and not follow and done.held_by is None:
                    break
                if done.waits and not follow:
                    break
                if interrupted.wait(_PAUSE_S if done.idle else 0):
                    report.note("ended; what is left is delivered next time")
                    break
    finally:
        relay.close()
    standing = outbox.standing()
    left = total | {"pending": standing.pending, "waits": done.waits}
    lines = [f"{total['new']} new events, {total['delivered']} delivered to {to}"]
    if standing.pending:
        lines.append(f"{standing.pending} wait" + (f": {done.waits}" if done.waits else ""))
    if total["set_aside"]:
        lines.append(f"{total['set_aside']} set aside: hybrid lineage status says why")
    report.result(left, lines)
    return int(standing.pending > 0 and to.channel is not None)


@contextmanager
def _interrupted_between_rounds() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C, so that the round under way is counted to its end; the second ends it at once."""
    asked, before = threading.Event(), signal.getsignal(signal.SIGINT)

    def first(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, first)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def relay_after_run(home: Home, report: Report) -> None:
    """What `hybrid run` did is told at its end, where no daemon does it; trouble with that is no trouble of the run."""
    try:
        relay = _open(home, destination(home.root))
        try:
            done = relay.relay(AFTER_RUN_S)
        finally:
            relay.close()
    except HybridError as error:
        report.note(f"lineage waits: {error}")
        return
    for trouble in done.troubles:
        report.note(f"lineage: {trouble}")


def _open(home: Home, to: Destination) -> Relay:
    os.environ["HYBRID_HOME"], os.environ["DAGSTER_HOME"] = str(home.root), str(home.dagster)
    import dagster as dg

    from hybrid_assets.definitions import defs
    from resources.bindings.lineage_relay import relay_of
    from resources.bindings.plants import Plants

    graph = defs.resolve_asset_graph()
    return relay_of(dg.DagsterInstance.get(), Plants(home=str(home.root)), graph=graph, clock=SystemClock(), to=to)


def status(*, as_json: bool) -> int:
    """How delivery stands; reads the outbox only.

    Returns:
        1 where something has to be done, else 0.
    """
    home = Home.from_environment()
    to = destination(home.root)
    outbox = Outbox(Database(home.state_url))
    standing, aside, troubles = outbox.standing(), outbox.all_set_aside(), outbox.troubles()
    backend = outbox.mark(BACKEND)
    document = {
        "to": str(to),
        "pending": standing.pending,
        "delivered": standing.delivered,
        "set_aside": standing.set_aside,
        "oldest": _oldest(standing),
        "backend": backend and {"down_since": _time(backend["since"]), "why": backend["why"]},
        "set_aside_newest": [{**asdict(a), "key": a.key._asdict()} for a in aside],
        "unreadable_runs": [{"run_id": f.run_id, "why": f.trouble} for f in troubles],
    }
    Report(as_json=as_json).result(document, _lines(document, standing))
    return int(bool(standing.set_aside or troubles or backend))


def _lines(document: dict[str, Any], standing: Standing) -> list[str]:
    lines = [
        f"events go to {document['to']}",
        f"{standing.delivered} delivered, {standing.pending} pending, {standing.set_aside} set aside",
    ]
    if (oldest := document["oldest"]) is not None:
        error = f": {oldest['error']}" if oldest["error"] else ""
        lines.append(f"oldest pending: {oldest['type']} of {oldest['subject']}, kept {oldest['since']}{error}")
    if document["backend"]:
        lines.append(
            f"the backend is left alone since {document['backend']['down_since']}: {document['backend']['why']}"
        )
    for aside in document["set_aside_newest"]:
        key = aside["key"]
        lines.append(f"set aside: event {aside['seq']}, {key['type']} of {key['subject']}: {aside['reason']}")
    if document["set_aside_newest"]:
        lines.append("      → hybrid lineage relay --again, when the cause is gone")
    lines += [f"cannot be read: run {t['run_id']}: {t['why']}" for t in document["unreadable_runs"]]
    return lines


def _oldest(standing: Standing) -> dict[str, Any] | None:
    if standing.oldest is None:
        return None
    seq, key, error, since = standing.oldest
    return {"seq": seq, **key._asdict(), "error": error, "since": _time(since.timestamp())}


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
