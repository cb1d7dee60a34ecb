"""Placed work runs where it should, goes elsewhere where that fails, and says what was tried and what it cost."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from backbone import plugins
from backbone.clock import Clock
from backbone.conduit import StorePath
from backbone.errors import ConfigurationError, IntegrityError, TargetFailed, TargetLate, UnknownName
from backbone.placement import NoCandidate
from resources import targets
from resources.bindings.placed_work import Parcel, Placed, placed_metadata, run_placed
from resources.clock import SystemClock
from resources.home import Home
from resources.plant import Catalog, Plant
from tests.shared_instance import shared_instance
from tests.simulated_clock import Simulated

HERE = Path(__file__).resolve().parent
READINGS = Parcel("pump/readings", StorePath("hall", "pump/readings.txt"))
LOCATIONS = """\
[calendar]
first_day = 2025-01-01
[fleets.pump]
source = {{ kind = "files" }}

[[locations]]
name = "cell"
kind = "edge"
zone = "cell"
jurisdiction = "DE"
clearance = "restricted"
price_per_hour = 4
priced_on = 2026-01-01
price_source = "assumed"

[[locations]]
name = "hall"
kind = "on_prem"
zone = "plant"
jurisdiction = "DE"
price_per_hour = {hall}
priced_on = 2026-01-01
price_source = "assumed"
latency_ms = 50_000

[[locations]]
name = "sky"
kind = "cloud"
zone = "sky"
jurisdiction = "IE"
price_per_hour = {sky}
priced_on = 2026-01-01
price_source = "assumed"
latency_ms = 100_000
"""
THREE = """
[[targets]]
name = "box"
location = "cell"
kind = "in_process"
[[targets]]
name = "server"
location = "hall"
kind = "newcomer"
path = "{here}"
[[targets]]
name = "worker"
location = "sky"
kind = "faulty"
wraps = {{ kind = "newcomer", path = "{here}" }}
"""


PATIENT = "\n[workloads.scoring]\ndeadline_s = 10_000\nhour_value = 0\n"


@pytest.fixture(autouse=True)
def with_the_newcomer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One more file among the targets; a worker that work in this process finds too."""
    folder = tmp_path / "more-targets"
    folder.mkdir()
    shutil.copy(HERE / "newcomer.py", folder)
    monkeypatch.setattr(targets, "__path__", [*targets.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, "resources.targets.newcomer", raising=False)
    monkeypatch.syspath_prepend(str(HERE))


@dataclass
class Bench:
    """A small plant, and an asset of it whose work is placed."""

    home: Home
    clock: Clock = field(default_factory=SystemClock)
    ends: list[BaseException] = field(default_factory=list)

    def site(self, text: str, *, hall: float = 2, sky: float = 1) -> "Bench":
        written = LOCATIONS.format(hall=hall, sky=sky) + text
        (self.home.sites / "north.toml").write_text(written)
        self.plant = Plant(Catalog(self.home), "north", clock=self.clock)
        readings = self.plant.store("hall") / READINGS.at.path
        readings.parent.mkdir(parents=True, exist_ok=True)
        readings.write_text("3 4 5")
        return self

    def materialize(self, workload: str = "scoring", fails: str | None = None) -> tuple[Placed | None, Any]:
        """What was done, and the asset's metadata; None where it failed."""
        done: list[Placed] = []

        @dg.asset
        def asked(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            try:
                placed = run_placed(
                    context,
                    self.plant,
                    "pump",
                    workload,
                    ["{python}", "-m", "placed_worker"],
                    parcels={"readings": READINGS},
                    extras={"fails": fails},
                )
            except BaseException as error:
                self.ends.append(error)
                raise
            done.append(placed)
            return dg.MaterializeResult(metadata=placed_metadata(placed, "EUR"))

        result = dg.materialize([asked], instance=shared_instance(), raise_on_error=False)
        if not done:
            return None, {}
        (event,) = result.get_asset_materialization_events()
        return done[0], {name: value.value for name, value in event.materialization.metadata.items()}

    def work(self, workload: str = "scoring", fails: str | None = None) -> Placed:
        placed, _ = self.materialize(workload, fails)
        assert placed is not None, self.ends
        return placed

    def launches(self) -> dict[str, int]:
        """How often each faulty target was asked to start something."""
        counted = (self.home.root / "stores").glob("*/faulty/*.launches")
        return {path.stem: path.stat().st_size for path in counted}

    @property
    def blocked(self) -> set[str | None]:
        return {block.target for block in self.plant.dispatcher.blocks.active(self.clock.now())}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Home(tmp_path / "home").prepare())


def refusing(name: str, location: str, fault: str = "refuse = 1.0") -> str:
    return f"""
[[targets]]
name = "{name}"
location = "{location}"
kind = "faulty"
wraps = {{ kind = "in_process", background = false }}
{fault}
"""


# The same call, somewhere else.


@pytest.mark.parametrize(
    ("needs", "prices", "target", "location"),
    [
        ("hour_value = 0\ndeadline_s = 1000", {}, "worker", "sky"),
        ("hour_value = 0\ndeadline_s = 1000", {"sky": 3}, "server", "hall"),
        ('hour_value = 0\ndeadline_s = 1000\nresidency = ["DE"]', {}, "server", "hall"),
        ("hour_value = 0\ndeadline_s = 90", {}, "server", "hall"),
        ("hour_value = 0\ndeadline_s = 40", {}, "box", "cell"),
        ('hour_value = 0\ndeadline_s = 1000\nclassification = "restricted"', {}, "box", "cell"),
        ("deadline_s = 1000\nhour_value = 1000", {}, "box", "cell"),
    ],
)
def test_the_same_call_is_served_wherever_deadline_price_and_residency_have_it(
    bench: Bench, needs: str, prices: dict[str, float], target: str, location: str
) -> None:
    bench.site(f"{THREE.format(here=HERE)}\n[workloads.scoring]\n{needs}", **prices)
    placed, metadata = bench.materialize()
    assert placed is not None, bench.ends
    assert placed.record == {"sum": 12, "budget": 1.0}
    assert (bench.plant.store(location) / placed.folder.path / "sum.txt").read_text() == "12"
    assert placed.location == location
    assert [(c.source.location, c.destination.location) for c in placed.crossings] == (
        [] if location == "hall" else [("hall", location)]
    )
    assert (metadata["target"], metadata["location"], metadata["tries"], metadata["currency"]) == (
        target, location, 1, "EUR",
    )  # fmt: skip
    assert f"{target} ({location}): chosen" in metadata["placement"]
    assert metadata["placement"].count("\n") == 2, "every candidate is told"
    (work,) = bench.plant.works.all()
    assert (work.target, work.location, work.state, work.fleet) == (target, location, "succeeded", "pump/north")
    price = bench.plant.site.location(location).price_per_hour
    assert work.seconds is not None
    assert work.cost == pytest.approx(price * work.seconds / 3600)
    assert placed.cost == work.cost
    assert work.handle is not None
    assert work.handle in placed.folder.path


def test_what_runs_took_decides_where_the_next_goes(bench: Bench) -> None:
    """A target that turned out to be slow loses the work, without anybody changing a setting."""
    bench.clock = clock = Simulated()
    slow = refusing("worker", "sky", "late = 1.0\nlate_s = 1800") + refusing("server", "hall", "")
    bench.site(slow + PATIENT, hall=9)
    block = bench.plant.dispatcher.blocks.failed("worker", "it is cut off", clock.now())
    where = [bench.work().location]
    clock.passed_s += (block.until - clock.now()).total_seconds()
    where += [bench.work().location for _ in range(3)]
    assert where == ["hall", "sky", "hall", "hall"]


# Failover.


def test_a_target_that_fails_is_blocked_and_the_next_best_serves(bench: Bench) -> None:
    bench.site(
        refusing("worker", "sky")
        + THREE.format(here=HERE)
        .replace('name = "worker"', 'name = "other"')
        .replace('location = "sky"', 'location = "hall"')
        + PATIENT
    )
    placed, metadata = bench.materialize()
    assert placed is not None, bench.ends
    assert placed.record["sum"] == 12
    assert placed.location == "hall"
    (failed,) = placed.history
    assert failed.startswith("worker at sky: ")
    assert "refused" in failed
    assert metadata["tries"] == 2
    assert f"tried: {failed}" in metadata["placement"]
    assert bench.blocked == {"worker"}
    assert "worker (sky): rejected, blocked" in metadata["placement"]
    lost, made = bench.plant.works.all()
    assert (lost.state, lost.target, lost.why in failed) == ("failed", "worker", True)
    assert (made.state, made.why) == ("succeeded", "")
    assert made.cost > 0
    assert bench.plant.works.running(bench.clock.now()) == {}
    again = bench.work()
    assert again.history == ()
    assert bench.launches()["worker"] == 1, "it was left alone"


@pytest.mark.parametrize("fault", ["die = 1.0\ndie_after_s = 0", "wrong = 1.0", "refuse = 1.0"])
def test_however_it_fails_another_answers(bench: Bench, fault: str) -> None:
    bench.clock = Simulated()
    bench.site(refusing("worker", "sky", fault) + refusing("server", "hall", "") + PATIENT)
    placed = bench.work()
    assert (placed.record["sum"], placed.location, len(placed.history)) == (12, "hall", 1)
    assert bench.blocked == {"worker"}


def test_what_was_spent_before_a_failure_is_on_the_books(bench: Bench) -> None:
    bench.clock = Simulated()
    bench.site(
        refusing("worker", "sky", "hang = 1.0")
        + refusing("server", "hall", "")
        + ("\n[workloads.scoring]\ndeadline_s = 360\nhour_value = 0")
    )
    placed = bench.work()
    lost, made = bench.plant.works.all()
    assert (lost.state, lost.seconds, lost.cost) == ("failed", pytest.approx(360), pytest.approx(0.1))
    assert "still running after 360 s" in lost.why
    assert lost.moved_gb == pytest.approx(5e-9)
    assert placed.cost == made.cost < 0.01


@pytest.mark.parametrize("attempts", [1, 2, 3, 4])
def test_attempts_are_bounded_over_all_targets_together(bench: Bench, attempts: int) -> None:
    bench.clock = Simulated()
    names = ["a", "b", "c", "d", "e"]
    bench.site("".join(refusing(name, "hall") for name in names) + f"\n[workloads.scoring]\nattempts = {attempts}")
    assert bench.materialize() == (None, {})
    assert sum(bench.launches().values()) == attempts
    assert set(bench.launches().values()) == {1}, "never the same one twice"
    (error,) = bench.ends
    assert type(error) is TargetFailed
    for name in names[:attempts]:
        assert f"{name} at hall: " in str(error)
    assert [(w.target, w.state) for w in bench.plant.works.all()] == [(name, "failed") for name in names[:attempts]]
    assert bench.blocked == set(names[:attempts])
    assert error.next_step


def test_where_no_target_is_left_the_error_is_the_table_and_what_was_tried(bench: Bench) -> None:
    bench.clock = Simulated()
    bench.site(refusing("a", "hall") + refusing("b", "sky") + f"{PATIENT}attempts = 5")
    assert bench.materialize() == (None, {})
    assert bench.launches() == {"a": 1, "b": 1}
    (error,) = bench.ends
    assert isinstance(error, NoCandidate)
    assert [line.partition(":")[0] for line in error.history] == ["b at sky", "a at hall"]
    assert "scoring on a (hall): rejected, blocked" in str(error)
    assert "scoring on b (sky): rejected, blocked" in str(error)
    assert "Tried: " in str(error)


def test_all_tries_after_the_first_failure_share_one_deadline(bench: Bench) -> None:
    bench.clock = clock = Simulated()
    bench.site(
        "".join(refusing(name, "cell", "hang = 1.0") for name in "abcde")
        + ("\n[workloads.scoring]\nattempts = 5\ndeadline_s = 20")
    )
    began = clock.monotonic()
    assert bench.materialize() == (None, {})
    (error,) = bench.ends
    assert type(error) is TargetLate, "it had a whole deadline, so that the work itself may be the cause"
    assert str(error).count("still running after 20 s") == 2
    assert "the deadline passed" in str(error)
    assert clock.monotonic() - began == pytest.approx(2 * 20, abs=1), "one deadline, and one more once it had failed"
    assert [w.seconds for w in bench.plant.works.all()] == [pytest.approx(20), pytest.approx(20)]


def test_what_is_left_of_the_deadline_is_all_a_later_try_gets(bench: Bench) -> None:
    bench.clock = Simulated()
    targets_ = (
        refusing("a", "cell")
        + refusing("b", "cell", "hang = 1.0\ntimeout_s = 15")
        + refusing("c", "cell", "hang = 1.0")
    )
    bench.site(f"{targets_}\n[workloads.scoring]\ndeadline_s = 20")
    assert bench.materialize() == (None, {})
    assert isinstance(bench.ends[0], TargetLate), "b had all the time it may take"
    assert [w.target for w in bench.plant.works.all()] == ["a", "b", "c"]
    assert [w.seconds for w in bench.plant.works.all()] == [0, pytest.approx(15), pytest.approx(5)]


def test_work_that_never_had_a_whole_deadline_is_not_called_late(bench: Bench) -> None:
    bench.clock = Simulated()
    bench.site(refusing("a", "cell") + refusing("b", "cell", "hang = 1.0") + "\n[workloads.scoring]\ndeadline_s = 20")
    assert bench.materialize() == (None, {})
    (error,) = bench.ends
    assert isinstance(error, NoCandidate)
    assert error.history[-1] == "the deadline passed"
    assert [w.seconds for w in bench.plant.works.all()] == [0, pytest.approx(20)]


def test_lateness_is_told_as_lateness(bench: Bench) -> None:
    bench.clock = Simulated()
    bench.site(refusing("a", "cell", "hang = 1.0") + "\n[workloads.scoring]\nattempts = 1\ndeadline_s = 20")
    assert bench.materialize() == (None, {})
    assert type(bench.ends[0]) is TargetLate


def test_an_error_of_the_work_itself_blocks_nobody_and_is_not_tried_again(bench: Bench) -> None:
    bench.clock = Simulated()
    bench.site(refusing("a", "hall", "") + refusing("b", "hall", ""))
    assert bench.materialize(fails="of itself") == (None, {})
    (error,) = bench.ends
    assert isinstance(error, IntegrityError)
    assert "not what they were" in str(error)
    assert sum(bench.launches().values()) == 1
    assert bench.blocked == set()
    (work,) = bench.plant.works.all()
    assert (work.state, "not what they were" in work.why) == ("failed", True)
    assert bench.plant.dispatcher.breaker("a").allows()


def test_an_error_of_the_place_is_tried_elsewhere(bench: Bench) -> None:
    bench.clock = Simulated()
    bench.site(refusing("a", "hall", "") + refusing("b", "hall", ""))
    assert bench.materialize(fails="where it runs") == (None, {})
    assert bench.launches() == {"a": 1, "b": 1}
    assert bench.blocked == {"a", "b"}
    assert "there is no memory left" in str(bench.ends[0])


def test_enough_failures_open_a_targets_breaker(bench: Bench) -> None:
    """A block ends by itself; the breaker lets one probe through, and no more before that has succeeded."""
    bench.clock = clock = Simulated()
    bench.site(refusing("a", "hall", "refuse = 1.0\nbreaker = { minimum = 2, open_s = 80_000, open_max_s = 80_000 }"))
    for _ in range(2):
        assert bench.materialize() == (None, {})
        clock.passed_s += 4000
    assert bench.materialize() == (None, {})
    error = bench.ends[-1]
    assert isinstance(error, NoCandidate)
    assert "breaker: its circuit breaker lets no call through" in str(error)
    assert bench.launches() == {"a": 2}


def test_training_goes_from_the_cloud_to_the_premises_on_less_and_comes_back(bench: Bench) -> None:
    bench.clock = clock = Simulated()
    ways = """
[workloads.training]
any_of = ["whole", "less"]
[workloads.whole]
kinds = ["cloud"]
[workloads.less]
kinds = ["on_prem"]
budget = 0.3
"""
    bench.site(refusing("worker", "sky", "refuse = 0.5\nseed = 1") + refusing("server", "hall", "") + ways)
    seen = []
    for _ in range(12):
        placed = bench.work("training")
        seen.append((placed.location, placed.record["budget"], len(placed.history)))
        clock.passed_s += 61
    assert {(location, budget) for location, budget, _ in seen} == {("sky", 1.0), ("hall", 0.3)}
    assert ("hall", 0.3, 1) in seen, "it failed over"
    assert ("hall", 0.3, 0) in seen, "it stays away for longer than it was away, where it failed more than once"


def test_a_full_location_is_passed_by(bench: Bench) -> None:
    bench.site(THREE.format(here=HERE) + PATIENT)
    path = bench.home.sites / "north.toml"
    path.write_text(path.read_text().replace('jurisdiction = "IE"', 'jurisdiction = "IE"\ncapacity = 1'))
    bench.plant = plant = Plant(Catalog(bench.home), "north", clock=bench.clock)
    held = plant.dispatcher.start("pump/north", plant.dispatcher.place("scoring"), run_id="another", limit_s=600)
    assert held.placement.chosen is not None
    assert held.placement.chosen.candidate.location == "sky"
    assert bench.work().location == "hall"
    plant.dispatcher.failed(held, "somebody cancelled it", [], targets_fault=False)
    assert bench.work().location == "sky"


# A location out of reach.


def test_a_location_that_two_targets_cannot_reach_is_left_alone_with_all_its_others(bench: Bench) -> None:
    bench.clock = clock = Simulated()
    bench.site("".join(refusing(name, "sky", "") for name in "abc") + refusing("server", "hall", "") + PATIENT)
    sky = bench.plant.store("sky")
    sky.parent.mkdir(parents=True, exist_ok=True)
    sky.write_text("nothing can be brought here")
    placed, metadata = bench.materialize()
    assert placed is not None, bench.ends
    assert [(w.target, w.state) for w in bench.plant.works.all()] == [
        ("a", "failed"), ("b", "failed"), ("server", "succeeded"),
    ]  # fmt: skip
    assert "c (sky): rejected, blocked: location sky until" in metadata["placement"]
    assert "a and b are out of reach" in metadata["placement"]
    clock.passed_s += 61
    free = [v.candidate.target for v in bench.plant.dispatcher.place("scoring").verdicts if not v.rejections]
    assert sorted(free) == ["a", "b", "c", "server"], "it is tried again"


def test_targets_that_fail_within_reach_do_not_block_their_location(bench: Bench) -> None:
    bench.clock = Simulated()
    bench.site("".join(refusing(name, "sky", "wrong = 1.0") for name in "ab") + refusing("c", "sky", "") + PATIENT)
    assert bench.work().location == "sky"
    assert bench.blocked == {"a", "b"}


# A target in one file.


def test_a_target_is_added_in_one_file(bench: Bench) -> None:
    assert "newcomer" in plugins.names(targets)
    bench.site(f'\n[[targets]]\nname = "mine"\nlocation = "hall"\nkind = "newcomer"\npath = "{HERE}"\n')
    placed = bench.work()
    assert placed.placement.chosen is not None
    assert placed.placement.chosen.candidate.kind == "newcomer"
    assert placed.record["sum"] == 12


def test_without_the_file_the_site_says_which_targets_there_are(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "__path__", [path for path in targets.__path__ if "more-targets" not in path])
    with pytest.raises(ConfigurationError, match=r"no target kind .*'newcomer'; known: .*subprocess"):
        bench.site(f'\n[[targets]]\nname = "mine"\nlocation = "hall"\nkind = "newcomer"\npath = "{HERE}"\n')


def test_an_unknown_workload_lists_those_there_are(bench: Bench) -> None:
    bench.site(refusing("a", "hall"))
    ask: Callable[[], object] = lambda: bench.plant.dispatcher.place("scorign")  # noqa: E731
    with pytest.raises(UnknownName, match="known: evaluation, scoring, training"):
        ask()
