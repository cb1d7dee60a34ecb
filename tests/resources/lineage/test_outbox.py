"""What the outbox keeps, in which order, and what it lets through."""

from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.lineage.events import canonical
from resources.state.database import Database
from resources.state.outbox import CORRUPT, Followed, Outbox, key_of
from tests.resources.lineage.events import event, pair, run_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


def _damage(database: Database, assignment: str, *, of: str = "lineage_events") -> None:
    which = "type = 'START'"
    if of == "lineage_bodies":
        which = f"digest = (SELECT digest FROM lineage_events WHERE {which})"  # noqa: S608
    with database.engine.execution_options(writes=True).begin() as connection:
        connection.exec_driver_sql(f"UPDATE {of} SET {assignment} WHERE {which}")  # noqa: S608


def test_what_is_kept_comes_out_in_order_as_the_same_bytes(outbox: Outbox) -> None:
    events = [*pair("a"), *pair("b")]
    assert outbox.add("a", events, now=NOW).new == 4
    assert [p.body for p in outbox.due(NOW, limit=10)] == [canonical(e) for e in events]


def test_an_event_read_again_is_not_kept_twice_even_when_it_was_delivered_and_pruned(outbox: Outbox) -> None:
    outbox.add("a", pair("a"), now=NOW)
    outbox.delivered([p.seq for p in outbox.due(NOW, limit=10)], now=NOW)
    assert outbox.prune(NOW + timedelta(days=31)) == 2
    assert outbox.add("a", [*pair("a"), event("a", "OTHER", 9)], now=NOW).new == 1
    assert [p.key.type for p in outbox.due(NOW, limit=10)] == ["OTHER"]


def test_bytes_that_change_are_told_and_what_was_kept_stands(outbox: Outbox) -> None:
    first, changed = event("a", "START"), event("a", "START", tags={"x": 1})
    outbox.add("a", [first], now=NOW)
    assert outbox.add("a", [changed], now=NOW).changed == (key_of(first),)
    assert outbox.add("b", [event("b", "START"), {**event("b", "START"), "producer": "urn:x"}], now=NOW).changed
    assert [p.body for p in outbox.due(NOW, limit=10)] == [canonical(first), canonical(event("b", "START"))]


def test_the_position_is_kept_with_the_events_or_not_at_all(outbox: Outbox) -> None:
    followed = Followed("a", updated=5.0, cursor="7")
    with pytest.raises(ValueError, match="JSON compliant"):
        outbox.add("a", [event("a", "START", x=float("nan"))], now=NOW, followed=followed, marks={"read": 5.0})
    assert outbox.open_runs() == {}
    assert outbox.mark("read") is None
    outbox.add("a", pair("a"), now=NOW, followed=followed, marks={"read": 5.0})
    assert outbox.open_runs() == {"a": followed}
    assert outbox.mark("read") == 5.0


@pytest.mark.parametrize(
    ("of", "damage"),
    [
        ("lineage_bodies", "body = NULL"),
        ("lineage_bodies", "body = substr(body, 1, 20)"),
        ("lineage_bodies", "digest = 'x'"),
        ("lineage_events", "digest = 'x'"),
    ],
)
def test_a_damaged_row_is_told_from_the_others(outbox: Outbox, database: Database, of: str, damage: str) -> None:
    outbox.add("a", pair("a"), now=NOW)
    _damage(database, damage, of=of)
    damaged, sound = outbox.due(NOW, limit=10)
    assert damaged.body is None
    assert sound.body == canonical(event("a", "COMPLETE", 1))


def test_a_row_whose_bytes_became_text_is_told_too(outbox: Outbox, database: Database) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL keeps a column's type")
    outbox.add("a", pair("a"), now=NOW)
    _damage(database, "body = 'garbage'", of="lineage_bodies")
    _damage(database, "next_try = 'soon', added_at = 'never'")
    assert [p.body is None for p in outbox.due(NOW, limit=10)] == [True, False]
    assert outbox.standing().pending == 2


def test_a_run_waits_behind_its_event_that_failed_and_others_go_on(outbox: Outbox) -> None:
    outbox.add("a", [*pair("a"), *pair("b")], now=NOW)
    first = outbox.due(NOW, limit=1)[0]
    outbox.failed(first.seq, "500", attempts=0, now=NOW)
    assert {p.key.subject for p in outbox.due(NOW, limit=10)} == {run_id("b")}
    later = outbox.due(NOW + timedelta(seconds=6), limit=10)
    assert [p.key.subject for p in later] == [run_id("a")] * 2 + [run_id("b")] * 2
    assert later[0].attempts == 1


def test_waits_grow_to_a_quarter_of_an_hour(outbox: Outbox) -> None:
    outbox.add("a", [event("a", "START")], now=NOW)
    (seq,) = (p.seq for p in outbox.due(NOW, limit=1))
    outbox.failed(seq, "500", attempts=50, now=NOW)
    assert outbox.due(NOW + timedelta(minutes=14), limit=1) == []
    assert len(outbox.due(NOW + timedelta(minutes=16), limit=1)) == 1


def test_what_was_set_aside_can_be_tried_again(outbox: Outbox, database: Database) -> None:
    followed = Followed("a", updated=5.0, cursor="2", closed=True)
    outbox.add("a", pair("a"), now=NOW, followed=followed)
    _damage(database, "digest = 'x'")
    start, complete = outbox.due(NOW, limit=10)
    outbox.set_aside(start.seq, CORRUPT)
    outbox.set_aside(complete.seq, "answered 422")
    assert [(s.corrupt, s.reason) for s in outbox.all_set_aside()] == [(False, "answered 422"), (True, CORRUPT)]
    assert outbox.standing().set_aside == 2
    assert outbox.again() == (1, 1)
    assert [p.key.type for p in outbox.due(NOW, limit=10)] == ["COMPLETE"]
    assert outbox.open_runs() == {"a": Followed("a", updated=5.0)}
    assert outbox.add("a", pair("a"), now=NOW).new == 1


def test_one_relays_at_a_time(outbox: Outbox) -> None:
    assert outbox.lease("me", now=NOW, seconds=60) == "me"
    assert outbox.lease("you", now=NOW, seconds=60) == "me"
    assert outbox.lease("you", now=NOW + timedelta(seconds=61), seconds=60) == "you"
    assert outbox.lease("me", now=NOW + timedelta(seconds=61), seconds=60) == "you"
    outbox.release("me")
    assert outbox.lease("me", now=NOW, seconds=60, taken_over=["you"]) == "me"
    outbox.release("me")
    assert outbox.lease("you", now=NOW, seconds=60) == "you"


def test_a_lease_holds_for_one_who_read_the_clock_before_it_was_given(outbox: Outbox) -> None:
    assert outbox.lease("me", now=NOW + timedelta(seconds=1), seconds=60) == "me"
    assert outbox.lease("you", now=NOW, seconds=60) == "me"


def test_a_lease_does_not_outlive_a_clock_that_went_back(outbox: Outbox) -> None:
    outbox.lease("me", now=NOW + timedelta(days=365), seconds=60)
    assert outbox.lease("you", now=NOW, seconds=60) == "you"


def test_what_was_delivered_stays_so(outbox: Outbox) -> None:
    outbox.add("a", [event("a", "START")], now=NOW)
    (seq,) = (p.seq for p in outbox.due(NOW, limit=1))
    outbox.delivered([seq], now=NOW)
    outbox.failed(seq, "late word of a relay that was thought dead", attempts=0, now=NOW)
    outbox.set_aside(seq, "the same")
    assert outbox.standing().delivered == 1


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3), st.integers(1, 3)),
        st.tuples(st.sampled_from(["deliver", "fail", "refuse"]), st.integers(1, 4), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 2000), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(_STEPS)
def test_whatever_happens_events_of_a_run_leave_in_order_each_once(steps: list[tuple[str, int, int]]) -> None:
    with TemporaryDirectory() as folder:
        _play(Outbox(Database(f"sqlite:///{folder}/state.db")), steps)


def _play(outbox: Outbox, steps: list[tuple[str, int, int]]) -> None:
    now, written = NOW, dict.fromkeys(range(4), 0)
    left: dict[str, list[str]] = {}
    refused = set()
    for kind, n, size in steps:
        if kind == "add":
            written[n] += size
            # The whole history each time, as a collector reads it.
            outbox.add(str(n), [event(str(n), "RUNNING", s) for s in range(written[n])], now=now)
        elif kind == "wait":
            now += timedelta(seconds=n)
        else:
            due = outbox.due(now, limit=n)
            if kind == "deliver":
                outbox.delivered([p.seq for p in due], now=now)
                for p in due:
                    left.setdefault(p.key.subject, []).append(p.key.time)
            elif due and kind == "fail":
                outbox.failed(due[0].seq, "500", attempts=due[0].attempts, now=now)
            elif due:
                outbox.set_aside(due[0].seq, "422")
                refused.add((due[0].key.subject, due[0].key.time))
    for p in outbox.due(now + timedelta(days=1), limit=1000):
        left.setdefault(p.key.subject, []).append(p.key.time)
    for n, size in written.items():
        times = [event(str(n), "RUNNING", s)["eventTime"] for s in range(size)]
        expected = [t for t in times if (run_id(str(n)), t) not in refused]
        assert left.get(run_id(str(n)), []) == expected
