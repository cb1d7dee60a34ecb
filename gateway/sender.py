"""A device's side of MQTT: it keeps each reading until the gateway itself has acknowledged it.

A broker's acknowledgement is no promise: brokers lose what they acknowledged when they are killed, and drop beyond
their limits without a word. So readings are numbered, kept in a bounded file (or in memory), and sent again, oldest
first, until the gateway says on `…/ack` that it has them on its disk. It knows a repetition for one.

    with Sender("mqtt://broker", "riverside", "P-101", Path("/var/lib/readings")) as sender:
        sender.send(datetime.now(UTC), {"flow_m3_h": 41.5})

As a command, `python -m gateway.sender --url mqtt://broker --site riverside --equipment P-101` reads a reading a line
from its input, `{"ts": ..., "values": {...}}`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sqlite3
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, get_args
from urllib.parse import quote

import orjson

from backbone.errors import ConfigurationError, HybridError, Transient
from gateway.backoff import Backoff
from gateway.mqtt_connection import Broker, Connection, ConnectionLost, Version
from gateway.mqtt_packets import Arrived

_log = logging.getLogger("hybrid.sender")

CAPACITY = 100_000
ANSWER_S = 5.0
"""Sent, and not acknowledged by the gateway for so long: sent again, ever less often."""
_LONGEST_PAUSE_S = 60.0
_UNDER_WAY = 2000
_BATCH = 200
_KEEPALIVE_S = 15


class SenderFull(Transient):
    """As many readings wait for the gateway's acknowledgement as may be kept."""


class _Kept:
    """Readings that the gateway has not acknowledged; safe for two threads. `path` None: in memory."""

    def __init__(self, path: Path | None, capacity: int) -> None:
        self._capacity, self.changed = capacity, threading.Condition()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=0.5)
        try:
            # What `send` has returned for is on the disk; a second sender on the file would number twice.
            self._db.executescript(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                "CREATE TABLE IF NOT EXISTS readings (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL);"
                "CREATE TABLE IF NOT EXISTS session (name TEXT NOT NULL, next INTEGER NOT NULL);"
            )
            found = self._db.execute("SELECT name, next FROM session").fetchone()
            if found is None:
                found = (uuid.uuid4().hex, 0)
                self._db.execute("INSERT INTO session VALUES (?, ?)", found)
        except sqlite3.Error as error:
            self._db.close()
            raise ConfigurationError(
                f"{path} cannot be used: {error}.", next_step="Is another sender at work with this folder?"
            ) from error
        self.session, self._next = found
        self._count: int = self._db.execute("SELECT count(*) FROM readings").fetchone()[0]

    def __len__(self) -> int:
        return self._count

    def add(self, ts: object, values: Mapping[str, object], wait_s: float) -> int:
        with self.changed:
            if not self.changed.wait_for(lambda: self._count < self._capacity, wait_s):
                raise SenderFull(
                    f"{self._count} readings wait for the gateway.", next_step="Send later; is the gateway running?"
                )
            seq = self._next
            payload = orjson.dumps({"ts": ts, "seq": seq, "session": self.session, "values": values})
            self._db.execute("BEGIN")
            self._db.execute("INSERT INTO readings VALUES (?, ?)", (seq, payload))
            self._db.execute("UPDATE session SET next = ?", (seq + 1,))
            self._db.execute("COMMIT")
            self._next, self._count = seq + 1, self._count + 1
            return seq

    def after(self, seq: int, count: int) -> list[tuple[int, bytes]]:
        with self.changed:
            query = "SELECT seq, payload FROM readings WHERE seq > ? ORDER BY seq LIMIT ?"
            return self._db.execute(query, (seq, count)).fetchall()

    def up_to(self, seq: int) -> int:
        """How many there are up to and with this one."""
        with self.changed:
            count: int = self._db.execute("SELECT count(*) FROM readings WHERE seq <= ?", (seq,)).fetchone()[0]
            return count

    def let_go(self, first: int, last: int) -> bool:
        """Whether the oldest was among them."""
        with self.changed:
            oldest: int | None = self._db.execute("SELECT min(seq) FROM readings").fetchone()[0]
            gone = self._db.execute("DELETE FROM readings WHERE seq BETWEEN ? AND ?", (first, last)).rowcount
            self._count -= gone
            self.changed.notify_all()
            return oldest is not None and first <= oldest <= last

    def close(self) -> None:
        with self.changed:
            self._db.close()


class Sender:
    """Readings of one machine, on their way to its gateway. A thread of its own sends; to be used from any thread.

    Args:
        url: the broker's, or a `Broker` for the ways to prove who one is.
        folder: where readings are kept until they are acknowledged, also over a restart; None: in memory.
        capacity: readings kept at most.
        answer_s: for how long the gateway may be silent before readings are sent again.

    Raises:
        ConfigurationError: the broker's settings are wrong, or another sender uses the folder.
    """

    def __init__(
        self,
        url: str | Broker,
        site: str,
        equipment: str,
        folder: Path | None = None,
        *,
        namespace: str = "hybrid",
        capacity: int = CAPACITY,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._broker = Broker(url) if isinstance(url, str) else url
        self._broker.check()
        self._above, self._answer_s = f"{namespace}/{site}/{equipment}", answer_s
        name = f"{quote(site, safe='')}-{quote(equipment, safe='')}.sqlite"
        self._kept = _Kept(None if folder is None else folder / name, capacity)
        self._client_id = f"{equipment}-{self._kept.session[:12]}"
        self.trouble: str | None = None
        self._connection: Connection | None = None
        self._sent = -1
        """The highest number sent since the last time it began anew."""
        self._patience_s = answer_s
        self._loop = asyncio.new_event_loop()
        self._woken = asyncio.Event()
        self._paused_until = self._answered_at = self._loop.time()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=f"sender-{equipment}", daemon=True)
        self._thread.start()

    @property
    def session(self) -> str:
        """Names this sender's count; another folder, another session."""
        return self._kept.session

    @property
    def unacknowledged(self) -> int:
        """Readings that the gateway has not acknowledged."""
        return len(self._kept)

    def send(self, ts: datetime | str | int, values: Mapping[str, float | None], *, wait_s: float = 0.0) -> int:
        """Keep a reading and have it sent; returns its number once it is kept.

        Args:
            ts: when it was read: ISO 8601, or milliseconds or microseconds since 1970.
            values: sensor → number; NaN counts as none.
            wait_s: how long to wait for room.

        Raises:
            SenderFull: there is no room.
        """
        seq = self._kept.add(ts, values, wait_s)
        self._wake()
        return seq

    def drain(self, wait_s: float) -> bool:
        """Wait until the gateway has acknowledged everything; whether it has."""
        with self._kept.changed:
            return self._kept.changed.wait_for(lambda: len(self._kept) == 0, wait_s)

    def close(self, drain_s: float = 0.0) -> int:
        """End, after waiting for acknowledgements; how many readings remain, in the folder if there is one."""
        if self._thread.is_alive():
            self.drain(drain_s)
            self._stopping = True
            self._wake()
            self._thread.join()
            self._kept.close()
        return len(self._kept)

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._woken.set)

    def _work(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        backoff = Backoff()
        while not self._stopping:
            began = self._loop.time()
            try:
                await self._one_connection()
            except (ConnectionLost, ConfigurationError) as error:
                self.trouble = str(error)
                _log.info("%s", error)
            if self._loop.time() - began > 2 * backoff.most_s:
                backoff.reset()
            again = self._loop.time() + backoff.next_s()
            while not self._stopping and (left_s := again - self._loop.time()) > 0:
                await self._woken_within(left_s)

    async def _one_connection(self) -> None:
        connection = Connection(
            self._broker,
            self._client_id,
            self._received,
            session_expiry_s=0,
            receive_maximum=1000,
            keepalive_s=_KEEPALIVE_S,
            sendable=self._woken.set,
        )
        ended: asyncio.Task[None] | None = None
        try:
            await connection.open()
            await connection.subscribe([f"{self._above}/ack"])
            ended = asyncio.ensure_future(connection.until_ended())
            ended.add_done_callback(lambda _: self._woken.set())
            self.trouble, self._connection = None, connection
            self._begin_anew()
            while not self._stopping and connection.alive:
                self._send_waiting(connection)
                await self._woken_within(self._until_anew_s())
            if ended.done():
                ended.result()
        finally:
            self._connection = None
            if ended is not None:
                ended.cancel()
                await asyncio.gather(ended, return_exceptions=True)
            await connection.close()

    def _send_waiting(self, connection: Connection) -> None:
        now = self._loop.time()
        if now < self._paused_until:
            return
        under_way = self._kept.up_to(self._sent)
        if under_way and now >= self._answered_at + self._patience_s:
            self._patience_s = min(2 * self._patience_s, _LONGEST_PAUSE_S)
            self._begin_anew()
            under_way = 0
        if under_way == 0:
            self._answered_at = now
        while under_way < _UNDER_WAY and (batch := self._kept.after(self._sent, _BATCH)):
            for seq, payload in batch:
                if not connection.publish(f"{self._above}/telemetry", payload):
                    return
                self._sent, under_way = seq, under_way + 1

    def _begin_anew(self) -> None:
        """With the oldest: what was sent and not acknowledged may be lost."""
        self._sent, self._answered_at = -1, self._loop.time()

    def _until_anew_s(self) -> float:
        now = self._loop.time()
        due = self._paused_until if now < self._paused_until else self._answered_at + self._patience_s
        return max(0.01, due - now)

    async def _woken_within(self, wait_s: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), wait_s)
        except TimeoutError:
            return
        self._woken.clear()

    def _received(self, arrived: Sequence[Arrived]) -> None:
        for _, payload, number, _ in arrived:
            if self._connection is not None:
                self._connection.acknowledge(number)
            self._heard(payload)

    def _heard(self, payload: bytes) -> None:
        try:
            told = json.loads(payload)
            session, first, last = told.get("session"), told.get("from"), told.get("seq")
            refused, retry_after_s = told.get("refused"), float(told.get("retry_after_s") or 0)
        except (ValueError, AttributeError, TypeError):
            return
        if refused is not None:
            # A refusal may come before it could be read whose it is. To wait and to begin anew does no harm.
            self.trouble = f"refused: {refused}"
            self._paused_until = self._loop.time() + min(max(retry_after_s, 0.1), _LONGEST_PAUSE_S)
            self._begin_anew()
        elif session != self.session or not isinstance(first, int) or not isinstance(last, int):
            return
        elif self._kept.let_go(first, last):
            # Of the oldest only: what a broker dropped is not to wait for a pause in what comes after it.
            self.trouble, self._patience_s = None, self._answer_s
            self._answered_at = self._loop.time()
        self._woken.set()


def main(arguments: list[str] | None = None) -> int:
    """Send what comes on the input; 1 if the gateway has not acknowledged everything in the end, 2 for bad input."""
    asked = argparse.ArgumentParser(prog="python -m gateway.sender", description=__doc__.split("\n", 1)[0])
    for name in ("--url", "--site", "--equipment"):
        asked.add_argument(name, required=True)
    asked.add_argument("--namespace", default="hybrid")
    asked.add_argument("--folder", type=Path, help="keeps readings over a restart")
    asked.add_argument("--version", default="5", choices=[str(version) for version in get_args(Version)])
    for name in ("--ca", "--certificate", "--key", "--password-file"):
        asked.add_argument(name, type=Path)
    asked.add_argument("--username")
    asked.add_argument("--drain-s", type=float, default=60.0, help="how long to wait for acknowledgements in the end")
    given = asked.parse_args(arguments)
    version: Version = 5 if given.version == "5" else "3.1.1"
    broker = Broker(given.url, version, given.ca, given.certificate, given.key, given.username, given.password_file)
    sent = 0
    try:
        sender = Sender(broker, given.site, given.equipment, given.folder, namespace=given.namespace)
    except HybridError as error:
        print(error, file=sys.stderr)
        return 2
    wrong: Exception | None = None
    try:
        for line in sys.stdin:
            if line.strip():
                reading: Any = json.loads(line)
                sender.send(reading["ts"], dict(reading["values"]), wait_s=threading.TIMEOUT_MAX)
                sent += 1
    except (ValueError, KeyError, TypeError) as error:
        wrong = error
    left = sender.close(given.drain_s)
    print(json.dumps({"sent": sent, "left": left, "session": sender.session}))
    if wrong is not None:
        print(f"input, reading {sent + 1}: {wrong!r}", file=sys.stderr)
        return 2
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
