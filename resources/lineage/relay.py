"""The relay: reads what runs have done, keeps it as events, and delivers them. Outside of every run.

Each step is one transaction of the outbox, so that a relay killed between any two of them loses nothing: what was read
is read again and adds nothing, what was sent but not noted is sent again, the same bytes. One relays at a time, under
a lease.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from backbone.clock import Clock
from backbone.errors import HybridError
from resources.lineage.transports import Destination, NotSent
from resources.state.outbox import CORRUPT, Added, Batch, Event, Followed, Outbox, Pending

OVERLAP_S = 900.0
"""Runs whose update time lies this far before the newest one read are looked at again: clocks differ, and what was
written first may be seen last."""
SETTLED_S = 120.0
"""A run that has ended is read once more after this long: monitoring may have ended it while it still wrote."""
LEASE_S = 60.0
RETRY_S, RETRY_MOST_S = 10.0, 3600.0
BACKEND_S, BACKEND_MOST_S = 1.0, 60.0
IN_A_ROW = 3
"""Runs whose event fails, one after the other with no success between, after which it is the backend that is down."""
BATCH = 500
NOTED_AT_ONCE = 50
PRUNE_EVERY = timedelta(hours=1)
READ, RUNLESS, BACKEND, PRUNED = "read", "runless", "backend", "pruned"


@dataclass(frozen=True, slots=True)
class Changed:
    """A run that has changed. Times are seconds since 1970; `ended` is None while it goes on."""

    run_id: str
    updated: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Read:
    """All events of one history so far, and the position up to which they were read."""

    events: Sequence[Event]
    cursor: str | None


class History(Protocol):
    """Where runs are recorded; `id` tells it from others that share the state database."""

    @property
    def id(self) -> str:
        """The same in every process."""
        ...

    def changed(self, since: float | None) -> Sequence[Changed]:
        """Runs updated since, oldest update first; None: all."""
        ...

    def state_of(self, run_ids: Sequence[str]) -> Sequence[Changed]:
        """These runs as they are now; one whose record is gone is left out."""
        ...

    def read(self, run_id: str, cursor: str | None) -> Read | None:
        """A run's events; None: nothing was recorded since the cursor."""
        ...

    def runless(self, cursor: str | None) -> Read | None:
        """Events of what was reported without a run since the cursor."""
        ...


@dataclass
class Relayed:
    """What one call did.

    Attributes:
        held_by: who relays instead; None: this one did.
        waits: why nothing more is sent for now.
        troubles: what a person should see.
    """

    runs: int = 0
    new: int = 0
    delivered: int = 0
    filtered: int = 0
    failed: int = 0
    set_aside: int = 0
    held_by: str | None = None
    waits: str | None = None
    unfinished: bool = False
    troubles: list[str] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        """Nothing was done, and nothing is left that could be done now."""
        return not (self.new or self.delivered or self.unfinished)


@dataclass
class _Gathered:
    """What was read and is not kept yet.

    Attributes:
        marks: to be written with it.
        seen: runs that were read in this call.
    """

    batches: list[Batch] = field(default_factory=list)
    marks: dict[str, Any] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    events: int = 0

    def add(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.seen.add(batch.source)
        self.events += len(batch.keyed)

    def kept(self) -> None:
        self.batches, self.marks, self.events = [], {}, 0


class Relay:
    """Follows one installation's history into its outbox, and the outbox out to where events go."""

    def __init__(self, outbox: Outbox, history: History, destination: Destination, clock: Clock) -> None:
        self._outbox, self._history, self._to, self._clock = outbox, history, destination, clock
        self._me = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._renewed = float("-inf")
        self._read_mark, self._runless_mark = f"{READ}/{history.id}", f"{RUNLESS}/{history.id}"

    def relay(self, seconds: float) -> Relayed:
        """Read and deliver what there is, for so long at most (a call to a backend under way is waited for).

        Raises:
            StoreBusy: the state database did not answer; nothing is lost.
        """
        done = Relayed()
        if self._to.channel is None:
            done.waits = f"emission is switched off; events go to {self._to}"
            return done
        done.held_by = self._lease()
        if done.held_by is not None:
            return done
        until = self._clock.monotonic() + seconds
        try:
            self._collect(done, until)
            self._deliver(done, until)
            self._prune()
        except _LeaseLost as lost:
            done.held_by = str(lost)
        finally:
            self._outbox.release(self._me)
            self._renewed = float("-inf")
        return done

    def close(self) -> None:
        """Give back what the channel holds."""
        if self._to.channel is not None:
            self._to.channel.close()

    # --- reading

    def _collect(self, done: Relayed, until: float) -> None:
        gathered = _Gathered()
        try:
            self._changed(done, until, gathered)
            if not done.unfinished:
                self._open(done, until, gathered)
        finally:
            # What was read is kept, whatever came then; what cannot be kept now is read again.
            self._keep(done, gathered)
        if not done.unfinished:
            self._read_runless(done)

    def _changed(self, done: Relayed, until: float, gathered: _Gathered) -> None:
        """Runs that have changed since it was last looked, oldest change first."""
        mark = self._outbox.mark(self._read_mark)
        changed = self._history.changed(None if mark is None else mark - OVERLAP_S)
        known = self._outbox.followed([c.run_id for c in changed])
        newest = mark or 0.0
        for run in changed:
            newest = max(newest, run.updated)
            held = known.get(run.run_id)
            if held is not None and held.updated == run.updated:
                continue
            if self._over(done, until):
                return
            # Without the position: the run's state is part of what its events say.
            self._read(done, run, held or self._unread(run), gathered, cursor=None)
            gathered.marks[self._read_mark] = newest

    def _open(self, done: Relayed, until: float, gathered: _Gathered) -> None:
        """Runs that go on, have ended just now, or could not be read before."""
        now = self._clock.now().timestamp()
        waiting = [
            f
            for f in self._outbox.open_runs(self._history.id).values()
            if f.run_id not in gathered.seen and _due(f, now)
        ]
        states = {c.run_id: c for c in self._history.state_of([f.run_id for f in waiting])}
        for held in waiting:
            if self._over(done, until):
                return
            found = states.get(held.run_id)
            if found is None:
                gone = replace(held, closed=True, tries=0, retry_at=None, trouble=None)
                gathered.add(Batch.of(held.run_id, [], gone))
                done.troubles.append(f"run {held.run_id}: its record was deleted; what was read of it stands")
                continue
            self._read(done, found, held, gathered, cursor=None if held.trouble else held.cursor)

    def _read(self, done: Relayed, run: Changed, held: Followed, gathered: _Gathered, *, cursor: str | None) -> None:
        """Gather a run's events, with how far it was read."""
        now = self._clock.now()
        settled = run.ended is not None and now.timestamp() - run.ended >= SETTLED_S
        try:
            read = self._history.read(run.run_id, cursor)
            events, position = ((), held.cursor) if read is None else (read.events, read.cursor)
            followed = replace(self._unread(run), cursor=position, closed=settled)
            if read is not None or followed != held:
                gathered.add(Batch.of(run.run_id, events, followed))
        except HybridError:
            raise
        except Exception as error:  # one run's history must not hold up the others'
            why = self._trouble(done, run.run_id, error)
            failed = replace(self._unread(run), cursor=held.cursor, tries=held.tries + 1)
            gathered.add(Batch.of(run.run_id, [], _again(failed, now, why)))
            return
        done.runs += read is not None
        if gathered.events >= BATCH:
            self._keep(done, gathered)

    def _unread(self, run: Changed) -> Followed:
        return Followed(run.run_id, run.updated, history=self._history.id)

    def _keep(self, done: Relayed, gathered: _Gathered) -> None:
        """Keep what was gathered, in one transaction; where that fails, each run by itself."""
        batches, marks = gathered.batches, gathered.marks
        gathered.kept()
        if not batches:
            return
        now = self._clock.now()
        try:
            self._note(done, f"of {len(batches)} runs", self._outbox.keep(batches, now=now, marks=marks))
            return
        except HybridError:
            raise
        except Exception as error:
            if len(batches) == 1:
                (batch,) = batches
                held = batch.followed
                why = self._trouble(done, batch.source, error)
                assert held is not None
                again = _again(replace(held, cursor=None, closed=False, tries=held.tries + 1), now, why)
                self._outbox.keep([Batch.of(batch.source, [], again)], now=now, marks=marks)
                return
        for batch in batches:
            self._keep(done, _Gathered([batch], {}))
        self._outbox.keep([], now=now, marks=marks)

    @staticmethod
    def _trouble(done: Relayed, run_id: str, error: Exception) -> str:
        why = f"{type(error).__name__}: {error}"[:500]
        done.troubles.append(f"run {run_id} cannot be read: {why}")
        return why

    def _read_runless(self, done: Relayed) -> None:
        mark = self._runless_mark
        cursor = self._outbox.mark(mark)
        try:
            read = self._history.runless(cursor)
            if read is not None and (read.events or read.cursor != cursor):
                added = self._outbox.add(mark, read.events, now=self._clock.now(), marks={mark: read.cursor})
                self._note(done, "without a run", added)
        except HybridError:
            raise
        except Exception as error:
            done.troubles.append(f"what was reported without a run cannot be read: {type(error).__name__}: {error}")

    def _note(self, done: Relayed, source: str, added: Added) -> None:
        done.new += added.new
        if added.changed:
            done.troubles.append(
                f"{len(added.changed)} events {source} read otherwise than when they were kept, first "
                f"{added.changed[0].type} of {added.changed[0].subject}; what was kept stands"
            )

    # --- delivering

    def _deliver(self, done: Relayed, until: float) -> None:
        held = self._outbox.mark(BACKEND) or {}
        now = self._clock.now().timestamp()
        # Beyond its longest, the clock went back.
        if held and now < held["until"] <= now + BACKEND_MOST_S:
            done.waits = f"{held['why']}; tried again in {held['until'] - now:.0f} s"
            return
        streak = 0
        while not self._over(done, until):
            batch = self._outbox.due(self._clock.now(), limit=BATCH)
            if not batch:
                return
            streak = self._send(done, batch, until, streak, down=bool(held))
            if done.waits is not None:
                return
            held = self._outbox.mark(BACKEND) or {} if held else {}

    def _send(self, done: Relayed, batch: Sequence[Pending], until: float, streak: int, *, down: bool) -> int:
        """Send a batch in order; returns how many in a row have failed by its end."""
        channel = self._to.channel
        assert channel is not None
        sent: list[int] = []
        held_up: set[str] = set()

        def note() -> None:
            if sent:
                self._outbox.delivered(sent, now=self._clock.now())
                sent.clear()

        for group in _groups(self._sound(done, batch), channel.at_once):
            events = [e for e in group if e.key.subject not in held_up]
            if not events:
                continue
            if self._over(done, until):
                break
            try:
                channel.send([e.body for e in events if e.body is not None])
            except NotSent as fault:
                note()
                streak = self._not_sent(done, events[0], fault, streak)
                held_up |= {e.key.subject for e in events}
                if done.waits is not None:
                    return streak
                continue
            streak = 0
            sent += [e.seq for e in events]
            done.delivered += len(events)
            if down:
                self._outbox.set_mark(BACKEND, None)
                self._outbox.try_now()
                down = False
            if len(sent) >= NOTED_AT_ONCE:
                note()
        note()
        return streak

    def _sound(self, done: Relayed, batch: Sequence[Pending]) -> list[Pending]:
        """Those that are to be sent: not the damaged ones, nor those of jobs that are filtered out."""
        good, unwanted = [], []
        for event in batch:
            if event.body is None:
                self._outbox.set_aside(event.seq, CORRUPT)
                done.set_aside += 1
                done.troubles.append(f"event {event.seq} ({event.key.type} of {event.key.subject}): {CORRUPT}")
            elif not self._wanted(event.body):
                unwanted.append(event.seq)
            else:
                good.append(event)
        if unwanted:
            self._outbox.delivered(unwanted, now=self._clock.now())
            done.filtered += len(unwanted)
        return good

    def _wanted(self, body: bytes) -> bool:
        if self._to.wanted is None:
            return True
        event = json.loads(body)
        return "run" not in event or self._to.wanted(event["job"]["name"])

    def _not_sent(self, done: Relayed, event: Pending, fault: NotSent, streak: int) -> int:
        now = self._clock.now()
        if fault.fault == "refused":
            self._outbox.set_aside(event.seq, fault.why)
            done.set_aside += 1
            done.troubles.append(f"event {event.seq} ({event.key.type} of {event.key.subject}): {fault.why}")
            return 0
        done.failed += 1
        if fault.fault == "event":
            self._outbox.failed(event.seq, fault.why, attempts=event.attempts, now=now)
            streak += 1
        if fault.fault == "backend" or streak >= IN_A_ROW:
            held = self._outbox.mark(BACKEND) or {"tries": 0, "since": now.timestamp()}
            wait = min(BACKEND_S * 2 ** min(held["tries"], 10), BACKEND_MOST_S)
            held = {**held, "tries": held["tries"] + 1, "until": now.timestamp() + wait, "why": fault.why}
            self._outbox.set_mark(BACKEND, held)
            done.waits = f"{fault.why}; tried again in {wait:.0f} s"
            done.troubles.append(done.waits)
        return streak

    def _prune(self) -> None:
        now, last = self._clock.now(), self._outbox.mark(PRUNED)
        if last is None or abs(now.timestamp() - last) >= PRUNE_EVERY.total_seconds():
            self._outbox.prune(now)
            self._outbox.set_mark(PRUNED, now.timestamp())

    # --- the lease

    def _over(self, done: Relayed, until: float) -> bool:
        """Whether time is up; keeps the lease meanwhile."""
        if self._clock.monotonic() - self._renewed > LEASE_S / 3:
            other = self._lease()
            if other is not None:
                raise _LeaseLost(other)
        if self._clock.monotonic() < until:
            return False
        done.unfinished = True
        return True

    def _lease(self) -> str | None:
        """Who else relays; None: this one does."""
        holder = self._outbox.holder()
        dead = [holder] if holder and _dead(holder) else []
        got = self._outbox.lease(self._me, now=self._clock.now(), seconds=LEASE_S, taken_over=dead)
        self._renewed = self._clock.monotonic()
        return None if got == self._me else got


class _LeaseLost(Exception):
    """Another took over while this one slept."""


def _again(followed: Followed, now: datetime, why: str) -> Followed:
    """Followed as one that could not be read so many times, and when it is tried again."""
    wait = min(RETRY_S * 2 ** min(followed.tries - 1, 10), RETRY_MOST_S)
    return replace(followed, retry_at=now.timestamp() + wait, trouble=why)


def _due(followed: Followed, now: float) -> bool:
    """Beyond its longest wait, the clock went back."""
    return followed.retry_at is None or not now < followed.retry_at <= now + RETRY_MOST_S


def _dead(holder: str) -> bool:
    """Whether a holder is a process of this machine that is no more."""
    host, _, rest = holder.partition("/")
    pid = rest.partition("/")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _groups(events: Sequence[Pending], size: int) -> list[list[Pending]]:
    return [list(events[i : i + size]) for i in range(0, len(events), size)]
