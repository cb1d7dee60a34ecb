"""Shared breakers, with real processes on a real database. Run as a script, this file is one of those processes."""

import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backbone.breaker import BreakerOpen, BreakerSettings, Refusal
from backbone.errors import ConfigurationError
from resources.clock import SystemClock
from resources.state.breakers import Breakers, Permit
from resources.state.database import Database

THREADS = 16
PROBES = 2
CALLS = 25
HAMMERED = BreakerSettings(
    minimum=5, open_s=0.02, open_max_s=0.02, probes=PROBES, probe_lease_s=60, successes_to_close=20
)


class HeldClock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.wall, self.passed = datetime(2026, 1, 1, tzinfo=UTC), 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.passed += seconds


@pytest.fixture
def name() -> str:
    """Unlike those of other tests, which may use the same PostgreSQL."""
    return f"target/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def breakers(database: Database, clock: HeldClock) -> Breakers:
    return Breakers(database, clock, wait_s=0.05)


def permitted(answer: Permit | Refusal) -> Permit:
    assert isinstance(answer, Permit)
    return answer


def fail(breakers: Breakers, name: str, times: int = 5, settings: BreakerSettings | None = None) -> None:
    for _ in range(times):
        permitted(breakers.breaker(name, settings).ask()).failed("TargetFailed: it died", 0.1)


@contextmanager
def held(database: Database, name: str) -> Iterator[None]:
    """Somebody else is in the middle of a transaction."""
    from sqlalchemy import text

    with database.engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE breakers SET version = version WHERE name = :name"), {"name": name})
        yield


def elsewhere(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.splitlines()


def test_failures_in_one_process_open_it_in_another(
    database: Database, breakers: Breakers, clock: HeldClock, name: str
) -> None:
    clock.wall = datetime.now(UTC)
    breaker = breakers.breaker(name)
    permitted(breaker.ask())
    outcome(elsewhere("fail", database.url, name))
    permitted(breaker.ask())
    clock.passed += 1.0
    assert isinstance(breaker.ask(), Refusal)
    assert not breaker.allows()


def test_failures_of_several_processes_add_up(
    database: Database, breakers: Breakers, clock: HeldClock, name: str
) -> None:
    fail(breakers, name, 2)
    others = Breakers(database, clock)
    fail(others, name, 3)
    assert isinstance(others.breaker(name).ask(), Refusal)


def test_it_survives_a_restart_and_closes_for_everybody(
    database: Database, breakers: Breakers, clock: HeldClock, name: str
) -> None:
    fail(breakers, name)
    restarted = Breakers(database, clock)
    assert restarted.breaker(name).ask() == Refusal(clock.now() + timedelta(seconds=30))
    clock.sleep(30)
    permitted(restarted.breaker(name).ask()).succeeded(0.1)
    assert permitted(breakers.breaker(name).ask()).token == ""


def test_a_process_that_makes_few_calls_tells_of_its_successes(
    database: Database, breakers: Breakers, name: str
) -> None:
    outcome(elsewhere("succeed", database.url, name))
    fail(breakers, name, 1)
    assert breakers.states()[name].failure_share == pytest.approx(0.25)


def test_successes_are_written_in_batches_and_not_at_all_where_they_say_nothing_new(
    breakers: Breakers, clock: HeldClock, name: str
) -> None:
    breaker = breakers.breaker(name)
    started = clock.now()
    for _ in range(100):
        permitted(breaker.ask()).succeeded(0.001)
    assert breakers.states()[name].changed_at == started
    clock.sleep(1)
    permitted(breaker.ask())
    assert breakers.states()[name].changed_at == clock.now()
    written = clock.now()
    for _ in range(10):
        clock.sleep(1)
        permitted(breaker.ask()).succeeded(0.001)
    assert breakers.states()[name].changed_at == written


def test_slow_calls_are_told_at_once_and_count(breakers: Breakers, name: str) -> None:
    breaker = breakers.breaker(name, BreakerSettings(slow_s=2))
    for _ in range(5):
        permitted(breaker.ask()).succeeded(2.5)
    assert isinstance(breaker.ask(), Refusal)
    assert "5 for being slow; the last: it took 2.5 s" in breakers.transitions(prefix=name)[0].reason


def test_looking_takes_no_permit(breakers: Breakers, clock: HeldClock, name: str) -> None:
    breaker = breakers.breaker(name)
    assert breaker.allows()
    fail(breakers, name)
    assert not breaker.allows()
    clock.sleep(30)
    assert all(breaker.allows() for _ in range(3))
    permitted(breaker.ask())
    assert not breaker.allows()


def test_one_look_serves_all_and_takes_nothing_for_granted(
    database: Database, breakers: Breakers, clock: HeldClock, name: str
) -> None:
    others = Breakers(database, clock)
    names = [f"{name}/{number}" for number in range(4)]
    assert all(breakers.breaker(one).allows() for one in names)
    fail(others, names[0])
    fail(breakers, names[1], 2)
    permitted(breakers.breaker(names[2]).ask()).succeeded(0.1)
    permitted(breakers.breaker(names[2]).ask()).succeeded(0.1)
    breakers.look()
    assert breakers.breaker(names[0]).allows()
    clock.sleep(1)
    breakers.look()
    assert [breakers.breaker(one).allows() for one in names] == [False, True, True, True]
    fail(others, names[1], 3)
    assert not others.breaker(names[1]).allows()
    with held(database, names[0]):
        breakers.look()
    assert isinstance(breakers.breaker(names[0]).ask(), Refusal)


def test_a_call_is_timed_and_settled(breakers: Breakers, clock: HeldClock, name: str) -> None:
    breaker = breakers.breaker(name, BreakerSettings(minimum=1, slow_s=5))
    with breaker.call():
        clock.sleep(1)
    with pytest.raises(ZeroDivisionError), breaker.call():
        _ = 1 / 0
    with pytest.raises(BreakerOpen, match=name) as refused, breaker.call():
        pytest.fail("it was called")
    assert refused.value.retry_at == clock.now() + timedelta(seconds=30)
    assert "ZeroDivisionError: division by zero" in breakers.transitions(prefix=name)[0].reason


def test_a_probe_that_was_cancelled_gives_its_place_back(breakers: Breakers, clock: HeldClock, name: str) -> None:
    fail(breakers, name)
    clock.sleep(30)
    breaker = breakers.breaker(name)
    with pytest.raises(KeyboardInterrupt), breaker.call():
        raise KeyboardInterrupt
    assert permitted(breaker.ask()).token


def test_a_held_database_keeps_healthy_calls_going_and_failures_are_told_later(
    database: Database, breakers: Breakers, clock: HeldClock, name: str
) -> None:
    breaker = breakers.breaker(name)
    permitted(breaker.ask()).succeeded(0.1)
    with held(database, name):
        started = time.monotonic()
        for _ in range(30):
            clock.sleep(0.1)
            permitted(breaker.ask()).succeeded(0.1)
        fail(breakers, name, 9)
        permitted(breaker.ask()).failed("TargetFailed: it died", 0.1)
        assert isinstance(breaker.ask(), Refusal)
        assert time.monotonic() - started < 5
        assert Breakers(database, clock).states()[name].mode == "closed"
    clock.sleep(1)
    breaker.allows()
    assert Breakers(database, clock).states()[name].mode == "open"


def test_while_the_database_is_held_what_is_open_stays_so(
    database: Database, breakers: Breakers, clock: HeldClock, name: str
) -> None:
    fail(breakers, name)
    breaker = breakers.breaker(name)
    with held(database, name):
        clock.sleep(31)
        assert isinstance(breaker.ask(), Refusal)
        assert not breaker.allows()
        newcomer = Breakers(database, clock, wait_s=0.05).breaker(name)
        assert isinstance(newcomer.ask(), Refusal)
    clock.sleep(1)
    assert permitted(breaker.ask()).token


def test_what_became_of_a_probe_is_told_once_the_database_answers(
    database: Database, breakers: Breakers, clock: HeldClock, name: str
) -> None:
    fail(breakers, name)
    clock.sleep(30)
    breaker = breakers.breaker(name)
    probe = permitted(breaker.ask())
    with held(database, name):
        probe.succeeded(0.1)
        assert isinstance(breaker.ask(), Refusal)
    clock.sleep(1)
    assert permitted(breaker.ask()).token == ""


@pytest.mark.parametrize("place", ["no-folder/state.db", "no-database"])
def test_no_database_at_all_stops_no_healthy_call(tmp_path: Path, clock: HeldClock, place: str) -> None:
    (tmp_path / "no-folder").write_text("")
    (tmp_path / "no-database").write_text("something else " * 1000)
    breakers = Breakers(Database(f"sqlite:///{tmp_path / place}"), clock)
    permitted(breakers.breaker("model/pump").ask()).succeeded(0.1)
    fail(breakers, "model/pump", 4)
    assert isinstance(breakers.breaker("model/pump").ask(), Refusal)
    assert breakers.breaker("model/fan").allows()
    clock.sleep(1)
    breakers.look()
    assert breakers.breaker("model/fan").allows()
    breakers.flush()


@pytest.mark.parametrize("document", ["", "{", "null", '{"mode": "ajar"}'])
def test_what_cannot_be_read_begins_anew_and_the_history_says_so(
    database: Database, breakers: Breakers, clock: HeldClock, name: str, document: str
) -> None:
    from sqlalchemy import text

    fail(breakers, name)
    with database.engine.execution_options(writes=True).begin() as connection:
        statement = text("UPDATE breakers SET document = :document WHERE name = :name")
        connection.execute(statement, {"document": document, "name": name})
    clock.sleep(1)
    breaker = breakers.breaker(name)
    assert permitted(breaker.ask()).token == ""
    assert breakers.states()[name].mode == "closed"
    assert "cannot be read" in breakers.transitions(prefix=name)[-1].reason


def test_the_history_and_the_states_are_found_by_name_and_time(breakers: Breakers, clock: HeldClock, name: str) -> None:
    fail(breakers, name + "/Ray")
    opened = clock.now()
    clock.sleep(30)
    permitted(breakers.breaker(name + "/Ray").ask()).succeeded(0.1)
    permitted(breakers.breaker(name + "/ray").ask()).failed("", 0.1)
    history = breakers.transitions(prefix=name)
    assert [(t.was, t.became) for t in history] == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
    assert [t.at for t in history] == [opened, clock.now(), clock.now()]
    assert breakers.transitions(clock.now(), name) == history[1:]
    assert breakers.transitions(prefix=name, after=history[1].id) == history[2:]
    assert list(breakers.states(name + "/R")) == [name + "/Ray"]
    assert breakers.states(name)[name + "/ray"].failure_share == 1


def test_an_open_breaker_is_seen_with_its_times(breakers: Breakers, clock: HeldClock, name: str) -> None:
    fail(breakers, name)
    seen = breakers.states(name)[name]
    assert (seen.mode, seen.opened_at, seen.retry_at) == ("open", clock.now(), clock.now() + timedelta(seconds=30))


def test_one_name_has_one_set_of_settings(breakers: Breakers) -> None:
    assert breakers.breaker("a") is breakers.breaker("a", BreakerSettings())
    with pytest.raises(ConfigurationError, match=r"failure_share=0\.1"):
        breakers.breaker("a", BreakerSettings(failure_share=0.1))
    with pytest.raises(ConfigurationError, match="no name"):
        breakers.breaker("")


def test_no_more_than_the_allowed_probes_ever_pass(database: Database, name: str) -> None:
    """Two processes of 16 threads ask as fast as they can, while the breaker goes from open to half open and back."""
    fail(Breakers(database, SystemClock()), name, settings=HAMMERED)
    processes = [elsewhere("hammer", database.url, name) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [[json.loads(line) for line in outcome(process)] for process in processes]
    assert all(len(calls) >= CALLS for calls in told)
    calls = [*told[0], *told[1]]
    tokens = [call["token"] for call in calls]
    assert "" not in tokens
    assert len(set(tokens)) == len(tokens)
    # At the same instant, ends come before beginnings: a place may be taken as soon as it is given back.
    moments = sorted([(c["began"], 1) for c in calls] + [(c["ended"], -1) for c in calls])
    under_way = list(itertools.accumulate(step for _, step in moments))
    assert max(under_way) <= PROBES
    # The law says something only where places were contended for, again and again.
    assert PROBES in under_way
    opened = [t for t in Breakers(database, SystemClock()).transitions(prefix=name) if t.became == "open"]
    assert len(opened) > 3


def _hammer(breakers: Breakers, name: str) -> None:
    breaker = breakers.breaker(name, HAMMERED)
    until = time.monotonic() + 60
    calls: list[dict[str, object]] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - nothing here is secret
        while len(calls) < CALLS and time.monotonic() < until:
            answer = breaker.ask()
            if isinstance(answer, Refusal):
                continue
            # One clock for both processes; the call lasts from after the permit until before its end is told.
            began = time.monotonic_ns()
            time.sleep(chance.uniform(0, 0.05))
            calls.append({"token": answer.token, "began": began, "ended": time.monotonic_ns()})
            if chance.random() < 0.5:
                answer.succeeded(0.01)
            else:
                answer.failed("as told", 0.01)

    threads = [threading.Thread(target=work, args=(os.getpid() * THREADS + n,)) for n in range(THREADS)]
    print("ready", flush=True)
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for call in calls:
        print(json.dumps(call))


def _main(task: str, url: str, name: str) -> None:
    breakers = Breakers(Database(url), SystemClock())
    if task == "hammer":
        _hammer(breakers, name)
        return
    for _ in range(5 if task == "fail" else 3):
        permit = permitted(breakers.breaker(name).ask())
        if task == "fail":
            permit.failed("as told", 0.1)
        else:
            permit.succeeded(0.1)


if __name__ == "__main__":
    _main(*sys.argv[1:])
