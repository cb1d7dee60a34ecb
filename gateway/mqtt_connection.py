"""One connection to an MQTT broker, on which a message is acknowledged by hand.

`gmqtt` acknowledges as soon as it has called back, and under MQTT 3.1.1 even before; it also reconnects with packet
ids of the connection before. Here a connection is made once and never again: what came on it can be acknowledged on it
alone, and whoever wants another makes another. `_handle_qos_1_publish_packet` and what else of gmqtt is private is
touched in this module only; the release is pinned for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

from backbone.errors import ConfigurationError, Transient
from gateway.mqtt_packets import Arrived, packet_end, plain_publishes

# It logs what a lost connection is, with a trace, each time; why it was lost is told once, by `ConnectionLost`.
logging.getLogger("gmqtt").setLevel(logging.CRITICAL)

Version = Literal[5, "3.1.1"]

QUOTA_EXCEEDED = 0x97
"""Reason code of MQTT 5: the broker is told that the receiver has its fill, and does not deliver again."""
CONNECT_S = 10.0
"""TCP, TLS, CONNECT and its answer, or SUBSCRIBE and its answer, take no longer, or are tried again."""
_MOST_UNWRITTEN = 4 << 20
"""Bytes that wait for a broker that does not read; what more is published is dropped."""
_SILENT = "it was silent for too long"
_PUBACK, _PUBACK_WHY = struct.Struct("!BBH"), struct.Struct("!BBHB")
_TRACEPARENT = b"traceparent"
_DO_NOT_REPEAT_RETAINED = 1
"""Retain handling of MQTT 5: retained messages are sent for a new subscription only."""


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


class _Client(gmqtt.Client):
    """A client that does not reconnect."""

    def __init__(self, connection: Connection, client_id: str, **options: Any) -> None:
        self._tell = connection
        super().__init__(client_id, **options)

    async def reconnect(self, delay: bool = False) -> None:  # noqa: ARG002 - gmqtt's
        refused = self._package_handler._error
        if refused is None and self._connection_state.protocol_version != self._tell.protocol:
            refused = 'it does not speak MQTT 5: set version = "3.1.1"'
        silent = time.monotonic() - self._tell.heard_at > self._keepalive
        self._tell.end(str(refused or (_SILENT if silent else f"it closed the connection{self._why_closed()}")))

    def _why_closed(self) -> str:
        closed = None if self._connection is None else self._connection._protocol.closed
        if closed is None or not closed.done() or closed.cancelled() or (error := closed.exception()) is None:
            return ""
        return f": {error}"

    async def _create_connection(self, *args: Any, **options: Any) -> Any:
        made = await super()._create_connection(*args, **options)
        self._tell.read_from(made)
        return made


class Connection:
    """A connection from CONNECT to its end. To be used on one event loop.

    Args:
        client_id: names the session that the broker keeps for this client while it is away.
        session_expiry_s: for how long it does (MQTT 5); 0: there is no such session.
        receive_maximum: unacknowledged messages that the broker may have under way to this client (MQTT 5).
        keepalive_s: a broker silent for about twice as long is given up.
        sendable: called when a message that was published has been acknowledged.
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
    ) -> None:
        self._broker, self._received, self._keepalive_s = broker, received, keepalive_s
        self.sendable = sendable
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._acknowledged = bytearray()
        self._subscribed: asyncio.Future[Sequence[int]] | None = None
        self.session_present = False
        self.heard_at = time.monotonic()
        self._v5 = broker.version == 5
        self.protocol = MQTTv50 if self._v5 else MQTTv311
        self._client = _Client(
            self,
            client_id,
            clean_session=session_expiry_s == 0,
            will_message=None if will is None else gmqtt.Message(will.topic, will.payload, qos=1, retain=True),
            session_expiry_interval=session_expiry_s,
            receive_maximum=receive_maximum,
        )
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        handler = self._client._package_handler
        handler._handle_qos_1_publish_packet = self._on_qos_1
        handler._handle_puback_packet = self._on_puback
        self._numbers = handler.id_generator
        self._under_way: set[int] = set()
        """Numbers of messages published at QoS 1 that the broker has not acknowledged."""

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
        if (credentials := self._broker.credentials()) is not None:
            self._client.set_auth_credentials(*credentials)
        host, port = self._broker.address
        connecting: asyncio.Future[None] = asyncio.ensure_future(
            self._client.connect(
                host,
                port,
                ssl=self._broker.tls_context() or False,
                keepalive=self._keepalive_s,
                version=self.protocol,
            )
        )
        try:
            await _first_of(connecting, self._ended)
        finally:
            connecting.cancel()
        if connecting.done() and not connecting.cancelled() and (error := connecting.exception()) is not None:
            self.end(f"{error}")
        elif not connecting.done():
            maybe = '; if it speaks MQTT 3.1.1 only, set version = "3.1.1"' if self._v5 and self._transport() else ""
            self.end(f"it does not answer{maybe}")
        if not self.alive:
            raise self._lost()

    def read_from(self, made: Any) -> None:
        """Read PUBLISH packets at QoS 1 without properties, as most are, here; gmqtt takes ten times as long for one.

        All else, and what is wrong in any way, is gmqtt's to read as it comes.

        Args:
            made: gmqtt's connection, on which nothing has come yet.
        """
        others: Callable[[bytes], int] = made._protocol._read_packet

        def read(data: bytes) -> int:
            """How many bytes were read; negative: they are no MQTT."""
            made._last_data_in = time.monotonic()
            at = 0
            while True:
                found, at = plain_publishes(data, at, v5=self._v5)
                if found and self.alive:
                    self._received(found)
                end = packet_end(data, at)
                if (size := others(data[at:end])) <= 0:
                    return size or at
                at += size

        made._protocol._read_packet = read

    async def subscribe(self, filters: Iterable[str]) -> None:
        """Ask for topics at QoS 1.

        Raises:
            ConnectionLost: the broker does not let this client have them, or has gone.
        """
        self._subscribed = self._loop.create_future()
        handling = _DO_NOT_REPEAT_RETAINED if self._v5 else 0
        wanted = [gmqtt.Subscription(each, qos=1, retain_handling_options=handling) for each in filters]
        self._client.subscribe(wanted)
        await _first_of(self._subscribed, self._ended)
        if not self._subscribed.done():
            self.end("it does not answer")
        elif refused := [each.topic for each, code in zip(wanted, self._subscribed.result(), strict=False) if code > 2]:
            self.end(f"it does not let this client subscribe to {', '.join(refused)}")
        if not self.alive:
            raise self._lost()

    async def until_ended(self) -> None:
        """Wait until the connection is lost, looking after a broker that has fallen silent.

        Raises:
            ConnectionLost: always.
        """
        while self.alive:
            self.heard_at = self._client._connection._last_data_in
            await asyncio.wait({self._ended}, timeout=self._keepalive_s / 4)
            if self.alive and not self._client.is_connected:
                self.end(_SILENT)
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
        head = 0x33 if retain else 0x32
        for topic, payload, traceparent in messages:
            try:
                number = self._numbers._mid_generate()
            except OverflowError:
                break
            self._under_way.add(number)
            packets.append(_publish_packet(topic, payload, self._v5, head, number, traceparent))
        self._write(b"".join(packets))
        return len(packets)

    def publish_unconfirmed(self, messages: Iterable[tuple[str, bytes]]) -> bool:
        """Send at QoS 0, all in one piece. False: nothing was sent."""
        if not self._writable():
            return False
        self._write(b"".join(_publish_packet(topic, payload, self._v5) for topic, payload in messages))
        return True

    @property
    def unconfirmed(self) -> int:
        """Messages published at QoS 1 that the broker has not acknowledged."""
        return len(self._under_way)

    async def close(self) -> None:
        """Say goodbye: the broker publishes no will, and keeps the session."""
        if self.alive:
            self._write_acknowledgements()
            with contextlib.suppress(Exception):
                self._client._connection.send_disconnect()
        transport = self._transport()
        self.end("closed", abort=False)
        if transport is not None:
            transport.close()
            # Python 3.11's wait_for may swallow a cancellation that comes as the future is done.
            await asyncio.wait({asyncio.ensure_future(self._client._connection._protocol.closed)}, timeout=1)
            transport.abort()

    def end(self, why: str, *, abort: bool = True) -> None:
        """The connection is over: nothing is taken in or acknowledged on it from now on."""
        if self.alive:
            self._ended.set_result(why)
        if abort and (transport := self._transport()) is not None:
            transport.abort()

    def _transport(self) -> asyncio.Transport | None:
        made = self._client._connection
        return None if made is None else made._transport

    def _lost(self) -> ConnectionLost:
        host, port = self._broker.address
        return ConnectionLost(
            f"The broker at {host}:{port} is not to be had: {self._ended.result()}.", next_step="It is tried again."
        )

    def _writable(self) -> bool:
        transport = self._transport()
        return (
            self.alive
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() < _MOST_UNWRITTEN
        )

    def _write(self, packets: bytes) -> None:
        if self.alive and packets and not self._client._connection.is_closing():
            self._client._connection.send_package(packets)

    def _on_connect(self, _: gmqtt.Client, present: int, __: int, ___: object) -> None:
        self.session_present = bool(present)

    def _on_subscribe(self, _: gmqtt.Client, __: int, granted: Sequence[int], ___: object) -> None:
        if self._subscribed is not None and not self._subscribed.done():
            self._subscribed.set_result(granted)

    def _on_message(self, _: gmqtt.Client, topic: str, payload: bytes, __: int, properties: Mapping[str, Any]) -> None:
        if self.alive:
            self._received([(topic, payload, None, _traceparent(properties))])

    def _on_qos_1(self, mid: int, payload: bytes, topic: str, properties: Mapping[str, Any]) -> None:
        if self.alive:
            self._received([(topic, payload, mid, _traceparent(properties))])

    def _on_puback(self, _: int, packet: bytes) -> None:
        number = int.from_bytes(packet[:2])
        self._numbers.free_id(number)
        self._under_way.discard(number)
        self.sendable()

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
        if reason and self._v5:
            self._acknowledged += _PUBACK_WHY.pack(0x40, 3, number, reason)
        else:
            self._acknowledged += _PUBACK.pack(0x40, 2, number)

    def _write_acknowledgements(self) -> None:
        written, self._acknowledged = bytes(self._acknowledged), bytearray()
        self._write(written)


def carried(text: str) -> bool:
    """Whether MQTT can carry a text: UTF-8, of 65,535 bytes at most."""
    try:
        return len(text.encode()) <= 0xFFFF
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


async def _first_of(*waited: asyncio.Future[Any]) -> None:
    await asyncio.wait(waited, timeout=CONNECT_S, return_when=asyncio.FIRST_COMPLETED)


def _traceparent(properties: Mapping[str, Any]) -> str | None:
    if "user_property" not in properties:
        return None
    return next((value for name, value in properties["user_property"] if name == "traceparent"), None)


def _publish_packet(
    topic: str, payload: bytes, v5: bool, head: int = 0x30, number: int | None = None, traceparent: str | None = None
) -> bytes:
    """PUBLISH: gmqtt's own takes 10 µs of a processor, and acknowledgements and advisories are many."""
    name = topic.encode()
    middle = b"" if number is None else number.to_bytes(2)
    if v5:
        middle += b"\0" if traceparent is None else _user_property(_TRACEPARENT, traceparent.encode())
    length = _variable(2 + len(name) + len(middle) + len(payload))
    return b"%c%b%b%b%b%b" % (head, length, len(name).to_bytes(2), name, middle, payload)


def _user_property(name: bytes, value: bytes) -> bytes:
    """The properties of a packet that has no other."""
    told = b"\x26%b%b%b%b" % (len(name).to_bytes(2), name, len(value).to_bytes(2), value)
    return _variable(len(told)) + told


def _variable(number: int) -> bytes:
    """A number as MQTT writes lengths: seven bits a byte."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)
