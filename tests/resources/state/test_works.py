"""The ledger of placed work, and the targets that are left alone for a while."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbone.placement import BlockedTarget, Candidate, Placement, Situation, place
from backbone.requirements import Alternative, Requirements
from resources.state.database import Database
from resources.state.works import BLOCK_MOST_S, BLOCK_S, FORGIVEN_AFTER, LEFT_RUNNING, RUNS_LOOKED_AT, Blocks, Works

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BLOCK = timedelta(seconds=BLOCK_S)


def placed(
    target: str = "box", location: str = "edge", *, workload: str = "scoring", way: str = "", at: datetime = NOW
) -> Placement:
    candidate = Candidate(target, "in_process", location, "edge", "DE", price_per_hour=2)
    return place(workload, [Alternative(way or workload, Requirements())], [candidate], Situation(), now=at)


def begin(works: Works, placement: Placement, *, run_id: str = "run", capacity: int | None = None) -> int | None:
    return works.begin("fan/north", placement, run_id=run_id, until=placement.at + HOUR, capacity=capacity)


def began(works: Works, placement: Placement, **more: str) -> int:
    work = begin(works, placement, **more)
    assert work is not None
    return work


@pytest.fixture
def works(database: Database, site: str) -> Works:
    return Works(database, site)


@pytest.fixture
def blocks(database: Database, site: str) -> Blocks:
    return Blocks(database, site)


# Works.


def test_a_work_is_on_record_from_its_beginning_to_its_end(works: Works, site: str) -> None:
    work = began(works, placed(), run_id="r1")
    works.launched(work, "handle-1")
    (under_way,) = works.left_running()
    assert (under_way.state, under_way.handle, under_way.seconds) == ("running", "handle-1", None)
    works.end(work, "succeeded", seconds=3.5, moved_gb=0.25, cost=0.125)
    (kept,) = works.all()
    assert (kept.site, kept.fleet, kept.workload, kept.alternative) == (site, "fan/north", "scoring", "scoring")
    assert (kept.run_id, kept.target, kept.location, kept.location_kind) == ("r1", "box", "edge", "edge")
    assert (kept.state, kept.began, kept.seconds, kept.moved_gb, kept.cost) == ("succeeded", NOW, 3.5, 0.25, 0.125)
    assert kept.placement == placed().to_dict()
    assert works.left_running() == []


def test_work_that_could_not_be_ended_is_left_running_and_says_so_when_it_has_ended(works: Works) -> None:
    work = began(works, placed())
    works.end(work, "failed", seconds=30, moved_gb=0, cost=0, why="it fell silent")
    works.still_runs(work)
    (left,) = works.left_running()
    works.write_off(work, seconds=900, cost=1, why=left.why)
    (kept,) = works.all()
    assert (kept.state, kept.seconds, kept.why) == ("failed", 900, f"it fell silent{LEFT_RUNNING}")


def test_a_period_holds_what_began_in_it(works: Works) -> None:
    for hour in range(4):
        began(works, placed(at=NOW + hour * HOUR), run_id=f"r{hour}")
    found = works.all(since=NOW + HOUR, until=NOW + 3 * HOUR)
    assert [w.run_id for w in found] == ["r1", "r2"]
    assert [w.run_id for w in works.all(run_id="r3")] == ["r3"]


def test_sites_are_kept_apart(works: Works, database: Database, site: str) -> None:
    began(works, placed())
    other = Works(database, f"{site}-other")
    assert (other.all(), other.running(NOW), other.seconds("scoring")) == ([], {}, {})
    assert begin(other, placed(), capacity=1) is not None


def test_a_full_location_takes_no_more_until_somebody_ends(works: Works) -> None:
    first, second = began(works, placed()), begin(works, placed(), capacity=2)
    assert second is not None
    assert begin(works, placed(), capacity=2) is None
    assert begin(works, placed("other-target"), capacity=2) is None, "places are the location's, not the target's"
    assert begin(works, placed(location="hall"), capacity=2) is not None
    assert works.running(NOW) == {"edge": 2, "hall": 1}
    works.end(first, "failed", seconds=1, moved_gb=0, cost=0, why="it died")
    assert begin(works, placed(), capacity=2) is not None


def test_work_that_was_lost_with_its_launcher_takes_no_place_for_ever(works: Works) -> None:
    began(works, placed())
    assert begin(works, placed(at=NOW + HOUR - timedelta(seconds=1)), capacity=1) is None
    assert begin(works, placed(at=NOW + HOUR), capacity=1) is not None
    assert len(works.left_running()) == 2, "nobody has said the end of it"


def test_however_many_ask_at_once_a_location_is_never_over_full(database: Database, site: str) -> None:
    capacity, threads, rounds = 3, 12, 8
    start = threading.Barrier(threads)
    inside: list[int] = []
    most: list[int] = []
    refused: list[int] = []
    guard = threading.Lock()

    def work() -> None:
        mine = Works(Database(database.url), site)
        start.wait()
        for _ in range(rounds):
            got = begin(mine, placed(), capacity=capacity)
            if got is None:
                refused.append(1)
                continue
            with guard:
                inside.append(got)
                most.append(len(inside))
            with guard:
                inside.remove(got)
            mine.end(got, "succeeded", seconds=1, moved_gb=0, cost=0)

    going = [threading.Thread(target=work) for _ in range(threads)]
    for thread in going:
        thread.start()
    for thread in going:
        thread.join(120)
    assert not any(thread.is_alive() for thread in going)
    assert most
    assert max(most) <= capacity
    assert len(most) + len(refused) == threads * rounds
    assert Works(database, site).running(NOW) == {}


def test_the_last_place_is_given_once(database: Database, site: str) -> None:
    threads, got = 12, []
    start = threading.Barrier(threads)

    def work() -> None:
        mine = Works(Database(database.url), site)
        start.wait()
        got.append(begin(mine, placed(), capacity=1))

    going = [threading.Thread(target=work) for _ in range(threads)]
    for thread in going:
        thread.start()
    for thread in going:
        thread.join(120)
    assert [work is not None for work in got].count(True) == 1
    assert len(got) == threads


def test_estimates_are_made_of_the_last_runs_that_succeeded(works: Works) -> None:
    for seconds in range(RUNS_LOOKED_AT + 5):
        works.end(began(works, placed()), "succeeded", seconds=seconds, moved_gb=0, cost=0)
    works.end(began(works, placed()), "failed", seconds=999, moved_gb=0, cost=0)
    works.end(began(works, placed(way="scoring-small")), "succeeded", seconds=0.5, moved_gb=0, cost=0)
    works.end(began(works, placed("other")), "succeeded", seconds=7, moved_gb=0, cost=0)
    works.end(began(works, placed(workload="training")), "succeeded", seconds=60, moved_gb=0, cost=0)
    began(works, placed())
    found = works.seconds("scoring")
    assert set(found) == {("scoring", "box"), ("scoring-small", "box"), ("scoring", "other")}
    assert sorted(found["scoring", "box"]) == list(range(5, RUNS_LOOKED_AT + 5))
    assert found["scoring-small", "box"] == [0.5]


# Blocks.


def test_a_target_that_fails_is_blocked_and_comes_back(blocks: Blocks) -> None:
    block = blocks.failed("box", "it died", NOW)
    assert (block.until, block.target) == (NOW + BLOCK, "box")
    assert list(blocks.active(NOW)) == [block]
    assert list(blocks.active(NOW + BLOCK - timedelta(microseconds=1))) == [block]
    assert list(blocks.active(NOW + BLOCK)) == []


def test_blocks_double_up_to_a_bound(blocks: Blocks) -> None:
    waits = [(blocks.failed("box", "it died", NOW).until - NOW).total_seconds() for _ in range(40)]
    assert waits[:4] == [BLOCK_S, 2 * BLOCK_S, 4 * BLOCK_S, 8 * BLOCK_S]
    assert waits == sorted(waits)
    assert waits[-1] == BLOCK_MOST_S
    assert (blocks.failed("other", "it died", NOW).until - NOW) == BLOCK


def test_enough_successes_in_a_row_forgive(blocks: Blocks) -> None:
    blocks.failed("box", "it died", NOW)
    for _ in range(FORGIVEN_AFTER):
        blocks.succeeded("box")
    assert blocks.failed("box", "it died", NOW).until - NOW == BLOCK


def test_a_target_that_flaps_is_not_forgiven(blocks: Blocks) -> None:
    """Back slower than it left: too few successes between two failures do not count."""
    waits = []
    for _ in range(3):
        waits.append(blocks.failed("box", "it died", NOW).until - NOW)
        for _ in range(FORGIVEN_AFTER - 1):
            blocks.succeeded("box")
    assert waits == [BLOCK, 2 * BLOCK, 4 * BLOCK]


def test_a_success_does_not_end_a_block_that_another_failure_began(blocks: Blocks) -> None:
    """Work that was started before the failure may end well after it."""
    block = blocks.failed("box", "it died", NOW)
    blocks.succeeded("box")
    assert list(blocks.active(NOW)) == [block]
    blocks.succeeded("never-failed")
    assert list(blocks.active(NOW)) == [block]


def test_a_clock_that_went_back_blocks_nobody_for_longer_than_any_block_lasts(blocks: Blocks) -> None:
    blocks.failed("box", "it died", NOW)
    assert list(blocks.active(NOW - timedelta(days=30))) == []
    assert len(blocks.active(NOW - timedelta(minutes=30))) == 1, "that could be a block of its own length"


def test_one_target_out_of_reach_blocks_itself_alone(blocks: Blocks) -> None:
    block = blocks.failed("box", "silent", NOW)
    assert blocks.unreachable("box", "sky", "silent", NOW) is None
    blocks.failed("box", "silent", NOW)
    assert blocks.unreachable("box", "sky", "silent", NOW) is None, "the same one again is no second one"
    assert [(b.target, b.location) for b in blocks.active(NOW)] == [(block.target, None)]


def out_of_reach(blocks: Blocks, target: str, location: str = "sky", at: datetime = NOW) -> BlockedTarget | None:
    blocks.failed(target, "silent", at)
    return blocks.unreachable(target, location, "silent", at)


def test_two_targets_out_of_reach_at_once_block_their_location(blocks: Blocks) -> None:
    out_of_reach(blocks, "box")
    assert out_of_reach(blocks, "hall-box", "hall") is None, "elsewhere"
    blocks.failed("dead", "it died", NOW)
    block = out_of_reach(blocks, "worker")
    assert block == BlockedTarget(NOW + BLOCK, "box and worker are out of reach: silent", location="sky")
    assert block in blocks.active(NOW)
    assert block not in blocks.active(NOW + BLOCK)


def test_a_target_that_is_back_in_reach_is_no_witness_against_its_location(blocks: Blocks) -> None:
    out_of_reach(blocks, "box")
    assert out_of_reach(blocks, "worker", at=NOW + BLOCK) is None, "its block has ended"
    blocks.failed("worker", "it died, within reach", NOW + BLOCK)
    assert out_of_reach(blocks, "third", at=NOW + BLOCK) is None


def test_a_locations_block_doubles_until_its_targets_succeed(blocks: Blocks) -> None:
    def lasts() -> timedelta:
        for target in ("box", "worker"):
            blocks.lift(target=target)
        out_of_reach(blocks, "box")
        block = out_of_reach(blocks, "worker")
        assert block is not None
        return block.until - NOW

    assert [lasts(), lasts()] == [BLOCK, 2 * BLOCK]
    for _ in range(FORGIVEN_AFTER):
        blocks.succeeded("third", "sky")
    assert lasts() == BLOCK


def test_what_is_announced_lasts_as_long_as_it_is_said(blocks: Blocks) -> None:
    made = blocks.announce(NOW + 30 * HOUR, "moving house", location="sky", workload="training")
    assert list(blocks.active(NOW)) == [made]
    assert (made.target, made.location, made.workload, made.announced) == (None, "sky", "training", True)
    assert list(blocks.active(NOW + 30 * HOUR)) == []
    later = blocks.announce(NOW + HOUR, "sooner done", location="sky", workload="training")
    assert list(blocks.active(NOW)) == [later], "the later word holds"


def test_failures_and_announcements_leave_each_other_alone(blocks: Blocks) -> None:
    announced = blocks.announce(NOW + 5 * HOUR, "maintenance", target="box")
    failed = blocks.failed("box", "it died", NOW)
    for _ in range(FORGIVEN_AFTER):
        blocks.succeeded("box")
    assert list(blocks.active(NOW)) == [failed, announced]
    blocks.announce(NOW + HOUR, "shorter", target="box")
    assert failed in blocks.active(NOW)


def test_what_is_lifted_is_forgotten_and_nothing_else(blocks: Blocks, database: Database, site: str) -> None:
    blocks.failed("box", "it died", NOW)
    blocks.announce(NOW + HOUR, "maintenance", target="box")
    wider = blocks.announce(NOW + HOUR, "moving house", location="sky")
    elsewhere = Blocks(database, f"{site}-other").announce(NOW + HOUR, "theirs", target="box")
    assert blocks.lift(target="box") == 2
    assert list(blocks.active(NOW)) == [wider]
    assert list(Blocks(database, f"{site}-other").active(NOW)) == [elsewhere]
    assert blocks.failed("box", "it died", NOW).until - NOW == BLOCK
    assert blocks.lift(workload="training") == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["fail", "succeed"]), max_size=12))
def test_a_block_is_as_long_as_the_failures_that_nothing_forgave(database: Database, events: list[str]) -> None:
    blocks = Blocks(database, f"site-{id(events)}-{'-'.join(events)}")
    with database.reading() as connection:
        assert connection is not None
    strikes = good = 0
    for event in events:
        if event == "succeed":
            blocks.succeeded("box")
            good += 1
            strikes = 0 if good >= FORGIVEN_AFTER else strikes
        else:
            good, strikes = 0, strikes + 1
            until = blocks.failed("box", "it died", NOW).until
            assert (until - NOW).total_seconds() == min(BLOCK_S * 2 ** (strikes - 1), BLOCK_MOST_S)
