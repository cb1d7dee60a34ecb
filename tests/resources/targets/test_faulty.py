"""Faults come as they were asked for, and again as they came."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbone import plugins
from backbone.errors import ConfigurationError, TargetFailed, UnknownName
from backbone.targets import ComputeTarget, TargetContext, TargetStatus
from resources import targets
from resources.clock import SystemClock
from resources.targets.faulty import Fates, Fault, FaultyTarget

COMMAND = ["{python}", "-m", "anything"]
KINDS = ("refuse", "hang", "die", "late", "wrong")


@dataclass
class Simulated:
    """A clock that passes only when it is told to."""

    passed_s: float = 0.0

    def now(self) -> datetime:
        return datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds


@dataclass
class Inner:
    """A target whose work takes ten seconds of a simulated clock and leaves one result."""

    store: Path
    clock: Simulated
    started: dict[str, float] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)

    def launch(self, *_: object) -> str:
        handle = uuid.uuid4().hex
        self.started[handle] = self.clock.passed_s
        folder = self.store / "work" / handle
        (folder / "tmp").mkdir(parents=True)
        (folder / "output.log").write_text("said")
        (folder / "record.json").write_text("{}")
        return handle

    def poll(self, handle: str) -> TargetStatus:
        if handle in self.cancelled:
            return TargetStatus("failed", "killed by SIGTERM")
        if handle not in self.started:
            return TargetStatus("failed", "unknown")
        return TargetStatus("running" if self.clock.passed_s < self.started[handle] + 10 else "succeeded")

    def cancel(self, handle: str) -> None:
        if self.poll(handle).running:
            self.cancelled.append(handle)

    def logs(self, handle: str) -> str:
        return f"{handle} says"


@dataclass
class World:
    store: Path
    clock: Simulated
    inner: Inner

    def faulty(self, fates: Fates) -> FaultyTarget:
        return FaultyTarget(self.inner, TargetContext("a-target", self.store, self.clock), fates)

    def launched(self, fault: Fault | None) -> tuple[FaultyTarget, str]:
        target = self.faulty(lambda *_: fault)
        return target, target.launch(COMMAND, {}, {})

    def result(self, handle: str) -> str:
        return (self.store / "work" / handle / "record.json").read_bytes().decode(errors="replace")


@pytest.fixture
def world(tmp_path: Path) -> World:
    clock = Simulated()
    return World(tmp_path, clock, Inner(tmp_path, clock))


def opened(store: Path, settings: Mapping[str, Any], clock: Simulated | None = None) -> ComputeTarget:
    def opens(kind: str, given: Mapping[str, Any]) -> ComputeTarget:
        context = TargetContext("a-target", store, clock or SystemClock(), given, opens)
        return plugins.load(targets, kind).open(context)

    return opens("faulty", settings)


def test_without_a_fault_it_is_the_target_it_wraps(world: World) -> None:
    target, handle = world.launched(None)
    assert target.poll(handle).running
    assert target.logs(handle) == f"{handle} says"
    world.clock.sleep(10)
    assert target.poll(handle).state == "succeeded"
    assert world.result(handle) == "{}"


def test_refuse_starts_nothing(world: World) -> None:
    with pytest.raises(TargetFailed, match="a-target could not start"):
        world.launched(Fault("refuse"))
    assert world.inner.started == {}


def test_hang_runs_on_until_it_is_cancelled(world: World) -> None:
    target, handle = world.launched(Fault("hang"))
    world.clock.sleep(1e6)
    assert target.poll(handle).running
    assert target.logs(handle) == ""
    assert world.inner.started == {}, "it never works"
    target.cancel(handle)
    assert target.poll(handle) == TargetStatus("failed", "cancelled")


@pytest.mark.parametrize(("after_s", "dies_at_s"), [(4.0, 4.0), (60.0, 10.0)], ids=["half way", "at the end"])
def test_die_ends_the_work_and_never_succeeds(world: World, after_s: float, dies_at_s: float) -> None:
    target, handle = world.launched(Fault("die", after_s))
    world.clock.sleep(dies_at_s - 0.1)
    assert target.poll(handle).running
    world.clock.sleep(0.1)
    assert target.poll(handle).state == "failed"
    assert not world.inner.poll(handle).running
    world.clock.sleep(100)
    assert target.poll(handle).state == "failed"


def test_late_answers_rightly_so_much_later(world: World) -> None:
    target, handle = world.launched(Fault("late", 5.0))
    world.clock.sleep(10)
    assert target.poll(handle).running
    world.clock.sleep(4.9)
    assert target.poll(handle).running
    world.clock.sleep(0.1)
    assert target.poll(handle).state == "succeeded"
    assert world.result(handle) == "{}"


def test_late_work_can_be_cancelled_while_it_is_awaited(world: World) -> None:
    target, handle = world.launched(Fault("late", 5.0))
    world.clock.sleep(10)
    assert target.poll(handle).running
    target.cancel(handle)
    world.clock.sleep(100)
    assert target.poll(handle) == TargetStatus("failed", "cancelled")


def test_wrong_succeeds_and_a_result_is_another_once(world: World) -> None:
    target, handle = world.launched(Fault("wrong"))
    assert target.poll(handle).running
    assert world.result(handle) == "{}"
    world.clock.sleep(10)
    assert target.poll(handle).state == "succeeded"
    spoilt = world.result(handle)
    assert spoilt != "{}"
    assert target.poll(handle).state == "succeeded"
    assert world.result(handle) == spoilt
    assert (world.store / "work" / handle / "output.log").read_text() == "said"


@pytest.mark.parametrize("kind", ["die", "late", "wrong"])
def test_cancelling_reaches_the_work(world: World, kind: Any) -> None:
    target, handle = world.launched(Fault(kind, 5.0))
    target.cancel(handle)
    assert world.inner.cancelled == [handle]
    assert target.poll(handle).state == "failed"
    assert world.result(handle) == "{}"


def test_fates_are_told_the_number_and_the_time(world: World) -> None:
    asked: list[tuple[int, datetime]] = []
    target = world.faulty(lambda number, now: asked.append((number, now)))
    target.launch(COMMAND, {}, {})
    world.clock.sleep(60)
    target.launch(COMMAND, {}, {})
    start = datetime(2025, 1, 1, tzinfo=UTC)
    assert asked == [(0, start), (1, start + timedelta(seconds=60))]


def test_launches_are_counted_over_restarts_and_threads(world: World) -> None:
    asked: list[int] = []
    at_once = threading.Barrier(8)

    def launch() -> None:
        target = world.faulty(lambda number, _: asked.append(number) or Fault("hang"))
        at_once.wait()
        for _ in range(25):
            target.launch(COMMAND, {}, {})

    threads = [threading.Thread(target=launch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == list(range(200))


SHARES = st.lists(st.integers(0, 20), min_size=5, max_size=5).map(
    lambda parts: dict(zip(KINDS, (part / 100 for part in parts), strict=True))
)


def befalls(settings: Mapping[str, Any], launches: int, store: Path) -> list[str]:
    """What befell each of so many launches, as one sees it from outside."""
    clock = Simulated()
    inner = Inner(store, clock)
    context = TargetContext("a-target", store, clock, {"wraps": {"kind": "inner"}, **settings}, lambda *_: inner)
    target = plugins.load(targets, "faulty").open(context)
    return [befell(store, clock, inner, target) for _ in range(launches)]


def befell(store: Path, clock: Simulated, inner: Inner, target: ComputeTarget) -> str:
    try:
        handle = target.launch(COMMAND, {}, {})
    except TargetFailed:
        return "refuse"
    clock.sleep(9)
    if target.poll(handle).state == "failed":
        return "die"
    clock.sleep(1)
    if target.poll(handle).running:
        clock.sleep(5)
        return "hang" if target.poll(handle).running else "late"
    return "none" if (store / "work" / handle / "record.json").read_text() == "{}" else "wrong"


@given(shares=SHARES, seed=st.integers(0, 2**63))
def test_the_same_seed_brings_the_same_faults(
    tmp_path_factory: pytest.TempPathFactory, shares: dict[str, float], seed: int
) -> None:
    settings = {**shares, "seed": seed}
    first = befalls(settings, 12, tmp_path_factory.mktemp("first"))
    assert befalls(settings, 12, tmp_path_factory.mktemp("second")) == first
    store = tmp_path_factory.mktemp("restarted")
    assert [*befalls(settings, 5, store), *befalls(settings, 7, store)] == first


def test_another_seed_brings_other_faults(tmp_path: Path) -> None:
    even = dict.fromkeys(KINDS, 0.2)
    assert len({tuple(befalls({**even, "seed": n}, 12, tmp_path / str(n))) for n in range(5)}) == 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_faults_are_as_frequent_as_asked_for(tmp_path: Path, kind: str, share: float) -> None:
    seen = befalls({"seed": 7, "wrong" if kind == "hang" else "hang": (1 - share) / 2, kind: share}, 300, tmp_path)
    assert seen.count(kind) / 300 == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"wraps": {"kind": "subprocess"}, "die": 0.6, "hang": 0.6}, r"sum up to 1\.2"),
        ({"wraps": {"kind": "subprocess"}, "die": 1.5}, r"die is 1\.5"),
        ({"wraps": {"kind": "subprocess"}, "late_s": -1}, "late_s is -1"),
        ({"wraps": {}}, "wraps names no kind"),
        ({"seed": 7}, "wraps is missing"),
        ({"wraps": {"kind": "subprocess"}, "explode": 0.1}, r"explode.*known:.*refuse"),
        ({"wraps": {"kind": "no_such_kind"}}, r"no_such_kind.*known:.*subprocess"),
        ({"wraps": {"kind": "subprocess", "no_such_setting": 1}}, "no_such_setting"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_it_is_opened(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says) as error:
        opened(tmp_path, settings)
    assert error.value.next_step or isinstance(error.value, UnknownName)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.005)


def test_a_real_process_dies_half_way(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)"
    target = opened(tmp_path, {"wraps": {"kind": "subprocess"}, "die": 1.0, "die_after_s": 0.5})
    handle = target.launch(["{python}", "-c", program], {}, {})
    until(lambda: not target.poll(handle).running)
    assert target.poll(handle).state == "failed"
    assert not (Path("/proc") / (pid.read_text() or "none")).exists()
