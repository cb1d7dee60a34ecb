"""Source `opcua`: readings from an OPC UA server, by subscription.

    [[gateway.sources]]
    kind = "opcua"
    url = "opc.tcp://10.0.0.5:4840"

    [gateway.sources.nodes.P-101]
    vibration_mm_s = "ns=2;s=P101.Vib"
    flow_m3_h = "ns=2;s=P101.Flow"

*A reading* is what changed of one machine with one source timestamp, in one publication of the server. Sensors that did
not change are as they were last known, for up to `carry_s`; one whose status is bad is null from then on. NaN is null,
too, as many servers write it for want of a value.

*Ids.* The session is the life of one subscription, and readings are counted in it.

*Kept or not.* A publication is acknowledged, and the next one asked for, when all its readings are settled. While the
gateway cannot keep any, the server's own queues fill, `queue` values a node; that they have dropped some it says with
the value after, which is counted (`overflowed`), but not all servers say so. A server that has been cut off is
subscribed to anew: what changed meanwhile, but for the newest value, is lost, as the queues went with the subscription.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import math
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import Field

from backbone.errors import ConfigurationError
from backbone.settings import settings_from
from backbone.sites import FolderName
from gateway import reasons
from gateway.backoff import Backoff
from gateway.ports import Fate, GatewaySourceSpec, Intake, Message, Settled, SourceContext

if TYPE_CHECKING:
    from asyncua import Client

_log = logging.getLogger("hybrid.gateway.opcua")

CONNECT_S = 10.0
"""Each step of connecting takes no longer, or is tried again."""
_KEEP_ALIVE_S = 5.0
"""Without anything to tell the server says so this often; silent for three times as long, it is connected to anew."""
_LIFETIME_S = 3600.0
"""For how long a server keeps a subscription that nobody asks for publications of: the longest time of holding."""
_AGAIN_S = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_US = 10**14
"""Times before 1973 are none: servers without a clock begin in 1601 or 1970."""
_NODE_ID = re.compile(r"(ns=[0-9]{1,5};)?(i=[0-9]{1,10}|s=.+|g=[0-9A-Fa-f-]{36}|b=.+)")
_OVERFLOW = 0x480
"""Of a status: it is one of a value, and values before it were dropped (OPC 10000-4, 7.39.1)."""
_CLASSES = {
    "Basic256Sha256": "SecurityPolicyBasic256Sha256",
    "Aes128_Sha256_RsaOaep": "SecurityPolicyAes128Sha256RsaOaep",
    "Aes256_Sha256_RsaPss": "SecurityPolicyAes256Sha256RsaPss",
}


@dataclass(frozen=True, slots=True)
class OpcuaSettings:
    """The source's table in a site file.

    Attributes:
        url: `opc.tcp://host:port/path`.
        nodes: machine → column → node id.
        name: of the server, in ids and counters.
        publishing_ms, sampling_ms: how often the server tells, and looks.
        queue: values that the server keeps of each node until it has told them.
        carry_s: for how long a value holds that does not change.
        policy, mode: of the secure channel; None: it is open to everybody.
        certificate, key: the gateway's, PEM or DER, relative to the home folder.
        server_certificate: the server's, which no other is taken for.
        password_file: its first line is the password.
    """

    url: str
    nodes: Mapping[str, Mapping[str, str]]
    name: FolderName = "opcua"
    publishing_ms: Annotated[float, Field(gt=0)] = 500.0
    sampling_ms: Annotated[float, Field(ge=0)] = 100.0
    queue: Annotated[int, Field(ge=2)] = 1000
    carry_s: Annotated[float, Field(ge=0)] = 3600.0
    policy: Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"] | None = None
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    certificate: str | None = None
    key: str | None = None
    server_certificate: str | None = None
    username: str | None = None
    password_file: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "opc.tcp" or not parts.hostname or parts.username or parts.password:
            raise ConfigurationError(
                "url is no opc.tcp://host:port/path, or has a password in it.",
                next_step="Give the address; a password belongs into password_file.",
            )
        if not self.nodes or not all(self.nodes.values()):
            raise ConfigurationError(
                "nodes is empty.", next_step='Map a machine\'s columns: flow = "ns=2;s=P101.Flow".'
            )
        secured = (self.certificate, self.key, self.server_certificate)
        if any(secured) != bool(self.policy) or (self.policy and not all(secured)):
            raise ConfigurationError(
                "policy, certificate, key and server_certificate go together.", next_step="Give all of them, or none."
            )
        if self.password_file and not self.username:
            raise ConfigurationError("password_file is given without username.", next_step="Give both.")


class _Lost(Exception):
    """The server cannot be reached, refuses, or is silent."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a sensor: its value, since when, and when it was last known to hold; None while it is bad."""

    value: Any
    ts_us: int
    as_of_us: int


@dataclass(frozen=True, slots=True)
class _Item:
    equipment: str
    column: str
    node: str


@dataclass(frozen=True, slots=True)
class _Sample:
    item: _Item
    ts_us: int
    value: Any


class OpcuaSource:
    """One server, one subscription at a time."""

    def __init__(self, context: SourceContext, settings: OpcuaSettings, files: Mapping[str, Path]) -> None:
        self._settings, self._files, self._now_us = settings, files, context.now_us
        self._source = f"opcua:{settings.name}"
        self._items = {
            handle: _Item(equipment, column, node)
            for handle, (equipment, column, node) in enumerate(
                ((e, c, n) for e, columns in settings.nodes.items() for c, n in columns.items()), 1
            )
        }
        self._intake: Intake | None = None
        self._machines: dict[str, list[_Item]] = {}
        for item in self._items.values():
            self._machines.setdefault(item.equipment, []).append(item)
        self._known: dict[_Item, _Known] = {}
        self._beginning: set[_Item] = set()
        """Those whose first value of this subscription has not come."""
        self._session, self._seq = "", 0
        self._heard = 0.0
        self._connected = False
        self._held: str | None = None
        self._trouble: str | None = None
        self._not_there: dict[str, str] = {}
        self._queue = 0
        self._counts = {"connections": 0, "publications": 0, "readings": 0, "bad_values": 0, "overflowed": 0, "lost": 0}

    async def serve(self, intake: Intake, ready: asyncio.Event) -> None:
        """See `gateway.ports.GatewaySource.serve`."""
        self._intake = intake
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._one_life(ready)
            except _Lost as error:
                if self._trouble != str(error):
                    _log.warning("no connection", extra={"told": {"url": self._settings.url, "why": str(error)}})
                self._trouble = str(error)
            if loop.time() - began > 2 * backoff.most_s:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    def health(self) -> Mapping[str, Any]:
        """See `gateway.ports.GatewaySource.health`.

        `holding`: why nothing is taken from the server just now. `queue`: values that the server agreed to keep of each
        node. `overflowed`: values with which it said that it had dropped others before. `lost`: readings
        that waited to be kept when the connection ended. `nodes_not_there`: node → why it cannot be watched.
        """
        return {
            "connected": self._connected,
            "url": self._settings.url,
            "holding": self._held,
            "trouble": self._trouble,
            "queue": self._queue,
            "nodes": len(self._items) - len(self._not_there),
            "nodes_not_there": dict(self._not_there),
            **self._counts,
        }

    async def _one_life(self, ready: asyncio.Event) -> None:
        """Connect, subscribe, and stay until the connection is lost.

        Raises:
            _Lost: it is.
        """
        # A third of a second of a processor, while others are answered.
        await asyncio.to_thread(importlib.import_module, "asyncua")
        from asyncua import Client
        from asyncua.ua.uaerrors import UaError

        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def is_lost(error: Exception) -> None:
            if not lost.done():
                lost.set_result(_said(error))

        client = Client(self._settings.url, timeout=CONNECT_S, watchdog_intervall=_KEEP_ALIVE_S)
        client.connection_lost_callback = is_lost
        try:
            async with asyncio.timeout(3 * CONNECT_S):
                await self._secure(client)
                await client.connect()
                await self._subscribe(client, lost)
            self._counts["connections"] += 1
            self._connected, self._trouble = True, None
            ready.set()
            told = {"url": self._settings.url, "session": self._session, "not_there": self._not_there or None}
            _log.info("subscribed", extra={"told": told})
            await self._until_lost(lost)
        except (OSError, TimeoutError, UaError, ValueError) as error:
            raise _Lost(_said(error)) from error
        finally:
            self._connected = False
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CONNECT_S / 5):
                    await client.disconnect()

    async def _until_lost(self, lost: asyncio.Future[str]) -> None:
        loop = asyncio.get_running_loop()
        silence_s = 3 * max(_KEEP_ALIVE_S, self._settings.publishing_ms / 1000)
        self._heard = loop.time()
        while not lost.done():
            await asyncio.wait([lost], timeout=_KEEP_ALIVE_S)
            if self._held is None and loop.time() - self._heard > silence_s:
                raise _Lost("it was silent for too long; it is connected to anew.")
        raise _Lost(lost.result())

    async def _secure(self, client: Client) -> None:
        s = self._settings
        if s.username is not None:
            client.set_user(s.username)
        if (file := self._files.get("password_file")) is not None:
            client.set_password(file.read_text(encoding="utf-8").partition("\n")[0])
        if s.policy is None:
            return
        from asyncua import ua
        from asyncua.crypto import security_policies

        certificate = self._files["certificate"]
        if (uri := _application_uri(certificate.read_bytes())) is not None:
            client.application_uri = uri
        await client.set_security(
            getattr(security_policies, _CLASSES[s.policy]),
            certificate=str(certificate),
            private_key=str(self._files["key"]),
            server_certificate=str(self._files["server_certificate"]),
            mode=ua.MessageSecurityMode[s.mode],
        )

    async def _subscribe(self, client: Client, lost: asyncio.Future[str]) -> None:
        from asyncua import ua

        s = self._settings
        self._session, self._seq = secrets.token_hex(16), 0
        self._beginning = set(self._items.values())

        async def published(result: Any) -> None:
            self._heard = asyncio.get_running_loop().time()
            try:
                await self._published(result, lost)
            except Exception as error:  # asyncua would acknowledge what we stumbled over
                _log.exception("publication failed")
                if not lost.done():
                    lost.set_result(_said(error))
                await asyncio.get_running_loop().create_future()

        given = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=s.publishing_ms,
            RequestedLifetimeCount=int(_LIFETIME_S * 1000 / s.publishing_ms) + 3,
            RequestedMaxKeepAliveCount=max(1, int(_KEEP_ALIVE_S * 1000 / s.publishing_ms)),
            MaxNotificationsPerPublish=0,
            PublishingEnabled=True,
            Priority=0,
        )
        made = await client.uaclient.create_subscription(given, published)
        requests = [
            ua.MonitoredItemCreateRequest(
                ItemToMonitor=ua.ReadValueId(
                    NodeId=ua.NodeId.from_string(item.node), AttributeId=ua.AttributeIds.Value
                ),
                MonitoringMode=ua.MonitoringMode.Reporting,
                RequestedParameters=ua.MonitoringParameters(
                    ClientHandle=handle, SamplingInterval=s.sampling_ms, QueueSize=s.queue, DiscardOldest=True
                ),
            )
            for handle, item in self._items.items()
        ]
        results = await client.uaclient.create_monitored_items(
            ua.CreateMonitoredItemsParameters(
                SubscriptionId=made.SubscriptionId,
                TimestampsToReturn=ua.TimestampsToReturn.Both,
                ItemsToCreate=requests,
            )
        )
        self._not_there = {
            item.node: result.StatusCode.name
            for item, result in zip(self._items.values(), results, strict=True)
            if result.StatusCode.is_bad()
        }
        self._queue = min((r.RevisedQueueSize for r in results if not r.StatusCode.is_bad()), default=0)
        if len(self._not_there) == len(self._items):
            raise _Lost(f"none of its nodes can be watched: {self._not_there}.")

    async def _published(self, result: Any, lost: asyncio.Future[str]) -> None:
        """Take a publication in; returns when all of it is settled, upon which it is acknowledged."""
        from asyncua import ua

        samples: list[_Sample] = []
        for told in result.NotificationMessage.NotificationData or ():
            if isinstance(told, ua.DataChangeNotification):
                samples += [sample for each in told.MonitoredItems for sample in self._sample(each)]
            elif isinstance(told, ua.StatusChangeNotification) and not lost.done():
                lost.set_result(f"it ended the subscription: {told.Status.name}.")
        if not samples:
            return
        self._counts["publications"] += 1
        await self._settle([self._message(*reading) for reading in self._readings(samples)])

    def _sample(self, told: Any) -> Iterator[_Sample]:
        item, value = self._items.get(told.ClientHandle), told.Value
        if item is None or value is None:
            return
        status = value.StatusCode.value if value.StatusCode is not None else 0
        self._counts["overflowed"] += status & _OVERFLOW == _OVERFLOW
        given = value.Value.Value if value.Value is not None else None
        if status >> 30 >= 2:  # bad; what is uncertain still is a value
            self._counts["bad_values"] += 1
            given = None
        times = (_microseconds(value.SourceTimestamp), _microseconds(value.ServerTimestamp), self._now_us())
        yield _Sample(item, next(ts for ts in times if ts >= _FIRST_US), given)

    def _readings(self, samples: list[_Sample]) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Machine, time and values of each, by time.

        With which a subscription begins is not when a value changed but that it holds: those values are one reading
        of a machine, of the time of the newest, and none if all of it was told in a subscription before.
        """
        count = Counter(sample.item for sample in samples)
        newest: dict[str, int] = {}
        for sample in samples:
            newest[sample.item.equipment] = max(newest.get(sample.item.equipment, 0), sample.ts_us)
        together: dict[tuple[int, str], dict[_Item, _Sample]] = {}
        for sample in samples:
            item, ts_us = sample.item, sample.ts_us
            if item in self._beginning and count[item] == 1:
                ts_us = newest[item.equipment]
                known = self._known.get(item)
                if known is not None and (known.value, known.ts_us) == (sample.value, sample.ts_us):
                    self._known[item] = replace(known, as_of_us=max(ts_us, known.as_of_us))
                    continue
            together.setdefault((ts_us, item.equipment), {})[item] = sample
        self._beginning -= count.keys()
        for (at_us, equipment), changed in sorted(together.items(), key=lambda pair: pair[0]):
            for item, sample in changed.items():
                known = self._known.get(item)
                if known is None or known.ts_us <= sample.ts_us:
                    self._known[item] = _Known(sample.value, sample.ts_us, at_us)
            yield (
                equipment,
                at_us,
                {
                    item.column: changed[item].value if item in changed else self._carried(item, at_us)
                    for item in self._machines[equipment]
                },
            )

    def _carried(self, item: _Item, at_us: int) -> Any:
        known = self._known.get(item)
        if known is None or known.ts_us > at_us or at_us - known.as_of_us > self._settings.carry_s * 1e6:
            return None
        return known.value

    def _message(self, equipment: str, ts_us: int, values: Mapping[str, Any]) -> Message:
        reading = {"ts": ts_us, "seq": self._seq, "session": self._session}
        self._seq += 1
        payload = orjson.dumps({**reading, "values": {name: _plain(value) for name, value in values.items()}})
        return Message(self._source, equipment, payload, self._now_us())

    async def _settle(self, messages: list[Message]) -> None:
        """Offer messages until none is refused. Those that are left when the connection ends are lost, but for what
        their machines' sensors still show when the next one begins.
        """
        assert self._intake is not None
        due = messages
        self._counts["readings"] += len(messages)
        try:
            while due:
                refused = await self._offer(self._intake, due)
                if not refused:
                    break
                due = [message for message, _ in refused]
                reason = refused[0][1].reason or reasons.BUSY
                if self._held is None:
                    _log.warning("holding", extra={"told": {"source": self._source, "reason": reason}})
                    self._intake.refused(self._source, reason, due[0].payload)
                self._held = reason
                await asyncio.sleep(max(told.retry_after_s or _AGAIN_S for _, told in refused))
        except asyncio.CancelledError:
            self._counts["lost"] += len(due)
            for message in due:
                for item in self._machines[message.equipment]:
                    self._known.pop(item, None)
            raise
        finally:
            self._held = None

    async def _offer(self, intake: Intake, due: list[Message]) -> list[tuple[Message, Settled]]:
        """Those that were refused, in order; after the first of them no other is offered."""
        fates: list[Settled | None] = [None] * len(due)
        done, waiting, refused = asyncio.Event(), 0, None

        def settled(at: int, told: Settled) -> None:
            nonlocal waiting, refused
            fates[at], waiting = told, waiting - 1
            if told.fate is Fate.REFUSED:
                refused = told
            if waiting == 0:
                done.set()

        for at, message in enumerate(due):
            if refused is not None:
                break
            waiting += 1
            done.clear()
            intake.offer(message, lambda told, at=at: settled(at, told))  # type: ignore[misc]
        if waiting:
            await done.wait()
        return [
            (message, fate or refused)
            for message, fate in zip(due, fates, strict=True)
            if (fate is None or fate.fate is Fate.REFUSED) and refused is not None
        ]


def _microseconds(moment: datetime | None) -> int:
    """Since 1970, UTC; 0 of none."""
    if moment is None:
        return 0
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def _plain(value: Any) -> Any:
    """As JSON has it. What is neither a number, a truth value nor a text is told as a text, for the judge to refuse."""
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else orjson.Fragment("Infinity")
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _application_uri(certificate: bytes) -> str | None:
    """Whose certificate it is, as OPC UA has it: a client must say the same of itself."""
    from cryptography import x509

    pem = certificate.lstrip().startswith(b"-----BEGIN")
    read = x509.load_pem_x509_certificate(certificate) if pem else x509.load_der_x509_certificate(certificate)
    try:
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), None)


def _said(error: BaseException) -> str:
    text = str(error).partition("\n")[0] or type(error).__name__
    return f"{text.rstrip('.')}. It is tried again."


def _open(context: SourceContext) -> OpcuaSource:
    where = f"source opcua of gateway {context.gateway}"
    settings = settings_from(OpcuaSettings, context.settings, where=where)
    for columns in settings.nodes.values():
        for column, node in columns.items():
            if not _NODE_ID.fullmatch(node):
                raise ConfigurationError(
                    f"{where}: the node of {column} is {node!r}.",
                    next_step='Write it as "ns=2;s=P101.Vib" or "ns=2;i=7".',
                )
    named = ("certificate", "key", "server_certificate", "password_file")
    files = {name: context.base / given for name in named if (given := getattr(settings, name)) is not None}
    for name, file in files.items():
        if not file.is_file():
            raise ConfigurationError(f"{where}: {name} {file} is not there.", next_step="Give the path of a file.")
    return OpcuaSource(context, settings, files)


SPEC = GatewaySourceSpec(
    name="opcua",
    summary="subscriptions to an OPC UA server; acknowledged once the disk has what changed",
    cannot=(
        "get back what changed while it was cut off or down: it subscribes anew and begins with the newest values",
        "make a server keep more than its own queues while the gateway holds; it may drop without a word",
        "keep a password secret without a policy: some servers let it come as plain text",
        "see a change that is shorter than the server's sampling interval",
    ),
    open=_open,
)
