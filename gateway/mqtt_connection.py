"""One connection to an MQTT broker, on which a message is acknowledged by hand.

A connection is made once and never again: what came on it can be acknowledged on it alone, and whoever wants another
makes another. Clients that others keep acknowledge as soon as they have called back, or hold a packet in memory
whatever its size, see docs/adr/0022.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast
from urllib.parse import urlsplit

from backbone.errors import ConfigurationError, Transient
from gateway import mqtt_requests
from gateway.mqtt_packets import (
    MOST_BYTES,
    RECEIVE_MAXIMUM,
    SERVER_KEEP_ALIVE,
    Arrived,
    Packet,
    Packets,
    TooLarge,
    properties,
)
from gateway.read_pace import ReadPace

Version = Literal[5, "3.1.1"]

QUOTA_EXCEEDED = 0x97
"""Reason code of MQTT 5: the broker is told that the receiver has its fill, and does not deliver again."""
CONNECT_S = 10.0
"""TCP, TLS, CONNECT and its answer, or SUBSCRIBE and its answer, take no longer, or are tried again."""
_MOST_UNWRITTEN = 4 << 20
"""Bytes that wait for a broker that does not read; what more is published is dropped."""
_CONNACK, _PUBACK, _SUBACK, _DISCONNECT = 2, 4, 9, 14
_OTHER_VERSION = (1, 0x84)
_REFUSALS = {
    1: "unacceptable version of the protocol", 2: "unacceptable client id", 3: "unavailable",
    4: "bad user name or password", 5: "not authorised", 0x84: "unsupported version of the protocol",
    0x85: "unacceptable client id", 0x86: "bad user name or password", 0x87: "not authorised", 0x88: "unavailable",
    0x89: "busy", 0x8A: "banned", 0x8C: "bad authentication method", 0x8E: "another client took the session over",
    0x95: "packet too large", 0x97: "quota exceeded", 0x9F: "connection rate exceeded",
}  # fmt: skip


class ConnectionLost(Transient):
    """The broker cannot be reached, refuses, or is silent."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is, and how a client proves who it is there.

    Attributes:
        url: `mqtt://host:port`, or `mqtts://host:port` for TLS.
        ca: PEM of the authorities that may vouch for the broker; None: those that the system trusts.
        certificate, key: PEM of the client's own (mutual TLS).
        password_file: the password is its first line, so that it stands in no settings.
    """

    url: str
    version: Version = 5
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password_file: Path | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (8883 if self.tls else 1883)

    @property
    def tls(self) -> bool:
        return self.url.startswith("mqtts://")

    def check(self) -> None:
        """Look whether this can ever work, connecting to nothing.

        Raises:
            ConfigurationError: it cannot.
        """
        try:
            parts = urlsplit(self.url)
            right = parts.scheme in ("mqtt", "mqtts") and parts.hostname and parts.path in ("", "/") and parts.port != 0
        except ValueError:
            right = False
        if not right:
            raise ConfigurationError(
                "url is that of no MQTT broker.", next_step='Write url = "mqtt://host:1883", or "mqtts://host:8883".'
            )
        if parts.username is not None:
            raise ConfigurationError("the url holds a name or a password.", next_step="Use username and password_file.")
        if not self.tls and (self.ca or self.certificate or self.key):
            raise ConfigurationError("certificates without TLS.", next_step="Write mqtts:// in the url.")
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("certificate and key go together.", next_step="Give both, or neither.")
        if self.password_file is not None and self.username is None:
            raise ConfigurationError("a password without a username.", next_step="Add username.")
        self.credentials()
        self.tls_context()

    def credentials(self) -> tuple[str, str] | None:
        """Name and password, read anew each time, so that they can be changed while the gateway runs.

        Raises:
            ConfigurationError: the password's file cannot be read.
        """
        if self.username is None:
            return None
        if self.password_file is None:
            return self.username, ""
        try:
            return self.username, self.password_file.read_text().split("\n", 1)[0]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"password_file {self.password_file} cannot be read: {error}.", next_step="Put the password there."
            ) from error

    def tls_context(self) -> ssl.SSLContext | None:
        """As the certificates are now, so that they can be renewed while the gateway runs.

        Raises:
            ConfigurationError: they cannot be read, or do not belong together.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the certificates cannot be used: {error}.", next_step="Check ca, certificate and key: PEM files."
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this client has gone without a word."""

    topic: str
    payload: bytes


class Received(Protocol):
    """Told of messages in the order in which they came."""

    def __call__(self, arrived: Sequence[Arrived]) -> None: ...


class Connection(asyncio.Protocol):
    """A connection from CONNECT to its end. To be used on one event loop.

    Args:
        client_id: names the session that the broker keeps for this client while it is away.
        session_expiry_s: for how long it does (MQTT 5); 0: there is no such session.
        receive_maximum: unacknowledged messages that the broker may have under way to this client (MQTT 5), and that
            this client has under way to a broker that does not say how many it takes.
        keepalive_s: a broker silent for about twice as long is given up.
        sendable: called when a message that was published has been acknowledged.
        too_large: told of messages that are larger than `gateway.mqtt_packets.MOST_BYTES`; None: they are acknowledged,
            and that is all.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        received: Received,
        *,
        session_expiry_s: int,
        receive_maximum: int,
        keepalive_s: int,
        will: Will | None = None,
        sendable: Callable[[], None] = lambda: None,
        too_large: Callable[[TooLarge], None] | None = None,
    ) -> None:
        self._broker, self._client_id, self._received, self._will = broker, client_id, received, will
        self._session_expiry_s, self._most_under_way = session_expiry_s, receive_maximum
        self._receive_maximum, self._keepalive_s = receive_maximum, keepalive_s
        self._sendable, self._too_large = sendable, too_large or self._acknowledge_too_large
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._admitted: asyncio.Future[None] = self._loop.create_future()
        self._subscribed: asyncio.Future[bytes] = self._loop.create_future()
        self._acknowledged = bytearray()
        self._v5 = broker.version == 5
        self._packets = Packets(v5=self._v5)
        self._pace = ReadPace()
        self._asking = 0
        """Messages of this connection that the broker waits for an acknowledgement of."""
        self._transport: asyncio.Transport | None = None
        self._looks: asyncio.TimerHandle | None = None
        self._heard_at = self._told_at = time.monotonic()
        self._number = 0
        self._under_way: set[int] = set()
        """Numbers of messages published at QoS 1 that the broker has not acknowledged."""
        self.session_present = False

    @property
    def alive(self) -> bool:
        return not self._ended.done()

    @property
    def why_ended(self) -> str | None:
        return self._ended.result() if self._ended.done() else None

    async def open(self) -> None:
        """Connect.

        Raises:
            ConnectionLost: the broker cannot be reached or refuses.
            ConfigurationError: password or certificates cannot be read any more.
        """
        host, port = self._broker.address
        tls = self._broker.tls_context()
        request = mqtt_requests.connect(
            self._client_id,
            v5=self._v5,
            keepalive_s=self._keepalive_s,
            session_expiry_s=self._session_expiry_s,
            receive_maximum=self._receive_maximum,
            maximum_packet_size=MOST_BYTES,
            will=None if self._will is None else (self._will.topic, self._will.payload),
            credentials=self._broker.credentials(),
        )
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._loop.create_connection(lambda: self, host, port, ssl=tls)
                self._write(request)
                await self._until(self._admitted)
        except TimeoutError:
            maybe = '; if it speaks MQTT 3.1.1 only, set version = "3.1.1"' if self._v5 and self._transport else ""
            self.end(f"it does not answer{maybe}")
        except (OSError, ValueError) as error:
            self.end(f"{error}")
        if not self.alive:
            raise self._lost()
        self._look_after()

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for topics at QoS 1; once.

        Raises:
            ConnectionLost: the broker does not let this client have them, or has gone.
        """
        self._write(mqtt_requests.subscribe(self._next_number(), filters, v5=self._v5))
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._until(self._subscribed)
        except TimeoutError:
            self.end("it does not answer")
        if self.alive:
            granted = self._subscribed.result()
            if refused := [each for each, code in zip(filters, granted, strict=False) if code > 2]:
                self.end(f"it does not let this client subscribe to {', '.join(refused)}")
        if not self.alive:
            raise self._lost()

    async def until_ended(self) -> None:
        """Wait until the connection is lost; so is one whose broker has fallen silent.

        Raises:
            ConnectionLost: always.
        """
        await asyncio.wait([self._ended])
        raise self._lost()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, traceparent: str | None = None) -> bool:
        """Send at QoS 1. False: nothing was sent; the broker has as many unacknowledged as it takes, or is lost."""
        return self.publish_all([(topic, payload, traceparent)], retain=retain) == 1

    def publish_all(self, messages: Iterable[tuple[str, bytes, str | None]], *, retain: bool = False) -> int:
        """Send topics, payloads and trace contexts at QoS 1, all in one piece; how many of them were, see `publish`.

        Args:
            messages: their texts are `carried`.
        """
        if not self._writable():
            return 0
        packets: list[bytes] = []
        for topic, payload, trace in messages:
            if len(self._under_way) >= self._most_under_way:
                break
            number = self._next_number()
            self._under_way.add(number)
            packets.append(
                mqtt_requests.publish(topic, payload, v5=self._v5, number=number, retain=retain, traceparent=trace)
            )
        self._write(b"".join(packets))
        return len(packets)

    def publish_unconfirmed(self, messages: Iterable[tuple[str, bytes]]) -> bool:
        """Send at QoS 0, all in one piece. False: nothing was sent."""
        if not self._writable():
            return False
        self._write(b"".join(mqtt_requests.publish(topic, payload, v5=self._v5) for topic, payload in messages))
        return True

    @property
    def unconfirmed(self) -> int:
        """Messages published at QoS 1 that the broker has not acknowledged."""
        return len(self._under_way)

    def acknowledge(self, number: int | None, reason: int = 0) -> None:
        """Tell the broker that a message of this connection is settled; nothing is sent once the connection is lost.

        Args:
            reason: a reason code of MQTT 5; under 3.1.1 there is but one acknowledgement.
        """
        if number is None or self._ended.done():
            return
        if not self._acknowledged:
            # Those of one group commit are settled one after the other, and leave in one piece.
            self._loop.call_soon(self._write_acknowledgements)
        self._asking -= 1
        self._acknowledged += mqtt_requests.acknowledge(number, reason if self._v5 else 0)

    async def close(self) -> None:
        """Say goodbye: the broker publishes no will, and keeps the session.

        Where something stays unread the system tells the broker of that as well: it may then publish the will, and
        deliver again what was acknowledged last.
        """
        if self.alive:
            self._write_acknowledgements()
            self._write(mqtt_requests.DISCONNECT)
        self.end("closed", abort=False)
        if self._transport is not None:
            self._transport.close()
            # Python 3.11's wait_for may swallow a cancellation that comes as the future is done.
            await asyncio.wait([self._closed], timeout=1)
            self._transport.abort()

    def end(self, why: str, *, abort: bool = True) -> None:
        """The connection is over: nothing is taken in or acknowledged on it from now on."""
        if self.alive:
            self._ended.set_result(why)
        if self._looks is not None:
            self._looks.cancel()
        if abort and self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        began = self._heard_at = time.monotonic()
        count = 0
        for found in self._packets.feed(data):
            if not self.alive:
                return
            if isinstance(found, list):
                count += len(found)
                self._asking += sum([number is not None for _, _, number, _ in found])
                self._received(found)
            elif isinstance(found, TooLarge):
                self._asking += found.arrived[2] is not None
                self._too_large(found)
            else:
                self._take(found)
        if self._packets.broken is not None:
            self.end(f"it sends what is no MQTT for a client: {self._packets.broken}")
        if (pause_s := self._pace.pause_s(count, self._asking, began)) > 0:
            self._read_next(began + pause_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if not self._closed.done():
            self._closed.set_result(None)
        self.end(f"it closed the connection{'' if exc is None else f': {exc}'}", abort=False)

    def _read_next(self, at: float) -> None:
        """Leave unread what comes until then. Not where the broker waits for us to publish: its acknowledgements would
        stay unread as well."""
        wait_s, transport = at - time.monotonic(), self._transport
        if wait_s > 0 and self.alive and transport is not None and 2 * len(self._under_way) < self._most_under_way:
            transport.pause_reading()
            self._loop.call_later(wait_s, self._read_on)

    def _read_on(self) -> None:
        if self.alive and self._transport is not None:
            self._transport.resume_reading()

    def _take(self, packet: Packet) -> None:
        body, kind = packet.body, packet.head >> 4
        if kind == _PUBACK:
            self._under_way.discard(int.from_bytes(body[:2]))
            self._sendable()
        elif kind == _SUBACK:
            if not self._subscribed.done():
                self._subscribed.set_result(body[properties(body, 2)[1] if self._v5 else 2 :])
        elif kind == _CONNACK and len(body) >= 2:
            self._admit(body)
        elif kind == _DISCONNECT:
            self.end(f"it closed the connection: {_said(body[0] if body else 0)}")

    def _admit(self, body: bytes) -> None:
        if body[1]:
            other = self._v5 and body[1] in _OTHER_VERSION
            self.end('it does not speak MQTT 5: set version = "3.1.1"' if other else f"it refuses: {_said(body[1])}")
            return
        self.session_present = bool(body[0] & 1)
        for identifier, _, value in properties(body, 2)[0] if self._v5 else ():
            if identifier == RECEIVE_MAXIMUM:
                self._most_under_way = int.from_bytes(value)
            elif identifier == SERVER_KEEP_ALIVE:
                self._keepalive_s = int.from_bytes(value) or self._keepalive_s
        if not self._admitted.done():
            self._admitted.set_result(None)

    def _look_after(self) -> None:
        """Let the broker hear of us, and give it up where it is silent."""
        if not self.alive:
            return
        now = time.monotonic()
        if now - self._heard_at > 2 * self._keepalive_s:
            self.end("it was silent for too long")
            return
        if now - min(self._heard_at, self._told_at) >= self._keepalive_s / 2:
            self._write(mqtt_requests.PING)
        self._looks = self._loop.call_later(self._keepalive_s / 4, self._look_after)

    async def _until(self, done: asyncio.Future[Any]) -> None:
        await asyncio.wait((done, self._ended), return_when=asyncio.FIRST_COMPLETED)

    def _next_number(self) -> int:
        """The next that no message under way has."""
        while True:
            self._number = self._number % 0xFFFF + 1
            if self._number not in self._under_way:
                return self._number

    def _lost(self) -> ConnectionLost:
        host, port = self._broker.address
        return ConnectionLost(
            f"The broker at {host}:{port} is not to be had: {self._ended.result()}.", next_step="It is tried again."
        )

    def _writable(self) -> bool:
        transport = self._transport
        return (
            self.alive
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() < _MOST_UNWRITTEN
        )

    def _write(self, packets: bytes) -> None:
        if self.alive and packets and self._transport is not None and not self._transport.is_closing():
            self._told_at = time.monotonic()
            self._transport.write(packets)

    def _write_acknowledgements(self) -> None:
        written, self._acknowledged = bytes(self._acknowledged), bytearray()
        self._write(written)

    def _acknowledge_too_large(self, message: TooLarge) -> None:
        self.acknowledge(message.arrived[2])


def carried(text: str) -> bool:
    """Whether MQTT can carry a text: UTF-8, of 65,535 bytes at most."""
    try:
        return len(text.encode()) <= 0xFFFF
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _said(code: int) -> str:
    return _REFUSALS.get(code, f"reason code {code:#04x}")
