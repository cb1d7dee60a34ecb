"""The outbox of lineage events: written once, in order, with how far history was read; delivered later, at least once.

An event's bytes are kept as they were first made, so that a resend is the same bytes. No two events share (subject,
type, time); the subject of a run's event is its run. What is delivered stays as a line without its bytes, so that
history read again adds nothing.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from backbone.lineage.events import canonical
from resources.state.database import Database, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

Event = Mapping[str, Any]
State = Literal["pending", "delivered", "set_aside"]

KEPT = timedelta(days=30)
"""How long the bytes of a delivered event are kept, so that somebody can see what was sent."""
WAIT_S = 5.0
WAIT_MOST_S = 900.0
CORRUPT = "its bytes are not what was kept: their SHA-256 differs"
_LEVEL = 1
"""Of compression: a seventh of the size for less time than writing it all would take."""
_ALONE = "lineage"
_CHUNK = 400


class Key(NamedTuple):
    """What no two events share. Time is the event's own text."""

    subject: str
    type: str
    time: str


@dataclass(frozen=True, slots=True)
class Pending:
    """One event that is due to be sent; `body` is None where its bytes are not what was kept."""

    seq: int
    key: Key
    body: bytes | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Followed:
    """How far one run's history has been read.

    Attributes:
        updated: the run's own update time, seconds since 1970.
        cursor: the position in its event log that was read; None: nothing was.
        closed: it has ended, and long enough ago that nothing more is expected.
        tries, retry_at, trouble: reading it failed this often in a row; when to try again; why.
        history: where it is recorded; several installations may share a state database.
    """

    run_id: str
    updated: float
    cursor: str | None = None
    closed: bool = False
    tries: int = 0
    retry_at: float | None = None
    trouble: str | None = None
    history: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one history, as they are kept.

    Attributes:
        source: what they were read from: a Dagster run's id, or a name for events without a run.
        keyed: bytes and event by key, in order.
        changed: keys that were given twice, with different bytes.
    """

    source: str
    keyed: Mapping[Key, tuple[bytes, Event]]
    changed: tuple[Key, ...] = ()
    followed: Followed | None = None

    @classmethod
    def of(cls, source: str, events: Sequence[Event], followed: Followed | None = None) -> Batch:
        """Raises:
        ValueError: an event is not JSON.
        """
        keyed: dict[Key, tuple[bytes, Event]] = {}
        changed = []
        for event in events:
            body, key = canonical(event), key_of(event)
            if keyed.setdefault(key, (body, event))[0] != body:
                changed.append(key)
        return cls(source, keyed, tuple(changed), followed)


@dataclass(frozen=True, slots=True)
class SetAside:
    """An event that is not going to be sent, and why."""

    seq: int
    key: Key
    reason: str
    corrupt: bool


@dataclass(frozen=True, slots=True)
class Added:
    """What became of events that were given: new ones, and those whose key was there with other bytes."""

    new: int
    changed: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """The outbox at a glance; `oldest` is the pending event that waits longest, as (seq, key, last error, since)."""

    pending: int
    delivered: int
    set_aside: int
    oldest: tuple[int, Key, str | None, datetime] | None


class Index(Protocol):
    """What is written with events, in their transaction."""

    @property
    def tables(self) -> Sequence[Table]:
        """Made before the transaction begins."""

    def write(self, connection: Connection, events: Sequence[Event]) -> None:
        """Take up events that are new."""


def key_of(event: Event) -> Key:
    """A run event by its run, a dataset's or a job's without a run by its name."""
    time = str(event["eventTime"])
    if "run" in event:
        return Key(str(event["run"]["runId"]), str(event["eventType"]), time)
    kind = "dataset" if "dataset" in event else "job"
    return Key(f"{kind}:{event[kind]['namespace']}/{event[kind]['name']}", kind.upper(), time)


@cache
def _tables() -> dict[str, Table]:
    from sqlalchemy import Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

    metadata = MetaData()
    tables = {
        # Times are seconds since 1970: a damaged number does not keep the other rows from being read.
        "events": Table(
            "lineage_events",
            metadata,
            Column("seq", Integer, primary_key=True),
            Column("subject", String, nullable=False),
            Column("type", String, nullable=False),
            Column("time", String, nullable=False),
            Column("source", String, nullable=False),
            Column("digest", String, nullable=False),
            Column("state", String, nullable=False),
            Column("added_at", Float, nullable=False),
            Column("attempts", Integer, nullable=False),
            Column("next_try", Float),
            Column("delivered_at", Float),
            Column("last_error", Text),
            Index("lineage_events_key", "subject", "type", "time", unique=True),
            Index("lineage_events_state", "state", "seq"),
            sqlite_autoincrement=True,
        ),
        # Apart, so that what is noted of an event does not write its bytes anew.
        "bodies": Table(
            "lineage_bodies", metadata, Column("digest", String, primary_key=True), Column("body", LargeBinary)
        ),
        "runs": Table(
            "lineage_followed_runs",
            metadata,
            Column("run_id", String, primary_key=True),
            Column("history", String, nullable=False, index=True),
            Column("updated", Float, nullable=False),
            Column("cursor", String),
            Column("closed", Boolean, nullable=False, index=True),
            Column("tries", Integer, nullable=False),
            Column("retry_at", Float),
            Column("trouble", Text),
        ),
        "marks": Table(
            "lineage_marks", metadata, Column("name", String, primary_key=True), Column("value", Text, nullable=False)
        ),
    }
    return tables


class Outbox:
    """The events of an installation, and how far they have come."""

    def __init__(self, database: Database, index: Index | None = None) -> None:
        self._database, self._index = database, index

    # --- what history gives

    def add(
        self,
        source: str,
        events: Sequence[Event],
        *,
        now: datetime,
        followed: Followed | None = None,
        marks: Mapping[str, Any] | None = None,
    ) -> Added:
        """As `keep`, for one history."""
        return self.keep([Batch.of(source, events, followed)], now=now, marks=marks)

    def keep(self, batches: Sequence[Batch], *, now: datetime, marks: Mapping[str, Any] | None = None) -> Added:
        """Keep events that are not there yet, in the order given, their index, and how far history was read.

        All of it or nothing.
        """
        tables = _tables()
        changed = [key for batch in batches for key in batch.changed]
        made = (*tables.values(), *(self._index.tables if self._index else ()))
        with self._database.writing(*made, alone=_ALONE) as connection:
            known = self._known(connection, {key.subject for batch in batches for key in batch.keyed})
            rows, bodies, new = [], [], []
            for batch in batches:
                for key, (body, event) in batch.keyed.items():
                    digest = _digest(body)
                    before = known.setdefault(key, None)
                    if before is not None:
                        if before != digest:
                            changed.append(key)
                        continue
                    known[key] = digest
                    new.append(event)
                    bodies.append({"digest": digest, "body": zlib.compress(body, _LEVEL)})
                    rows.append(
                        {
                            "subject": key.subject,
                            "type": key.type,
                            "time": key.time,
                            "source": batch.source,
                            "digest": digest,
                            "state": "pending",
                            "added_at": now.timestamp(),
                            "attempts": 0,
                        }
                    )
            if rows:
                connection.execute(tables["events"].insert(), rows)
                upsert(connection, tables["bodies"], bodies)
                if self._index is not None:
                    self._index.write(connection, new)
            followed = [
                {"run_id": b.followed.run_id, **_followed_values(b.followed)} for b in batches if b.followed is not None
            ]
            upsert(connection, tables["runs"], followed)
            values = [{"name": name, "value": json.dumps(value)} for name, value in (marks or {}).items()]
            upsert(connection, tables["marks"], values)
        return Added(len(rows), tuple(changed))

    def _known(self, connection: Connection, subjects: Iterable[str]) -> dict[Key, str | None]:
        """Digests of the events of subjects."""
        table = _tables()["events"]
        known: dict[Key, str | None] = {}
        for some in _chunks(sorted(subjects)):
            query = table.select().with_only_columns(table.c.subject, table.c.type, table.c.time, table.c.digest)
            for row in connection.execute(query.where(table.c.subject.in_(some))):
                known[Key(row.subject, row.type, row.time)] = row.digest
        return known

    def open_runs(self, history: str = "") -> dict[str, Followed]:
        """Runs of a history of which more may come, by id."""
        runs = _tables()["runs"]
        with self._database.reading(runs) as connection:
            mine = runs.select().where(~runs.c.closed, runs.c.history == history)
            return {r.run_id: _followed(r) for r in connection.execute(mine)}

    def followed(self, run_ids: Sequence[str]) -> dict[str, Followed]:
        """How far these runs have been read; those that never were are left out."""
        runs = _tables()["runs"]
        found: dict[str, Followed] = {}
        with self._database.reading(runs) as connection:
            for some in _chunks(run_ids):
                query = runs.select().where(runs.c.run_id.in_(some))
                found |= {r.run_id: _followed(r) for r in connection.execute(query)}
        return found

    def mark(self, name: str) -> Any:
        """What was last written under a name; None where nothing was."""
        marks = _tables()["marks"]
        with self._database.reading(marks) as connection:
            value = connection.execute(marks.select().where(marks.c.name == name)).one_or_none()
        return None if value is None else json.loads(value.value)

    def marks(self, prefix: str) -> dict[str, Any]:
        """All that was written under names that begin so."""
        marks = _tables()["marks"]
        query = marks.select().where(marks.c.name.startswith(prefix, autoescape=True))
        with self._database.reading(marks) as connection:
            return {row.name: json.loads(row.value) for row in connection.execute(query)}

    def set_mark(self, name: str, value: Any) -> None:
        """Write under a name; None: as if nothing was."""
        marks = _tables()["marks"]
        with self._database.writing(marks, alone=_ALONE) as connection:
            if value is None:
                connection.execute(marks.delete().where(marks.c.name == name))
            else:
                upsert(connection, marks, [{"name": name, "value": json.dumps(value)}])

    # --- one relays at a time

    def lease(self, holder: str, *, now: datetime, seconds: float, taken_over: Sequence[str] = ()) -> str | None:
        """Become, or stay, the one that relays.

        Args:
            taken_over: holders that are known to be dead, whose lease need not be waited for.

        Returns:
            Who holds the lease now: `holder` itself where it was given.
        """
        marks = _tables()["marks"]
        with self._database.writing(marks, alone=_ALONE) as connection:
            row = connection.execute(marks.select().where(marks.c.name == "lease")).one_or_none()
            held: dict[str, Any] = json.loads(row.value) if row else {"holder": holder, "until": 0.0, "seconds": 0.0}
            # Well beyond its longest the clock went back; such a lease would never end. A little beyond, the holder's
            # clock is ahead, or `now` was read before this transaction had to wait for the holder's.
            lasts = now.timestamp() < held["until"] <= now.timestamp() + 2 * held["seconds"]
            if lasts and held["holder"] not in (holder, *taken_over):
                return str(held["holder"])
            until = now.timestamp() + seconds
            value = json.dumps({"holder": holder, "until": until, "seconds": seconds})
            upsert(connection, marks, [{"name": "lease", "value": value}])
        return holder

    def holder(self) -> str | None:
        """Who holds the lease, or held it last."""
        held = self.mark("lease")
        return str(held["holder"]) if held else None

    def release(self, holder: str) -> None:
        """Give the lease back, if it is still held."""
        marks = _tables()["marks"]
        with self._database.writing(marks, alone=_ALONE) as connection:
            row = connection.execute(marks.select().where(marks.c.name == "lease")).one_or_none()
            if row and json.loads(row.value)["holder"] == holder:
                connection.execute(marks.delete().where(marks.c.name == "lease"))

    # --- delivery

    def due(self, now: datetime, *, limit: int) -> list[Pending]:
        """Events to be sent now, oldest first; a subject whose event waits has none."""
        from sqlalchemy import select

        table, bodies = _tables()["events"], _tables()["bodies"]
        # Beyond its longest wait the clock went back, or the row is damaged.
        at = now.timestamp()
        later = (table.c.next_try > at, table.c.next_try <= at + WAIT_MOST_S)
        waiting = select(table.c.subject).where(table.c.state == "pending", *later)
        query = (
            select(table, bodies.c.body)
            .join(bodies, bodies.c.digest == table.c.digest, isouter=True)
            .where(table.c.state == "pending", table.c.subject.not_in(waiting))
            .order_by(table.c.seq)
            .limit(limit)
        )
        with self._database.reading(table, bodies) as connection:
            return [_pending(row) for row in connection.execute(query)]

    def delivered(self, seqs: Sequence[int], *, now: datetime) -> None:
        """Note that these were sent."""
        self._change(seqs, state="delivered", delivered_at=now.timestamp(), next_try=None, last_error=None)

    def failed(self, seq: int, why: str, *, attempts: int, now: datetime) -> None:
        """Note that one could not be sent now; all of its subject wait, ever longer, a quarter of an hour at most."""
        wait = min(WAIT_S * 2 ** min(attempts, 20), WAIT_MOST_S)
        self._change([seq], attempts=attempts + 1, last_error=why, next_try=now.timestamp() + wait)

    def set_aside(self, seq: int, why: str) -> None:
        """Note that one is never going to be sent as it is; the others of its subject go on."""
        self._change([seq], state="set_aside", last_error=why, next_try=None)

    def try_now(self) -> None:
        """What waits after failures is due at once: the backend is back."""
        table = _tables()["events"]
        with self._database.writing(table) as connection:
            waits = (table.c.state == "pending", table.c.next_try.is_not(None))
            connection.execute(table.update().where(*waits).values(next_try=None))

    def again(self) -> tuple[int, int]:
        """Give what was set aside another try: what was refused is sent again, what was damaged is made anew.

        Returns:
            (refused ones that are pending now, damaged ones whose run is read again).
        """
        from sqlalchemy import func, select

        table, runs, marks = (_tables()[name] for name in ("events", "runs", "marks"))
        aside = table.c.state == "set_aside"
        with self._database.writing(table, runs, marks, alone=_ALONE) as connection:
            damaged = select(table.c.source).where(aside, table.c.last_error == CORRUPT)
            connection.execute(
                runs.update().where(runs.c.run_id.in_(damaged)).values(cursor=None, closed=False, retry_at=None)
            )
            # Events without a run are read from the beginning.
            connection.execute(marks.delete().where(marks.c.name.in_(damaged)))
            query = select(func.count()).where(aside, table.c.last_error == CORRUPT)
            count = int(connection.execute(query).scalar_one())
            connection.execute(table.delete().where(aside, table.c.last_error == CORRUPT))
            refused = connection.execute(
                table.update().where(aside).values(state="pending", attempts=0, next_try=None)
            ).rowcount
        return refused, count

    def _change(self, seqs: Sequence[int], **values: Any) -> None:
        table = _tables()["events"]
        with self._database.writing(table) as connection:
            for some in _chunks(seqs):
                # Never back from delivered: a relay that was thought dead may still report what it could not do.
                mine = (table.c.seq.in_(some), table.c.state != "delivered")
                connection.execute(table.update().where(*mine).values(**values))

    # --- looking after it

    def standing(self) -> Standing:
        """Counts, and the event that waits longest."""
        from sqlalchemy import func, select

        table = _tables()["events"]
        counted = select(table.c.state, func.count()).group_by(table.c.state)
        oldest = table.select().where(table.c.state == "pending").order_by(table.c.seq).limit(1)
        with self._database.reading(table) as connection:
            counts = {state: int(n) for state, n in connection.execute(counted)}
            row = connection.execute(oldest).one_or_none()
        waiting = None
        if row is not None:
            key = Key(row.subject, row.type, row.time)
            since = row.added_at if isinstance(row.added_at, float) else 0.0
            waiting = (row.seq, key, row.last_error, datetime.fromtimestamp(since, UTC))
        return Standing(counts.get("pending", 0), counts.get("delivered", 0), counts.get("set_aside", 0), waiting)

    def all_set_aside(self, *, limit: int = 20) -> list[SetAside]:
        """The newest that were set aside."""
        table = _tables()["events"]
        query = table.select().where(table.c.state == "set_aside").order_by(table.c.seq.desc()).limit(limit)
        with self._database.reading(table) as connection:
            return [
                SetAside(r.seq, Key(r.subject, r.type, r.time), str(r.last_error), r.last_error == CORRUPT)
                for r in connection.execute(query)
            ]

    def troubles(self) -> list[Followed]:
        """Runs whose history could not be read when it was last tried."""
        runs = _tables()["runs"]
        with self._database.reading(runs) as connection:
            return [_followed(r) for r in connection.execute(runs.select().where(runs.c.trouble.is_not(None)))]

    def prune(self, now: datetime, *, kept: timedelta = KEPT) -> int:
        """Let the bytes of what was delivered long ago go; its key and digest stay.

        Returns:
            How many were let go.
        """
        from sqlalchemy import select

        table, bodies = _tables()["events"], _tables()["bodies"]
        old = select(table.c.digest).where(
            table.c.state == "delivered", table.c.delivered_at < (now - kept).timestamp()
        )
        with self._database.writing(table, bodies) as connection:
            return int(connection.execute(bodies.delete().where(bodies.c.digest.in_(old))).rowcount)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _pending(row: Any) -> Pending:
    return Pending(row.seq, Key(row.subject, row.type, row.time), _whole(row.body, row.digest), row.attempts)


def _whole(kept: Any, digest: str) -> bytes | None:
    """The bytes that were kept; None where they are not."""
    try:
        body = zlib.decompress(kept)
    except (zlib.error, TypeError):
        return None
    return body if _digest(body) == digest else None


def _followed(row: Any) -> Followed:
    return Followed(
        row.run_id, row.updated, row.cursor, bool(row.closed), row.tries, row.retry_at, row.trouble, row.history
    )


def _followed_values(followed: Followed) -> dict[str, Any]:
    return {
        "history": followed.history,
        "updated": followed.updated,
        "cursor": followed.cursor,
        "closed": followed.closed,
        "tries": followed.tries,
        "retry_at": followed.retry_at,
        "trouble": followed.trouble,
    }


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))
