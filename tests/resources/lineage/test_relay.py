"""From recorded runs to a backend: nothing lost, in order per run, the same bytes, whatever is killed in between."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backbone.lineage.events import canonical
from resources.clock import SystemClock
from resources.lineage.relay import OVERLAP_S, SETTLED_S, Relay, Relayed
from resources.lineage.transports import NdjsonFile, destination
from resources.state.database import Database
from resources.state.outbox import Followed, Outbox
from tests.resources.lineage.backend import Backend
from tests.resources.lineage.events import FakeHistory, event, pair, run_id

START = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Clock:
    """Time that passes when it is told to."""

    at: datetime = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Site:
    """A relay with everything around it."""

    database: Database
    file: Path
    history: FakeHistory
    clock: Clock

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.database)

    def relay(self, seconds: float = 60.0) -> Relayed:
        """As a process that starts, relays and ends."""
        relay = Relay(self.outbox, self.history, destination(self.file.parent.parent), self.clock)
        try:
            return relay.relay(seconds)
        finally:
            relay.close()

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]


@pytest.fixture
def site(database: Database, tmp_path: Path) -> Site:
    return Site(database, tmp_path / "home" / "lineage" / "events.ndjson", FakeHistory(), Clock())


def test_a_run_is_followed_while_it_goes_on_and_after_it_has_ended(site: Site) -> None:
    site.history.record("a", [event("a", "START")], updated=1.0)
    assert site.relay().delivered == 1
    assert site.relay().idle
    site.history.runs["a"].append(event("a", "COMPLETE", 5))  # its update time stays: only its log has grown
    assert site.relay().delivered == 1
    site.history.record("a", site.history.runs["a"], updated=9.0, ended=site.clock.now().timestamp())
    assert site.relay().new == 0
    site.history.runs["a"].append(event("a", "LATE", 6))
    assert site.relay().delivered == 1
    site.clock.sleep(SETTLED_S)
    site.relay()
    assert site.outbox.open_runs("fake") == {}
    assert [e["eventType"] for e in site.lines()] == ["START", "COMPLETE", "LATE"]


def test_what_has_settled_is_read_no_more(site: Site) -> None:
    for n in range(20):
        site.history.record(f"r-{n}", pair(f"r-{n}"), updated=float(n), ended=0.0)
    site.relay()
    site.history.reads.clear()
    assert site.relay().idle
    assert site.history.reads == []


def test_a_run_whose_update_is_seen_late_is_not_missed(site: Site) -> None:
    site.history.record("a", pair("a"), updated=10_000.0, ended=0.0)
    site.relay()
    site.history.record("b", pair("b"), updated=10_000.0 - OVERLAP_S / 2, ended=0.0)
    site.history.record("c", pair("c"), updated=10_000.0, ended=0.0)
    assert site.relay().delivered == 4


def test_a_run_that_cannot_be_read_holds_nobody_up_and_is_tried_again(site: Site) -> None:
    site.history.record("a", pair("a"), updated=1.0, ended=0.0)
    site.history.record("b", pair("b"), updated=2.0, ended=0.0)
    site.history.unreadable = {"a"}
    done = site.relay()
    assert done.delivered == 2
    assert "run a cannot be read: ValueError: a makes no sense" in done.troubles[0]
    assert [f.run_id for f in site.outbox.troubles()] == ["a"]
    site.history.unreadable = set()
    assert site.relay().idle  # not yet
    site.clock.sleep(11)
    assert site.relay().delivered == 2
    assert site.outbox.troubles() == []


def test_a_run_whose_events_cannot_be_indexed_holds_nobody_up(site: Site) -> None:
    from resources.lineage.index import LineageIndex

    ours = {"hybrid_run": {"kind": "asset", "asset": "pump/telemetry", "dagsterRunId": "a"}}
    broken = event("a", "COMPLETE", **ours) | {"inputs": [{"no": "name"}]}
    site.history.record("a", [broken], updated=1.0, ended=0.0)
    site.history.record("b", [event("b", "COMPLETE", **ours)], updated=2.0, ended=0.0)
    relay = Relay(
        Outbox(site.database, LineageIndex(site.database)),
        site.history,
        destination(site.file.parent.parent),
        site.clock,
    )
    done = relay.relay(60)
    assert done.delivered == 1
    assert "run a cannot be read: KeyError" in done.troubles[0]
    assert site.outbox.mark("read/fake") == 2.0
    assert [f.run_id for f in site.outbox.troubles()] == ["a"]


def test_what_is_reported_without_a_run_goes_the_same_way(site: Site) -> None:
    site.history.reported = pair("reported")
    assert site.relay().delivered == 2
    assert site.relay().idle
    site.history.reported += pair("more", 7)
    assert site.relay().delivered == 2


def test_time_that_is_up_is_gone_on_from(site: Site) -> None:
    for n in range(10):
        site.history.record(f"r-{n}", pair(f"r-{n}"), updated=float(n), ended=0.0)
    assert site.relay(0.0).unfinished
    delivered = 0
    reads = FakeHistory.read

    def slow(self: FakeHistory, run: str, cursor: str | None) -> object:
        site.clock.sleep(1.0)
        return reads(self, run, cursor)

    site.history.read = slow.__get__(site.history)  # type: ignore[method-assign]
    for _ in range(12):
        delivered += site.relay(2.5).delivered
    site.clock.sleep(1000)
    delivered += site.relay(60).delivered
    assert delivered == 20
    assert len(site.lines()) == 20


def test_installations_that_share_a_database_do_not_take_each_others_runs_for_deleted(site: Site) -> None:
    other = Site(site.database, site.file, FakeHistory(id="other"), site.clock)
    site.history.record("a", [event("a", "START")], updated=9000.0)
    other.history.record("b", [event("b", "START")], updated=1.0)
    for _ in range(2):
        assert site.relay().troubles == other.relay().troubles == []
    site.history.runs["a"].append(event("a", "COMPLETE", 5))
    other.history.runs["b"].append(event("b", "COMPLETE", 5))
    assert site.relay().delivered == other.relay().delivered == 1


def test_a_deleted_run_is_let_go(site: Site) -> None:
    site.history.record("a", [event("a", "START")], updated=1.0)
    site.relay()
    del site.history.states["a"]
    assert "its record was deleted" in site.relay().troubles[0]
    assert site.relay().troubles == []


def test_a_damaged_row_is_set_aside_and_made_anew_on_request(site: Site) -> None:
    site.history.record("a", pair("a"), updated=1.0, ended=0.0)
    site.outbox.add("a", pair("a"), now=START, followed=Followed("a", 1.0, "2", closed=True, history="fake"))
    with site.database.engine.execution_options(writes=True).begin() as connection:
        connection.exec_driver_sql("UPDATE lineage_events SET digest = 'x' WHERE type = 'START'")
    done = site.relay()
    assert (done.delivered, done.set_aside) == (1, 1)
    assert "their SHA-256 differs" in done.troubles[0]
    site.outbox.again()
    assert site.relay().delivered == 1
    assert [e["eventType"] for e in site.lines()] == ["COMPLETE", "START"]


def test_switched_off_nothing_is_read_and_later_it_is_made_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.history.record("a", pair("a"), updated=1.0, ended=0.0)
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    assert "switched off" in str(site.relay().waits)
    assert site.history.reads == []
    monkeypatch.delenv("OPENLINEAGE_DISABLED")
    assert site.relay().delivered == 2


# --- a backend over HTTP


@pytest.fixture
def over_http(site: Site, backend: Backend) -> Backend:
    Path("openlineage.yml").write_text(f"transport: {{type: http, url: '{backend.url}', timeout: 0.5}}")
    return backend


def _runs(site: Site, count: int) -> None:
    for n in range(count):
        site.history.record(f"r-{n}", pair(f"r-{n}"), updated=float(n), ended=0.0)


def _until_done(site: Site) -> None:
    for _ in range(50):
        site.relay()
        if not site.outbox.standing().pending:
            return
        site.clock.sleep(100)
    raise AssertionError(site.outbox.standing())


def test_one_run_the_backend_chokes_on_waits_and_the_others_go_on(site: Site, over_http: Backend) -> None:
    _runs(site, 6)
    ill = {run_id("r-0"), run_id("r-3")}
    over_http.answer = lambda e: 500 if e["run"]["runId"] in ill else 201
    done = site.relay()
    assert (done.delivered, done.failed, done.set_aside) == (8, 2, 0)
    oldest = site.outbox.standing().oldest
    assert oldest is not None
    assert "answered 500" in str(oldest[2])
    for _ in range(30):  # for ever, not until somebody gives up
        site.clock.sleep(1000)
        assert site.relay().set_aside == 0
    over_http.answer = lambda _e: 201
    site.clock.sleep(1000)
    assert site.relay().delivered == 4
    assert all(types == ["START", "COMPLETE"] for types in over_http.of_run().values())


def test_what_is_refused_is_set_aside_and_the_rest_of_its_run_goes_on(site: Site, over_http: Backend) -> None:
    _runs(site, 3)
    over_http.answer = lambda e: 422 if (e["run"]["runId"], e["eventType"]) == (run_id("r-1"), "START") else 201
    done = site.relay()
    assert (done.delivered, done.set_aside) == (5, 1)
    assert "answered 422: no such luck" in done.troubles[0]
    asked = over_http.asked
    site.clock.sleep(10_000)
    site.relay()
    assert over_http.asked == asked


@pytest.mark.parametrize("status", [401, 404, 503])
def test_a_wrong_key_or_address_sets_nothing_aside(site: Site, over_http: Backend, status: int) -> None:
    _runs(site, 5)
    over_http.answer = lambda _e: status
    done = site.relay()
    assert f"answered {status}" in str(done.waits)
    assert over_http.asked == 1
    assert site.outbox.standing().pending == 10
    over_http.answer = lambda _e: 201
    _until_done(site)
    assert len(over_http.bodies) == 10


def test_a_backend_that_fails_everything_is_left_alone_for_a_while(site: Site, over_http: Backend) -> None:
    _runs(site, 20)
    over_http.answer = lambda _e: 500
    assert site.relay().waits is not None
    assert over_http.asked == 3
    assert site.relay().waits is not None
    assert over_http.asked == 3
    over_http.answer = lambda _e: 201
    site.clock.sleep(3)
    site.relay()
    # Who failed with it is not made to wait once it is back.
    assert site.outbox.standing().pending == 0
    assert all(types == ["START", "COMPLETE"] for types in over_http.of_run().values())


def test_a_silent_backend_takes_no_longer_than_its_time_out(site: Site, over_http: Backend) -> None:
    _runs(site, 20)
    over_http.released.clear()
    started = time.monotonic()
    assert site.relay().waits is not None
    assert time.monotonic() - started < 3 * 2 * 0.5 + 2
    over_http.released.set()
    site.clock.sleep(3)
    site.relay()
    _until_done(site)
    assert len(over_http.of_run()) == 20
    assert all(types == ["START", "COMPLETE"] for types in over_http.of_run().values())


def test_filtered_jobs_are_not_sent(site: Site, backend: Backend) -> None:
    Path("openlineage.yml").write_text(
        f"transport: {{type: http, url: '{backend.url}'}}\nfilters: [{{type: exact, match: job-noise}}]"
    )
    site.history.record("noise-1", pair("noise-1"), updated=1.0, ended=0.0)
    site.history.record("a", pair("a"), updated=2.0, ended=0.0)
    done = site.relay()
    assert (done.delivered, done.filtered) == (2, 2)
    assert {e["job"]["name"] for e in backend.events} == {"job-a"}


# --- real processes

_BACKEND = """
import sys
sys.path.insert(0, {root!r})
from tests.resources.lineage.backend import Backend
class Kept(list):
    def append(self, body):
        with open({file!r}, "ab") as out:
            out.write(body + b"\\n")
        super().append(body)
backend = Backend()
backend.bodies, backend.port = Kept(), {port}
backend.start()
print("ready", flush=True)
sys.stdin.read()
"""

_RELAY = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from resources.clock import SystemClock
from resources.lineage import relay as module
from resources.lineage.relay import Relay
from resources.lineage.transports import destination
from resources.state.database import Database
from resources.state.outbox import Outbox
from tests.resources.lineage.events import FakeHistory, pair
class Told(FakeHistory):
    def read(self, run, cursor):
        if {told}:
            print("read", flush=True)
        return super().read(run, cursor)
history = Told()
for n in range({runs}):
    history.record(f"r-{{n}}", pair(f"r-{{n}}"), updated=float(n), ended=0.0)
to = destination(Path({home!r}))
stop_at = {stop_at}
if stop_at is not None:
    send, sent = type(to.channel).send, 0
    def then_stop(self, bodies):
        global sent
        send(self, bodies)
        sent += len(bodies)
        if sent >= stop_at:
            print("sent", flush=True)
            time.sleep(60)
    type(to.channel).send = then_stop
relay = Relay(Outbox(Database({url!r})), history, to, SystemClock())
print("ready", flush=True)
while True:
    done = relay.relay(5.0)
    if not relay._outbox.standing().pending and done.held_by is None:
        break
    time.sleep(0.02)
"""


def _process(code: str, *, told: bool = False, **values: object) -> subprocess.Popen[str]:
    program = code.format(root=str(ROOT), told=told, **values)
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def _says(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_a_backend_killed_and_brought_back_ends_with_every_event_in_order(state_url: str, tmp_path: Path) -> None:
    port, file, runs = _free_port(), tmp_path / "taken.ndjson", 150
    Path("openlineage.yml").write_text(f"transport: {{type: http, url: 'http://127.0.0.1:{port}', timeout: 1}}")
    backend = _process(_BACKEND, port=port, file=str(file))
    _says(backend, "ready")
    relay = _process(_RELAY, runs=runs, home=str(tmp_path), url=state_url, stop_at=None)
    try:
        for taken in (40, 120):
            _until(lambda: file.exists() and file.read_bytes().count(b"\n") >= taken)  # noqa: B023
            _kill(backend)
            backend = _process(_BACKEND, port=port, file=str(file))
            _says(backend, "ready")
        assert relay.wait(60) == 0
    finally:
        _kill(backend)
        _kill(relay)
    lines = file.read_bytes().splitlines()
    assert sorted(set(lines)) == sorted(canonical(e) for n in range(runs) for e in pair(f"r-{n}"))
    for n in range(runs):
        first, last = (lines.index(canonical(e)) for e in pair(f"r-{n}"))
        assert first < last


def _until(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("over", ["file", "http"])
def test_a_relay_killed_between_sending_and_noting_sends_the_same_bytes_again(
    state_url: str, tmp_path: Path, backend: Backend, over: str
) -> None:
    file = tmp_path / "lineage" / "events.ndjson"
    if over == "http":
        Path("openlineage.yml").write_text(f"transport: {{type: http, url: '{backend.url}'}}")
    killed = _process(_RELAY, runs=5, home=str(tmp_path), url=state_url, stop_at=3)
    _says(killed, "ready")
    _says(killed, "sent")
    _kill(killed)
    # Its lease is not waited for: it is known to be dead.
    after = _process(_RELAY, runs=5, home=str(tmp_path), url=state_url, stop_at=None)
    assert after.wait(30) == 0
    _kill(after)
    bodies = backend.bodies if over == "http" else file.read_bytes().splitlines()
    assert set(bodies) == {canonical(e) for n in range(5) for e in pair(f"r-{n}")}
    assert len(bodies) == (13 if over == "http" else 20)  # three, or the whole batch, came twice


def test_a_relay_killed_anywhere_loses_nothing_and_keeps_nothing_twice(state_url: str, tmp_path: Path) -> None:
    file, runs = tmp_path / "lineage" / "events.ndjson", 400
    for reads in (1, 7, 60, 150):
        process = _process(_RELAY, told=True, runs=runs, home=str(tmp_path), url=state_url, stop_at=None)
        _says(process, "ready")
        for _ in range(reads):
            _says(process, "read")
        _kill(process)
    last = _process(_RELAY, runs=runs, home=str(tmp_path), url=state_url, stop_at=None)
    assert last.wait(60) == 0
    _kill(last)
    outbox = Outbox(Database(state_url))
    assert (outbox.standing().delivered, outbox.standing().pending) == (2 * runs, 0)
    lines = file.read_bytes().splitlines()
    assert set(lines) == {canonical(e) for n in range(runs) for e in pair(f"r-{n}")}
    for n in range(runs):
        first, end = (lines.index(canonical(e)) for e in pair(f"r-{n}"))
        assert first < end


def test_several_relays_at_once_send_everything_once(state_url: str, tmp_path: Path) -> None:
    file, runs = tmp_path / "lineage" / "events.ndjson", 200
    relays = [_process(_RELAY, runs=runs, home=str(tmp_path), url=state_url, stop_at=None) for _ in range(3)]
    try:
        assert [r.wait(60) for r in relays] == [0, 0, 0]
    finally:
        for relay in relays:
            _kill(relay)
    lines = file.read_bytes().splitlines()
    assert len(lines) == len(set(lines)) == 2 * runs


def test_one_that_lost_its_lease_stops(site: Site) -> None:
    for n in range(10):
        site.history.record(f"r-{n}", pair(f"r-{n}"), updated=float(n), ended=0.0)
    other = Outbox(site.database)

    class Sleepy(NdjsonFile):
        def send(self, bodies: object) -> None:
            super().send(bodies)  # type: ignore[arg-type]
            site.clock.sleep(120)
            assert other.lease("the other", now=site.clock.now(), seconds=60) == "the other"

    from resources.lineage.transports import Destination

    relay = Relay(site.outbox, site.history, Destination(Sleepy(site.file, at_once=5)), site.clock)
    assert relay.relay(600.0).held_by == "the other"
    assert len(site.lines()) == 5


def test_threads_of_one_process_wait_for_each_other(site: Site) -> None:
    _runs(site, 50)
    relays = [Relay(site.outbox, site.history, destination(site.file.parent.parent), SystemClock()) for _ in range(4)]
    done: list[Relayed] = []

    def work(relay: Relay) -> None:
        while True:
            done.append(relay.relay(5.0))
            if done[-1].held_by is None:
                return

    threads = [threading.Thread(target=work, args=(r,)) for r in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(d.delivered for d in done) == len(site.lines()) == 100
