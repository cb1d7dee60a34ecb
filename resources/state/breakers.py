"""Circuit breakers that every process shares through the state database."""

from __future__ import annotations

import json
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from backbone import breaker as pure
from backbone.breaker import BreakerOpen, BreakerSettings, BreakerState, Mode, Refusal
from backbone.clock import Clock
from backbone.errors import ConfigurationError, IntegrityError, StoreBusy
from resources.state.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Select, Table

_WAIT_S = 0.5
_WHY_LENGTH = 500
_DEFAULTS = BreakerSettings()


@dataclass(frozen=True, slots=True)
class BreakerView:
    """How a breaker stood when it last changed. One whose `retry_at` has passed is open until somebody asks it."""

    mode: Mode
    opened_at: datetime | None
    retry_at: datetime | None
    failure_share: float
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of mode. `id` grows, also where the wall clock steps back: keep it as a cursor."""

    id: int
    name: str
    was: Mode
    became: Mode
    at: datetime
    reason: str


class _Settled(NamedTuple):
    """What became of a call; `failed` None says that nothing was learned."""

    permit: pure.Permit
    failed: bool | None
    seconds: float = 0.0
    why: str = ""


class Permit:
    """Leave to make one call. Say once what became of it; nothing that is said raises."""

    __slots__ = ("_breaker", "_permit", "_slow_s", "_success")

    def __init__(self, breaker: SharedBreaker, permit: pure.Permit) -> None:
        self._breaker, self._permit = breaker, permit
        self._slow_s = breaker.settings.slow_s
        # The same entry for every quick success while closed: nothing is built on the healthy path.
        self._success = _Settled(permit, False)

    @property
    def token(self) -> str:
        """A probe's own; empty while the breaker is closed."""
        return self._permit.token

    def succeeded(self, seconds: float) -> None:
        """The call brought an answer, after so many seconds."""
        if self._slow_s is not None and seconds > self._slow_s:
            self._breaker._settle_now(_Settled(self._permit, False, seconds, f"it took {seconds:.3g} s"))
        elif self._permit.token:
            self._breaker._settle_now(self._success)
        else:
            self._breaker._settle_soon(self._success)

    def failed(self, why: str, seconds: float) -> None:
        """The call brought none.

        Args:
            why: for whoever reads the history; cut to 500 characters.
            seconds: how long the call took.
        """
        self._breaker._settle_now(_Settled(self._permit, True, seconds, why[:_WHY_LENGTH]))

    def released(self) -> None:
        """The call was not made, or its end says nothing about what was called, as when a user cancelled it."""
        if self._permit.token:
            self._breaker._settle_now(_Settled(self._permit, None))


class SharedBreaker:
    """One breaker, as one process sees it; its threads share this object.

    While closed, it answers from memory. Successes are told to the database with the next look at it, at the latest
    when the process ends; only the last `window` of them matter, so no more are kept. A failure is told at once. What
    is not closed is decided in the database, by one transaction each.

    Where the database does not answer, what was closed, or has never been read, goes on by what this process sees
    itself, and what was open stays so: how many probes are under way elsewhere cannot be known.
    """

    def __init__(self, name: str, settings: BreakerSettings, store: _Store, clock: Clock, refresh_s: float) -> None:
        self.name, self.settings = name, settings
        self._store, self._clock, self._refresh_s = store, clock, refresh_s
        self._lock = threading.Lock()
        self._state, self._stored = BreakerState(), BreakerState()
        # Not known to be closed before the first look.
        self._closed: Permit | None = None
        self._told: deque[_Settled] = deque(maxlen=settings.window)
        self._probes_told: deque[_Settled] = deque(maxlen=settings.window)
        self._taken: list[_Settled] = []
        self._look_at = clock.monotonic()
        self._silent = True

    def ask(self) -> Permit | Refusal:
        """Leave to make a call, or when to ask again. A database that does not answer raises nothing."""
        closed = self._closed
        if closed is not None:
            if self._clock.monotonic() < self._look_at:
                return closed
            # One thread looks; the others need not wait for it.
            if not self._lock.acquire(blocking=False):
                return closed
        else:
            self._lock.acquire()
        try:
            if self._closed is not None and self._clock.monotonic() < self._look_at:
                return self._closed
            answer = self._refused_recently() or self._exchange(uuid.uuid4().hex)
            if isinstance(answer, Refusal):
                return answer
            if answer is not None and answer.token:
                return Permit(self, answer)
            assert self._closed is not None
            return self._closed
        finally:
            self._lock.release()

    def allows(self) -> bool:
        """Whether `ask` would give a permit, by what was known at most `refresh_s` ago. Takes none."""
        if self._clock.monotonic() >= self._look_at and self._lock.acquire(blocking=self._closed is None):
            try:
                self._exchange(None)
            finally:
                self._lock.release()
        if self._closed is not None:
            return True
        return not self._store.down and pure.refusal(self._state, self.settings, self._clock.now()) is None

    @contextmanager
    def call(self) -> Iterator[Permit]:
        """Time one call and settle its permit: an `Exception` is a failure; a cancelled call says nothing.

        Raises:
            BreakerOpen: no leave; the call was not made.
        """
        permit = self.ask()
        if isinstance(permit, Refusal):
            raise BreakerOpen(self.name, permit.retry_at)
        started = self._clock.monotonic()
        try:
            yield permit
        except Exception as error:
            permit.failed(f"{type(error).__name__}: {error}", self._clock.monotonic() - started)
            raise
        except BaseException:
            permit.released()
            raise
        permit.succeeded(self._clock.monotonic() - started)

    def flush(self, *, wait: bool = True) -> None:
        """Tell the database what it has not been told.

        Args:
            wait: also while another thread is talking to it.
        """
        if not self._lock.acquire(blocking=wait):
            return
        try:
            if self._told or self._probes_told or self._taken:
                self._exchange(None)
        finally:
            self._lock.release()

    @property
    def _due(self) -> bool:
        return self._clock.monotonic() >= self._look_at

    def _seen(self, state: BreakerState) -> None:
        """What somebody else read for us; of no use where there is something to tell."""
        if self._lock.acquire(blocking=False):
            try:
                if self._due and not (self._told or self._probes_told or self._taken):
                    self._stored = state
                    self._remember(state)
            finally:
                self._lock.release()

    def _settle_soon(self, settled: _Settled) -> None:
        self._told.append(settled)
        # Many processes make one call and end; and one that outlasted the last look is hardly followed by another soon.
        if (self._silent or self._clock.monotonic() >= self._look_at) and self._lock.acquire(blocking=False):
            try:
                self._exchange(None)
            finally:
                self._lock.release()

    def _settle_now(self, settled: _Settled) -> None:
        (self._probes_told if settled.permit.token else self._told).append(settled)
        self.flush()

    def _refused_recently(self) -> Refusal | None:
        """Memory may refuse, though never permit: while it looked recently and the open time has not passed."""
        if self._state.retry_at is None or self._clock.monotonic() >= self._look_at:
            return None
        return pure.refusal(self._state, self.settings, self._clock.now())

    def _exchange(self, token: str | None) -> pure.Permit | Refusal | None:
        """Settle with the database what is not settled and, given a token, ask. The caller holds the lock."""
        self._take()
        if not self._store.down:
            try:
                turn = self._store.read(self.name, self.settings)
                # Kept before anything is written: a database that others hold for long can still be read.
                self._stored = self._state = turn.state
                answer = turn.take(self._taken, token)
                if turn.changed:
                    turn, answer = self._store.change(self.name, self.settings, self._taken, token)
            except Exception as error:
                if not _unreachable(error):
                    raise
                self._store.rest(self._refresh_s)
            else:
                self._silent = self._silent and not self._taken
                self._taken = []
                self._stored = turn.state
                self._remember(turn.state)
                return answer
        return self._alone(token)

    def _alone(self, token: str | None) -> pure.Permit | Refusal | None:
        now, state = self._clock.now(), self._state
        if state.mode == "closed":
            state = self._stored
            for settled in self._taken:
                state = _settle(state, self.settings, settled, now)
        self._remember(state)
        if token is None or state.mode == "closed":
            return None
        retry = Refusal(now + timedelta(seconds=self._refresh_s))
        return pure.refusal(state, self.settings, now) or retry

    def _remember(self, state: BreakerState) -> None:
        self._state = state
        self._look_at = self._clock.monotonic() + self._refresh_s
        if state.mode != "closed":
            self._closed = None
        elif self._closed is None or self._closed._permit.period != state.period:
            self._closed = Permit(self, pure.Permit(state.period))

    def _take(self) -> None:
        """Move what threads have told to where only the holder of the lock reaches; of calls, the last `window`."""
        for told in (self._told, self._probes_told):
            while told:
                self._taken.append(told.popleft())
        calls = [settled for settled in self._taken if not settled.permit.token]
        probes = [settled for settled in self._taken if settled.permit.token]
        self._taken = calls[-self.settings.window :] + probes


class Breakers:
    """Every breaker of one state database.

    Args:
        database: opened anew, since a call cannot wait for it as long as others can: see `wait_s`.
        refresh_s: how old, by the monotonic clock, what a process knows of a closed breaker may be.
        wait_s: how long a call waits for somebody who holds the database, once in `refresh_s`. How long it waits for
            a PostgreSQL that cannot be reached is up to the URL (`?connect_timeout=1`).
    """

    def __init__(self, database: Database, clock: Clock, *, refresh_s: float = 1.0, wait_s: float = _WAIT_S) -> None:
        self._clock, self._refresh_s = clock, refresh_s
        self._store = _Store(Database(database.url, wait_s=wait_s), clock, wait_s)
        self._known: dict[str, SharedBreaker] = {}
        self._lock = threading.Lock()
        # A process that makes a few calls and ends would otherwise only ever tell of its failures.
        weakref.finalize(self, _flush_known, self._known)

    def breaker(self, name: str, settings: BreakerSettings | None = None) -> SharedBreaker:
        """The breaker of that name; the same object at each call.

        Raises:
            ConfigurationError: no name, or this process uses it with other settings.
        """
        if not name:
            raise ConfigurationError("A circuit breaker has no name.", next_step="Name it after what it watches.")
        wanted = settings or _DEFAULTS
        with self._lock:
            known = self._known.get(name)
            if known is None:
                known = SharedBreaker(name, wanted, self._store, self._clock, self._refresh_s)
                self._known[name] = known
        if known.settings is not wanted and known.settings != wanted:
            raise ConfigurationError(
                f"The circuit breaker {name} is in use with {known.settings}, and was now asked for with {wanted}.",
                next_step="Give it one set of settings, or another name.",
            )
        return known

    def look(self) -> None:
        """Look at every breaker in use with one query, before `allows` is asked of many. A database that does not
        answer is left to them."""
        with self._lock:
            due = [breaker for breaker in self._known.values() if breaker._due]
        if not due or self._store.down:
            return
        try:
            stored = self._store.stored()
        except Exception as error:
            if not _unreachable(error):
                raise
            self._store.rest(self._refresh_s)
            return
        for breaker in due:
            state, unread = stored.get(breaker.name, (BreakerState(), ""))
            if not unread:
                breaker._seen(state)

    def states(self, prefix: str = "") -> dict[str, BreakerView]:
        """How every breaker stands whose name begins so, by name; those never told of a call are not there.

        Raises:
            StoreBusy: the database does not answer.
        """
        return self._store.states(prefix)

    def transitions(self, since: datetime | None = None, prefix: str = "", *, after: int = 0) -> list[Transition]:
        """Changes of mode, oldest first.

        Args:
            since: only those at or after this wall-clock time.
            prefix: how the breaker's name begins.
            after: only those with a greater `id`.

        Raises:
            StoreBusy: the database does not answer.
        """
        return self._store.transitions(since, prefix, after)

    def flush(self) -> None:
        """Tell the database what it has not been told. Done by itself when this object, or the process, ends."""
        for breaker in list(self._known.values()):
            breaker.flush()


def _flush_known(known: Mapping[str, SharedBreaker]) -> None:
    for breaker in list(known.values()):
        breaker.flush(wait=False)


@cache
def _tables() -> tuple[Table, Table]:
    from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, Text

    metadata = MetaData()
    return (
        Table(
            "breakers",
            metadata,
            Column("name", String, primary_key=True),
            Column("document", Text, nullable=False),
            Column("version", Integer, nullable=False),
            Column("changed_at", DateTime(timezone=True), nullable=False),
        ),
        Table(
            "breaker_transitions",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("name", String, nullable=False, index=True),
            Column("was", String, nullable=False),
            Column("became", String, nullable=False),
            Column("at", DateTime(timezone=True), nullable=False),
            Column("reason", Text, nullable=False),
        ),
    )


class _Store:
    """The two tables."""

    def __init__(self, database: Database, clock: Clock, wait_s: float) -> None:
        self._database, self._clock, self._wait_ms = database, clock, max(1, int(wait_s * 1000))
        self._try_at = clock.monotonic()

    @property
    def down(self) -> bool:
        """Whether it did not answer just now. Who waits for it waits once, not with every call and every breaker."""
        return self._clock.monotonic() < self._try_at

    def rest(self, seconds: float) -> None:
        """Leave it alone for a while."""
        self._try_at = self._clock.monotonic() + seconds

    def read(self, name: str, settings: BreakerSettings) -> _Turn:
        """What would become of a breaker now; nothing is changed."""
        states, history = _tables()
        with self._database.reading(states, history) as connection:
            return _Turn(_load(connection, name, lock=False), settings, self._clock.now())

    def change(
        self, name: str, settings: BreakerSettings, settled: Sequence[_Settled], token: str | None
    ) -> tuple[_Turn, pure.Permit | Refusal | None]:
        """Settle calls and, given a token, ask, in one transaction."""
        states, history = _tables()
        with self._database.writing(states, history) as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {self._wait_ms}")
            stored = _load(connection, name, lock=True)
            if stored is None:
                self._insert(connection, name)
                stored = _load(connection, name, lock=True)
            # The clock is read once the row is held, so that times in the row never run backwards by waiting.
            now = self._clock.now()
            turn = _Turn(stored, settings, now)
            answer = turn.take(settled, token)
            values = {"document": json.dumps(turn.state.to_dict()), "version": turn.version + 1, "changed_at": now}
            connection.execute(states.update().where(states.c.name == name).values(**values))
            for was, became, why in turn.steps:
                connection.execute(history.insert().values(name=name, was=was, became=became, at=now, reason=why))
        return turn, answer

    def stored(self) -> dict[str, tuple[BreakerState, str]]:
        """Every breaker's state by name, and why it could not be read, if so."""
        table, _ = _tables()
        with self._database.reading(table) as connection:
            return {row.name: _parsed(row.document, row.version) for row in connection.execute(table.select())}

    def states(self, prefix: str) -> dict[str, BreakerView]:
        table, _ = _tables()
        found = {}
        with self._database.reading(table) as connection:
            for row in connection.execute(_named(table, prefix).order_by(table.c.name)):
                state, _ = _parsed(row.document, row.version)
                found[row.name] = BreakerView(
                    state.mode, state.opened_at, state.retry_at, state.failure_share, _utc(row.changed_at)
                )
        return found

    def transitions(self, since: datetime | None, prefix: str, after: int) -> list[Transition]:
        _, table = _tables()
        query = _named(table, prefix).where(table.c.id > after).order_by(table.c.id)
        if since is not None:
            query = query.where(table.c.at >= since.astimezone(UTC))
        with self._database.reading(table) as connection:
            return [
                Transition(row.id, row.name, row.was, row.became, _utc(row.at), row.reason)
                for row in connection.execute(query)
            ]

    def _insert(self, connection: Connection, name: str) -> None:
        """Another process may be inserting the same; then its row stands."""
        from sqlalchemy.dialects import postgresql, sqlite

        table, _ = _tables()
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
        document = json.dumps(BreakerState().to_dict())
        row = {"name": name, "document": document, "version": 0, "changed_at": self._clock.now()}
        connection.execute(insert.values(**row).on_conflict_do_nothing(index_elements=["name"]))


class _Turn:
    """What one transaction makes of a stored row."""

    def __init__(self, row: Row[Any] | None, settings: BreakerSettings, now: datetime) -> None:
        self.version = 0 if row is None else row.version
        self.state, unread = (BreakerState(), "") if row is None else _parsed(row.document, row.version)
        self.steps: list[tuple[Mode, Mode, str]] = [("closed", "closed", unread)] if unread else []
        self._settings, self._now, self._was = settings, now, self.state

    @property
    def changed(self) -> bool:
        return bool(self.steps) or self.state != self._was

    def take(self, settled: Sequence[_Settled], token: str | None) -> pure.Permit | Refusal | None:
        for one in settled:
            self._go(_settle(self.state, self._settings, one, self._now), one.why)
        if token is None:
            return None
        state, answer = pure.ask(self.state, self._settings, self._now, token)
        self._go(state, "")
        return answer

    def _go(self, state: BreakerState, why: str) -> None:
        if state.mode != self.state.mode:
            self.steps.append((self.state.mode, state.mode, pure.reason(self.state, state, why)))
        self.state = state


def _settle(state: BreakerState, settings: BreakerSettings, settled: _Settled, now: datetime) -> BreakerState:
    if settled.failed is None:
        return pure.release(state, settled.permit)
    return pure.settle(state, settings, settled.permit, now, failed=settled.failed, seconds=settled.seconds)


def _parsed(document: str, version: int) -> tuple[BreakerState, str]:
    """The state and, where it cannot be read, a new one and why.

    A breaker that nobody can read must neither refuse for ever nor stop whoever asks; the period is one that no
    permit handed out before can have.
    """
    try:
        return BreakerState.from_dict(json.loads(document)), ""
    except (IntegrityError, ValueError) as error:
        return BreakerState(period=version + 1), f"It begins anew, since what was stored cannot be read: {error}"


def _load(connection: Connection, name: str, *, lock: bool) -> Row[Any] | None:
    table, _ = _tables()
    query = table.select().where(table.c.name == name)
    return connection.execute(query.with_for_update() if lock else query).one_or_none()


def _named(table: Table, prefix: str) -> Select[Any]:
    from sqlalchemy import func

    # LIKE would not tell upper from lower case on SQLite.
    return table.select().where(func.substr(table.c.name, 1, len(prefix)) == prefix)


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _unreachable(error: Exception) -> bool:
    """Whether the database, or the way to it, is at fault; what is wrong with us is raised."""
    from sqlalchemy.exc import DBAPIError, TimeoutError

    return isinstance(error, StoreBusy | DBAPIError | TimeoutError | OSError)
