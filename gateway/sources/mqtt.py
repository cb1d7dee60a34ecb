"""Source `mqtt`: readings from an MQTT broker, acknowledged when the gateway has them on its disk.

Topics follow ISA-95, below `{namespace}/{site}`:

    {equipment}/telemetry   in, QoS 1: what `gateway.decoding` reads
    {equipment}/ack         out: `{"source", "session", "from", "seq"}`: all from `from` up to and with `seq` is kept.
                            It grows while nothing is missing between, and begins anew with the gateway or after a gap.
                            `{"source", "refused", "retry_after_s"}`, with `session` and `seq` where they are known:
                            not kept; send again later
    {equipment}/advisory    out, QoS 1
    status/{gateway}        out, retained: `{"gateway", "state": "online" | "offline", "since"}`, with a will message

*Who sent it.* A broker does not say which client published a message, and what the message or a user property says of
it could be anybody's word. The source's name is the equipment in the topic; that only the equipment itself can write
there is for the broker's access list to see to (mosquitto: `use_identity_as_username true` and
`pattern write {namespace}/{site}/%u/telemetry`).

*What is refused.* No PUBACK with an error code makes a broker deliver again: to the broker it is the end of the
message. So when the gateway as a whole cannot keep anything (spool full or failed, too much waiting, shutting down) the
broker gets no acknowledgement at all: the rest of what comes on the connection is left unread, and after a pause the
connection is made anew, upon which the broker delivers everything unacknowledged again, in order. A single source over
its rate must not hold up the others: its excess is acknowledged to the broker (MQTT 5: 0x97, quota exceeded) and gone,
unless its sender repeats what the gateway did not acknowledge on `…/ack`. Either way `…/ack` says so.

*Sparkplug B*, if a group is named: `spBv1.0/{group}/#` comes in as `gateway.sparkplug` reads it; requests to be born
again go out. Its senders send at QoS 0 and hear no acknowledgement: what is under way is lost with the line, and what
comes while the spool is full.

*What is too large* to be gathered (`gateway.mqtt_packets.MOST_BYTES`) ends as a dead letter: the beginning, and the
digest of all of it. An MQTT 5 broker is told of the bound: it drops such a message, and tells neither its sender nor
us.

*Retained* telemetry is taken in as any other: a repetition is known for one, and a broker may mark what it kept for an
absent client as retained (amqtt does).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field

from backbone.errors import ConfigurationError
from backbone.settings import settings_from
from gateway import reasons
from gateway.acknowledged import AcknowledgedRanges
from gateway.backoff import Backoff
from gateway.contract_check import LONGEST_NAME
from gateway.mqtt_connection import (
    QUOTA_EXCEEDED,
    Broker,
    Connection,
    ConnectionLost,
    Version,
    Will,
    carried,
)
from gateway.mqtt_packets import Arrived, TooLarge
from gateway.ports import Fate, GatewaySourceSpec, Intake, Message, Settled, SourceContext
from gateway.sparkplug import NAMESPACE, Decoded, SparkplugDecoder

_log = logging.getLogger("hybrid.gateway.mqtt")

ACKNOWLEDGE_EVERY_S = 0.1
_LONGEST_HOLD_S = 30.0
_WAITING_ADVISORIES = 10_000
_TELEMETRY = "/telemetry"
Levels = Annotated[str, Field(pattern=r"^[^+#/$][^+#]*$")]
"""The beginning of topics: no wildcard, and none of the broker's own (`$SYS`)."""


@dataclass(frozen=True, slots=True)
class SparkplugSettings:
    """The table `sparkplug` of the source; see `gateway.sparkplug.SparkplugDecoder`.

    Attributes:
        group: whose nodes are heard.
        columns: metric → column, where they are not of the same name.
        units: as nodes write them → as the contract does.
        hold: what a device does not report is as it showed it last.
    """

    group: Annotated[str, Field(pattern=r"^[^+#/]+$")]
    columns: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    hold: bool = False


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """The source's table in a site file.

    Attributes:
        url: `mqtt://host:port`, or `mqtts://host:port`.
        version: of the protocol; 3.1.1 knows neither reason codes nor trace contexts.
        ca, certificate, key: PEM files, relative to the home folder.
        password_file: its first line is the password.
        client_id: names the session in which the broker keeps what comes while the gateway is down; two clients of
            one id push each other out.
        session_expiry_s: for how long the broker keeps it (MQTT 5; under 3.1.1 that is for the broker to decide).
        receive_maximum: messages that the broker may have under way (MQTT 5). mosquitto takes it in place of its own
            `max_inflight_messages`; under 3.1.1 that one holds, 20 by default.
        keepalive_s: a broker that is silent for about twice as long is connected to anew.
    """

    url: str
    version: Version = 5
    namespace: Levels = "hybrid"
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    username: str | None = None
    password_file: str | None = None
    client_id: str | None = None
    session_expiry_s: Annotated[int, Field(ge=60, lt=2**32)] = 30 * 86_400
    receive_maximum: Annotated[int, Field(ge=1, le=65_535)] = 8192
    keepalive_s: Annotated[int, Field(ge=1, le=65_535)] = 15
    sparkplug: SparkplugSettings | None = None

    def broker(self, base: Path) -> Broker:
        """Raises `ConfigurationError` where this cannot work."""
        files = (None if f is None else base / f for f in (self.ca, self.certificate, self.key, self.password_file))
        ca, certificate, key, password = files
        broker = Broker(self.url, self.version, ca, certificate, key, self.username, password)
        broker.check()
        return broker


class MqttSource:
    """One broker, one session."""

    def __init__(self, context: SourceContext, settings: MqttSettings, broker: Broker) -> None:
        self._settings, self._broker, self._now_us, self._gateway = settings, broker, context.now_us, context.gateway
        self._above = f"{settings.namespace}/{context.site}/"
        self._status_topic = f"{self._above}status/{context.gateway}"
        self._client_id = settings.client_id or f"hybrid-{context.site}-{context.gateway}"
        self._filters = [f"{self._above}+/telemetry"]
        self._sparkplug: SparkplugDecoder | None = None
        if (sparkplug := settings.sparkplug) is not None:
            self._filters.append(f"{NAMESPACE}/{sparkplug.group}/#")
            self._sparkplug = SparkplugDecoder(
                columns=sparkplug.columns,
                units=sparkplug.units,
                hold=sparkplug.hold,
                is_equipment=lambda name: any(fnmatchcase(name, pattern) for pattern in context.equipment),
            )
        self._connection: Connection | None = None
        self._advisories: deque[tuple[str, bytes, str | None]] = deque()
        self._ranges = AcknowledgedRanges()
        self._refusals: dict[str, dict[str, Any]] = {}
        self._telling: asyncio.TimerHandle | None = None
        self._held: str | None = None
        self._ask_again_in = Backoff(1.0, _LONGEST_HOLD_S)
        self._asking: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Future[None]] = set()
        self._counts = {"connections": 0, "received": 0, "not_ours_to_read": 0, "not_published": 0}
        self._trouble: str | None = None
        self._told_not_carried = False

    async def serve(self, intake: Intake, ready: asyncio.Event) -> None:
        """See `gateway.ports.GatewaySource.serve`."""
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._one_connection(intake, ready)
            except (ConnectionLost, ConfigurationError) as error:
                if self._held is None:
                    if self._trouble != str(error):
                        _log.warning("no connection", extra={"told": {"why": str(error)}})
                    self._trouble = str(error)
            if self._held is None:
                if loop.time() - began > 2 * backoff.most_s:
                    backoff.reset()
                await asyncio.sleep(backoff.next_s())

    def publish(self, equipment: str, kind: str, payload: bytes, traceparent: str | None = None) -> None:
        """See `gateway.ports.Publisher.publish`. What the broker has no room for waits, up to 10,000 messages.

        What MQTT cannot carry is dropped and counted.
        """
        topic = f"{self._above}{equipment}/{kind}"
        if not carried(topic) or (traceparent is not None and not carried(traceparent)):
            self._not_carried(topic)  # it would be at the head of the others for ever
            return
        self._advisories.append((topic, payload, traceparent))
        if len(self._advisories) == 1:
            # Those of one answer are published one after the other, and leave in one piece.
            asyncio.get_running_loop().call_soon(self._publish_waiting)
        elif len(self._advisories) > _WAITING_ADVISORIES:
            self._publish_waiting()

    def health(self) -> Mapping[str, Any]:
        """See `gateway.ports.GatewaySource.health`. `holding`: why nothing is taken in from a broker just now."""
        return {
            "connected": self._connection is not None and self._connection.alive,
            "url": self._broker.url,
            "client_id": self._client_id,
            "version": str(self._settings.version),
            "holding": self._held,
            "trouble": self._trouble,
            **self._counts,
        }

    async def _one_connection(self, intake: Intake, ready: asyncio.Event) -> None:
        since = datetime.fromtimestamp(self._now_us() / 1e6, UTC).isoformat(timespec="seconds")
        connection = Connection(
            self._broker,
            self._client_id,
            partial(self._received, intake),
            session_expiry_s=self._settings.session_expiry_s,
            receive_maximum=self._settings.receive_maximum,
            keepalive_s=self._settings.keepalive_s,
            will=Will(self._status_topic, self._status("offline", since)),
            sendable=self._publish_waiting,
            too_large=partial(self._received_too_large, intake),
        )
        self._connection, self._held = connection, None
        if self._sparkplug is not None:
            self._sparkplug.forget()
        try:
            await connection.open()
            await connection.subscribe(self._filters)
            connection.publish(self._status_topic, self._status("online", since), retain=True)
            self._counts["connections"] += 1
            self._trouble = None
            ready.set()
            _log.info("connected", extra={"told": {"url": self._broker.url, "session": connection.session_present}})
            await connection.until_ended()
        except asyncio.CancelledError:
            self._held = self._held or "closing"  # whatever else comes stays with the broker
            self._tell_senders()
            now = datetime.fromtimestamp(self._now_us() / 1e6, UTC).isoformat(timespec="seconds")
            connection.publish(self._status_topic, self._status("offline", now), retain=True)
            raise
        finally:
            await connection.close()
            self._counts["not_published"] += connection.unconfirmed + len(self._advisories)
            self._advisories.clear()
            for timer in (self._telling, self._asking):
                if timer is not None:
                    timer.cancel()
            self._connection = self._telling = self._asking = None
            self._refusals.clear()

    def _status(self, state: str, since: str) -> bytes:
        return orjson.dumps({"gateway": self._gateway, "state": state, "since": since})

    def _received(self, intake: Intake, arrived: Sequence[Arrived], digest: bytes | None = None) -> None:
        """`digest` as in `gateway.ports.Message`."""
        connection, now_us, above, counts = self._connection, self._now_us(), self._above, self._counts
        for topic, payload, number, traceparent in arrived:
            if self._held is not None or connection is None:
                return
            counts["received"] += 1
            equipment = topic[len(above) : -len(_TELEMETRY)]
            try:
                if topic.startswith(above) and topic.endswith(_TELEMETRY) and "/" not in equipment:
                    intake.offer(
                        Message(equipment, equipment, payload, now_us, traceparent, digest),
                        partial(self._settled, connection, number, equipment),
                    )
                elif self._sparkplug is not None and topic.startswith(NAMESPACE):
                    decoded = self._sparkplug.decode(topic, payload, now_us, traceparent, whole=digest is None)
                    self._received_sparkplug(connection, number, intake, decoded, digest)
                else:
                    # The session still has a subscription from before the settings changed.
                    counts["not_ours_to_read"] += 1
                    connection.acknowledge(number)
            except Exception:  # one message must not cost those that came with it
                _log.exception("not taken in", extra={"told": {"topic": topic}})

    def _received_too_large(self, intake: Intake, large: TooLarge) -> None:
        """It ends as a dead letter: left with the broker, it would come again with each connection."""
        self._received(intake, [large.arrived], large.digest)

    def _received_sparkplug(
        self,
        connection: Connection,
        number: int | None,
        intake: Intake,
        decoded: Decoded,
        digest: bytes | None,
    ) -> None:
        waiting = len(decoded.messages) + (decoded.undecodable is not None)
        if decoded.commands:
            connection.publish_unconfirmed((command.topic, command.payload) for command in decoded.commands)

        def settled(told: Settled) -> None:
            nonlocal waiting
            waiting -= 1
            if told.fate is Fate.REFUSED:
                self._refused(connection, number, None, told)
                waiting = -1  # of all that was sent as one, nothing is acknowledged
            elif waiting == 0:
                connection.acknowledge(number)

        if waiting == 0:
            connection.acknowledge(number)
        for message in decoded.messages:
            intake.offer(message, settled)
        if (letter := decoded.undecodable) is not None:
            intake.dead_letter(letter.source, letter.equipment, letter.raw, letter.reason, settled, digest)

    def _settled(self, connection: Connection, number: int | None, equipment: str, settled: Settled) -> None:
        if (fate := settled.fate) is Fate.KEPT:
            self._ask_again_in.reset()
        elif fate is Fate.REFUSED:
            self._refused(connection, number, equipment, settled)
            return
        connection.acknowledge(number)
        # Nobody listens under a name that is no machine's; ten thousand of 64 KiB would be remembered.
        if settled.seq is not None and fate is not Fate.NOT_OURS and len(equipment) <= LONGEST_NAME:
            self._ranges.add(equipment, settled.session or "", settled.seq)
            if self._telling is None:
                self._tell_soon()

    def _refused(self, connection: Connection, number: int | None, equipment: str | None, settled: Settled) -> None:
        """`equipment` is None where nobody hears a refusal."""
        wait_s = settled.retry_after_s or 0.0
        if settled.reason != reasons.RATE_EXCEEDED:
            if connection is self._connection:
                wait_s = self._hold(connection, settled.reason or "refused", wait_s)
        else:
            connection.acknowledge(number, QUOTA_EXCEEDED)
        if equipment is None or len(equipment) > LONGEST_NAME:
            return
        told = {"source": equipment, "refused": settled.reason, "retry_after_s": round(wait_s, 3)}
        if settled.seq is not None:
            told |= {"session": settled.session, "seq": settled.seq}
        self._refusals[equipment] = told
        self._tell_soon()

    def _hold(self, connection: Connection, reason: str, wait_s: float) -> float:
        """Leave the rest of this connection unread, and have it delivered again later; in how many seconds."""
        loop = asyncio.get_running_loop()
        if self._asking is None:
            self._held = reason
            wait_s = max(wait_s, self._ask_again_in.next_s())
            self._asking = loop.call_later(wait_s, self._ask_again, connection)
            _log.warning("holding", extra={"told": {"reason": reason, "for_s": round(wait_s, 3)}})
            return wait_s
        return max(0.0, self._asking.when() - loop.time())

    def _ask_again(self, connection: Connection) -> None:
        """Made anew, the connection brings again what the broker got no acknowledgement for."""
        self._closing.add(task := asyncio.ensure_future(connection.close()))
        task.add_done_callback(self._closing.discard)

    def _tell_soon(self) -> None:
        if self._telling is None and self._connection is not None:
            self._telling = asyncio.get_running_loop().call_later(ACKNOWLEDGE_EVERY_S, self._tell_senders)

    def _tell_senders(self) -> None:
        self._telling = None
        connection = self._connection
        if connection is None or not connection.alive:
            return
        told = [
            (r.equipment, {"source": r.equipment, "session": r.session, "from": r.first, "seq": r.last})
            for r in self._ranges.take()
        ]
        told += self._refusals.items()
        self._refusals = {}
        connection.publish_unconfirmed((f"{self._above}{to}/ack", orjson.dumps(what)) for to, what in told)

    def _not_carried(self, topic: str) -> None:
        self._counts["not_published"] += 1
        if not self._told_not_carried:
            self._told_not_carried = True  # a machine that sends such texts does so with every reading
            _log.error("MQTT cannot carry its topic or trace context", extra={"told": {"topic": ascii(topic)}})

    def _publish_waiting(self) -> None:
        connection, waiting = self._connection, self._advisories
        if not waiting:
            return
        if connection is not None:
            for _ in range(connection.publish_all(waiting)):
                waiting.popleft()
        if connection is None or not connection.alive or len(waiting) > _WAITING_ADVISORIES:
            self._counts["not_published"] += len(waiting)
            waiting.clear()


def _open(context: SourceContext) -> MqttSource:
    where = f"source mqtt of gateway {context.gateway}"
    settings = settings_from(MqttSettings, context.settings, where=where)
    try:
        broker = settings.broker(context.base)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.problem}", next_step=error.next_step) from None
    return MqttSource(context, settings, broker)


SPEC = GatewaySourceSpec(
    name="mqtt",
    summary="MQTT 5 and 3.1.1, with TLS and mutual TLS; acknowledged once the disk has it",
    cannot=(
        "know which client published a message: no broker tells; its access list must bind clients to topics",
        "make a broker keep more than its own limits: it drops beyond them, and tells nobody",
        "be a Sparkplug primary host: it publishes no STATE",
        "learn of a message that is too large for it under MQTT 5: the broker drops it",
        "refuse to a sender under MQTT 3.1.1 but by not acknowledging on .../ack",
    ),
    open=_open,
)
