"""Source `http`: readings by POST, answered when the gateway has them on its disk.

    POST /v1/readings/{equipment}   application/json: one reading; application/x-ndjson: one a line
    POST /v1/readings               the same; each reading names its own `equipment`

Readings are what `gateway.decoding` reads. Requests are signed, see `gateway.signed_requests`; who has a key speaks for
the machines that its settings name, and for no others. The answer is JSON:

    200      a list, in the order of the body: `{"fate", "reason", "session", "seq"}`; all is settled, none to be sent
             again. A reading that is none is settled, too: `dead_letter`, with the reason.
    4xx,503  `{"reason", "next_step", "retry_after_s", "readings"}`; `Retry-After` where it may be sent again. Where
             `readings` says that some are kept and others not, send those that are `refused` again, or all of them.

*Once.* A reading's id, (key and equipment, session, seq), is known for one when it is sent again, over restarts, too,
if the next body is sent when the one before is answered: of a session the newest ids are remembered, a body's worth.
With a header `Idempotency-Key` the same body is not even looked at again: what is settled of it is told as it was, and
what was refused is tried. Another body under the same key is refused (409), as long as the key is remembered.

*Who comes.* With `client_ca` a connection is let in with a certificate of that authority only, which is not on the list
`revoked`; a key is then used by whom its certificate names, and by nobody else. See `gateway.mutual_tls`.

*Who comes to be slow, or big.* A connection has `request_s` for each request's head, a request as much for its body;
bodies are bounded, as sent and as inflated, one by one and all together, and so is the number of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import socket
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import unquote

import orjson
from aiohttp.web import BaseRequest, Response, Server
from aiohttp.web_protocol import RequestHandler
from msgspec.structs import replace
from pydantic import Field

from backbone.errors import ConfigurationError
from backbone.settings import settings_from
from gateway import reasons
from gateway.decoding import Refusal, decode
from gateway.mutual_tls import TlsDoor, TlsFiles, sender_of
from gateway.ports import Fate, GatewaySourceSpec, Intake, Message, Settled, SourceContext
from gateway.sequences import IDS
from gateway.signed_requests import Key, Keyring, NotAuthentic
from gateway.trace_context import trace_context
from gateway.used_nonces import UsedNonces

_log = logging.getLogger("hybrid.gateway.http")

PATH = "/v1/readings"
JSON, NDJSON = "application/json", "application/x-ndjson"
_KIB = 1 << 10
_AT_ONCE = 256
"""Readings offered before others on the event loop have their turn."""
MOST_READINGS = IDS
"""Of a body: if it has to be sent again, all of them must still be known."""
_ANSWERS = 100_000
"""Readings whose fates are remembered under an idempotency key."""
_LINGER_S = 0.5
"""For how long a sender that is refused may go on sending, so that it can read the answer."""
_AGAIN_S = 1.0
_SHOWN_BYTES = 4096
"""Of what is no request: as many are told of by their digest."""
_MOST_HEADERS, _LONGEST_HEADER = 64, 4096
"""What a connection may have of a head before it is complete: 256 of them, 64 MiB."""
_BACKLOG = 128
"""Connections that the system holds until they are accepted."""
_ABSENT = Settled(Fate.REFUSED, reasons.BUSY, retry_after_s=_AGAIN_S)
"""Not settled so far."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The source's table in a site file.

    Attributes:
        listen: `host:port`.
        keys: tables of `gateway.signed_requests.Key`.
        certificate, key: PEM files for TLS, relative to the home folder, as those that follow.
        client_ca: of the authority whose certificates senders must have; None: they need none.
        revoked: list of those certificates of it that are revoked.
        max_body_kib: of one body, as it is sent and as it inflates.
        max_bodies_kib: of all that are under way together.
        max_connections_of_one: of one certificate, else of one address, so that nobody alone keeps all others out.
            Who is being let in counts by address. Senders behind a proxy have its address.
        request_s: for a request's head, and again for its body.
        answer_s: for the disk; what is not settled by then is to be sent again.
    """

    listen: str
    keys: tuple[Mapping[str, Any], ...]
    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    revoked: str | None = None
    max_body_kib: Annotated[int, Field(ge=1, le=65_536)] = 1024
    max_bodies_kib: Annotated[int, Field(ge=1)] = 32_768
    max_connections: Annotated[int, Field(ge=1)] = 256
    max_connections_of_one: Annotated[int, Field(ge=1)] = 64
    request_s: Annotated[float, Field(gt=0)] = 10.0
    answer_s: Annotated[float, Field(gt=0)] = 30.0

    def address(self) -> tuple[str, int]:
        """Raises `ConfigurationError` where it is none."""
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ConfigurationError(f"listen is {self.listen!r}.", next_step='Give host and port: "0.0.0.0:8443".')
        return host.strip("[]"), int(port)

    def tls(self, base: Path) -> TlsDoor | None:
        """Raises `ConfigurationError` where this cannot work."""
        if self.certificate is None and self.key is None and self.client_ca is None and self.revoked is None:
            return None
        if self.certificate is None or self.key is None:
            raise ConfigurationError("Of certificate and key one is missing.", next_step="Give both, or none.")
        if self.revoked is not None and self.client_ca is None:
            raise ConfigurationError("revoked is given without client_ca.", next_step="Give both, or client_ca alone.")
        asked = (None if given is None else base / given for given in (self.client_ca, self.revoked))
        return TlsDoor(TlsFiles(base / self.certificate, base / self.key, *asked))


class _Refused(Exception):
    """What a sender is told instead of fates.

    Args:
        read: the body was read to its end, so that the connection may serve for another request.
    """

    def __init__(
        self, status: int, reason: str, next_step: str, *, retry_after_s: float | None = None, read: bool = False
    ) -> None:
        super().__init__(reason)
        self.status, self.reason, self.next_step = status, reason, next_step
        self.retry_after_s, self.read = retry_after_s, read


@dataclass(frozen=True, slots=True)
class _Piece:
    """A reading of a body, or what stands in its place.

    Attributes:
        equipment: None where it names none; then `reason` says why it is a dead letter.
    """

    raw: bytes
    equipment: str | None
    reason: str = ""


@dataclass(slots=True)
class _Remembered:
    """What became of a body that came with an idempotency key.

    Attributes:
        fates: a `REFUSED` one is to be tried again.
        busy: held by the request that is trying.
    """

    digest: bytes
    fates: list[Settled]
    busy: asyncio.Lock


class _Connection(RequestHandler):
    """A connection that has a time for each request's head and each answer to be read.

    Args:
        door: is told of what it refuses.
    """

    def __init__(self, door: HttpSource, manager: Server, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._door = door
        self._timer: asyncio.TimerHandle | None = None
        self._came = b""
        """The beginning of what came since the last head was complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._door.has_too_many(_peer(transport)):
            self._turn_away(503, reasons.BUSY, "Come again later.")
        else:
            self.answered()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.began()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if (more := _SHOWN_BYTES - len(self._came)) > 0:
            self._came += data[:more]
        super().data_received(data)

    def began(self) -> None:
        """A head is complete: it has its own time from now on."""
        self._came = b""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def answered(self) -> None:
        """The next request, and the reading of the answer before it, have as long as the first."""
        self.began()
        if self.transport is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._door.settings.request_s, self._too_late)

    def handle_error(
        self,
        request: BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> Response:
        """What the parser or we ourselves stumbled over."""
        came = self._came
        self.began()
        if status >= 500:
            _log.error("request failed", exc_info=exc)
            return self._door.told(_Refused(503, reasons.BUSY, "Send it again later.", retry_after_s=_AGAIN_S))
        refused = _Refused(400, reasons.MALFORMED_REQUEST, "Send HTTP/1.1.")
        self._door.refuse(_peer(self.transport), refused.reason, came)
        return self._door.told(refused)

    def _too_late(self) -> None:
        if self._came:
            self._turn_away(408, reasons.TOO_SLOW, "Send the head of a request at once.", linger=True)
        elif self.transport is not None:
            self.transport.abort()

    def _turn_away(self, status: int, reason: str, next_step: str, *, linger: bool = False) -> None:
        if self.transport is None:
            return
        self._door.refuse(_peer(self.transport), reason, self._came)
        body = orjson.dumps({"reason": reason, "next_step": next_step})
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
        head += f"Retry-After: {math.ceil(_AGAIN_S)}\r\n" if status == 503 else ""
        self.transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        if linger:
            # Closed on bytes that were not read, the connection would be reset, and the answer lost.
            self.close()
            asyncio.get_running_loop().call_later(_LINGER_S, self.transport.close)
        else:
            self.force_close()


class HttpSource:
    """One server."""

    def __init__(self, context: SourceContext, settings: HttpSettings, keys: Keyring, tls: TlsDoor | None) -> None:
        self.settings = settings
        self._keys, self._tls, self._now_us = keys, tls, context.now_us
        self._nonces = UsedNonces(context.folder / "nonces", lambda: context.now_us() / 1e6)
        self._most = settings.max_body_kib * _KIB
        self._intake: Intake | None = None
        self._server: Server | None = None
        self._address: str | None = None
        self._closing = False
        self._shaking: dict[asyncio.Task[None], str] = {}
        """Connections that are not let in so far, and whose they are."""
        self._under_way = 0
        """Bytes of bodies."""
        self._remembered: OrderedDict[tuple[str, str], _Remembered] = OrderedDict()
        self._answers = 0
        self._counts = {"requests": 0, "refused": 0, "readings": 0}

    async def serve(self, intake: Intake, ready: asyncio.Event) -> None:
        """See `gateway.ports.GatewaySource.serve`.

        On cancellation those who wait for the disk have `answer_s` to be answered; whoever asks anew is refused.
        """
        self._intake, self._closing = intake, False
        self._keys.remember(await asyncio.to_thread(self._nonces.found))
        self._nonces.open()
        self._server = server = Server(self._handle)
        loop = asyncio.get_running_loop()
        connection = partial(
            _Connection,
            self,
            server,
            loop=loop,
            access_log=None,
            auto_decompress=False,
            lingering_time=_LINGER_S,
            max_headers=_MOST_HEADERS,
            max_field_size=_LONGEST_HEADER,
        )
        try:
            with self._listening() as listening:
                host, port = listening.getsockname()[:2]
                self._address = f"{host}:{port}"
                ready.set()
                try:
                    if self._tls is not None:
                        await self._accept(listening, connection, self._tls)
                    with contextlib.closing(await loop.create_server(connection, sock=listening)):
                        await loop.create_future()
                finally:
                    self._closing, self._address = True, None
        finally:
            for task in self._shaking:
                task.cancel()
            server.pre_shutdown()
            await server.shutdown(self.settings.answer_s)
            await self._nonces.close()
            self._server = None

    def _listening(self) -> socket.socket:
        host, port = self.settings.address()
        try:
            listening = socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
            )
        except OSError as error:
            raise ConfigurationError(
                f"Source http cannot listen at {self.settings.listen}: {error.strerror or error}.",
                next_step="Give it an address of this machine, with a port that is free.",
            ) from error
        listening.setblocking(False)
        return listening

    async def _accept(
        self, listening: socket.socket, connection: Callable[[], asyncio.Protocol], tls: TlsDoor
    ) -> NoReturn:
        """Let in whoever comes: unlike a server of the event loop's, this sees who is refused, and why."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                line, (peer, *_) = await loop.sock_accept(listening)
            except OSError as error:  # too many open files
                _log.error("not accepted", extra={"told": {"why": str(error)}})
                await asyncio.sleep(_AGAIN_S)
                continue
            source = f"http:{peer}"
            if self.has_too_many(source, comes=True):
                line.close()
                self.refuse(source, reasons.BUSY, b"")
                continue
            letting_in = tls.let_in(line, connection, partial(self.refuse, source), within_s=self.settings.request_s)
            task = asyncio.create_task(letting_in)
            self._shaking[task] = source
            task.add_done_callback(self._shaking.pop)

    def health(self) -> Mapping[str, Any]:
        """See `gateway.ports.GatewaySource.health`."""
        return {
            "connected": self._address is not None,
            "address": self._address,
            "tls": self._tls is not None,
            "trouble": self._tls.trouble if self._tls is not None else None,
            "connections": len(self._server.connections) if self._server is not None else 0,
            "bytes_under_way": self._under_way,
            **self._counts,
        }

    def has_too_many(self, source: str, *, comes: bool = False) -> bool:
        """Whether there are more connections than there may be, of all or of one sender.

        Args:
            comes: one of that sender that is not let in yet; others that are not count, too.
        """
        connections = [] if self._server is None else self._server.connections
        coming = [*self._shaking.values(), source] if comes else []
        if len(connections) + len(coming) > self.settings.max_connections:
            return True
        own = coming.count(source) + [_peer(each.transport) for each in connections].count(source)
        return own > self.settings.max_connections_of_one

    def refuse(self, source: str, reason: str, raw: bytes) -> None:
        """Count what is refused to a sender."""
        self._counts["refused"] += 1
        if self._intake is not None:
            self._intake.refused(source, reason, raw)

    def told(self, refused: _Refused, fates: Sequence[Settled] = ()) -> Response:
        """The answer to who is refused."""
        body: dict[str, Any] = {"reason": refused.reason, "next_step": refused.next_step}
        headers = {}
        if (wait_s := refused.retry_after_s) is not None:
            body["retry_after_s"] = round(wait_s, 3)
            headers["Retry-After"] = str(math.ceil(wait_s))
        if fates:
            body["readings"] = [_fate(settled) for settled in fates]
        if refused.status == 405:
            headers["Allow"] = "POST"
        response = Response(status=refused.status, body=orjson.dumps(body), content_type=JSON, headers=headers)
        if not refused.read:
            response.force_close()
        return response

    async def _handle(self, request: BaseRequest) -> Response:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.began()
        self._counts["requests"] += 1
        whose, body = _peer(request.transport), bytearray()
        try:
            if self._closing:
                raise _Refused(503, reasons.DRAINING, "Send it again, later or elsewhere.", retry_after_s=_AGAIN_S)
            self._known(request.transport)
            equipment = _equipment(request)
            key = self._keys.claimed(request.headers, self._now_us() / 1e6)
            if self._tls is not None and self._tls.asks and not key.comes_with(sender_of(request.transport)):
                raise _Refused(403, reasons.IDENTITY_MISMATCH, f"Use the certificate that belongs to key {key.id}.")
            content = _content_type(request)
            await self._read(request, body)
            used = self._keys.check(
                key, request.method, request.raw_path, request.headers, bytes(body), self._now_us() / 1e6
            )
            whose, kept = f"http:{key.id}", self._nonces.keep(used)
            pieces = _pieces(self._inflated(request, body), content, equipment)
            response = await self._settle(request, key, pieces, body)
            if response.status == 200:
                await self._confirmed(kept)
            return response
        except NotAuthentic as error:
            status = 401 if error.retry_after_s is None else 429
            refused = _Refused(status, error.reason, error.next_step, retry_after_s=error.retry_after_s)
        except _Refused as error:
            refused = error
        finally:
            self._under_way -= len(body)
            connection.answered()
        self.refuse(whose, refused.reason, bytes(body) or _head(request))
        return self.told(refused)

    def _known(self, transport: asyncio.BaseTransport | None) -> None:
        """Whether who was let in would be so now."""
        why = self._tls.outdated(transport, self._now_us() / 1e6) if self._tls is not None and transport else None
        if why == reasons.BUSY:
            raise _Refused(503, why, "Connect anew: certificates have changed here.", retry_after_s=_AGAIN_S)
        if why == reasons.UNCHECKED_CERTIFICATE:
            raise _Refused(
                503, why, "Send it again: the list of revoked certificates is out of date here.", retry_after_s=_AGAIN_S
            )
        if why is not None:
            raise _Refused(403, why, "Use a certificate that holds.")

    async def _read(self, request: BaseRequest, body: bytearray) -> None:
        """Into `body`, which grows by what counts as under way."""
        if (request.content_length or 0) > self._most:
            raise self._too_large()
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            async with asyncio.timeout(self.settings.request_s):
                while chunk := await request.content.readany():
                    if len(body) + len(chunk) > self._most:
                        raise self._too_large()
                    if self._under_way + len(chunk) > self.settings.max_bodies_kib * _KIB:
                        raise _Refused(503, reasons.BUSY, "Send it again later.", retry_after_s=_AGAIN_S)
                    body += chunk
                    self._under_way += len(chunk)
        except TimeoutError:
            raise _Refused(
                408, reasons.TOO_SLOW, f"Send a body within {self.settings.request_s:g} s, or a smaller one."
            ) from None
        except (ValueError, ConnectionError) as error:  # what aiohttp says of chunks that are none, and who goes away
            raise _Refused(400, reasons.MALFORMED_REQUEST, f"Send a body that is whole: {error}.") from error

    def _too_large(self) -> _Refused:
        return _Refused(
            413, reasons.TOO_LARGE, f"Send at most {self.settings.max_body_kib} KiB at a time, split into several."
        )

    def _inflated(self, request: BaseRequest, body: bytearray) -> bytes:
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding == "identity":
            return bytes(body)
        if encoding != "gzip":
            raise _Refused(415, reasons.UNKNOWN_CONTENT_TYPE, "Send it as it is, or as gzip.", read=True)
        inflating = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            inflated = inflating.decompress(bytes(body), self._most + 1)
        except zlib.error as error:
            raise _Refused(400, reasons.MALFORMED_REQUEST, f"This is no gzip: {error}.", read=True) from error
        if len(inflated) > self._most:
            raise _Refused(
                413,
                reasons.COMPRESSION_BOMB,
                f"Send what inflates to at most {self.settings.max_body_kib} KiB.",
                read=True,
            )
        if not inflating.eof or inflating.unused_data:
            raise _Refused(400, reasons.MALFORMED_REQUEST, "Send one gzip stream, whole.", read=True)
        return inflated

    async def _settle(self, request: BaseRequest, key: Key, pieces: Sequence[_Piece], body: bytearray) -> Response:
        for piece in pieces:
            if piece.equipment is not None and not key.speaks_for(piece.equipment):
                raise _mismatch(key, piece.equipment)
        wanted = request.headers.get("Idempotency-Key")
        if wanted is None:
            fates = [_ABSENT] * len(pieces)
            await self._offer(request, key, pieces, fates)
            return self._answer(key, fates, bytes(body))
        if not 1 <= len(wanted) <= 255:
            raise _Refused(400, reasons.MALFORMED_REQUEST, "Use an Idempotency-Key of 1 to 255 characters.", read=True)
        remembered = self._remember((key.id, wanted), request, body, len(pieces))
        async with remembered.busy:
            await self._offer(request, key, pieces, remembered.fates)
        return self._answer(key, remembered.fates, bytes(body))

    async def _confirmed(self, kept: asyncio.Future[str | None]) -> None:
        """Wait until a request that was answered for could not be sent again by anybody else."""
        try:
            async with asyncio.timeout(self.settings.answer_s):
                why = await kept
        except TimeoutError:
            why = reasons.BUSY
        if why is not None:
            raise _Refused(503, why, "Send it again later, signed anew.", retry_after_s=_AGAIN_S, read=True)

    def _remember(self, name: tuple[str, str], request: BaseRequest, body: bytearray, readings: int) -> _Remembered:
        digest = hashlib.sha256(request.raw_path.encode() + b"\n" + body).digest()
        if (known := self._remembered.get(name)) is not None:
            self._remembered.move_to_end(name)
            if known.digest != digest:
                raise _Refused(
                    409,
                    reasons.CONFLICTING_DUPLICATE,
                    "Use another Idempotency-Key: this one came with another body.",
                    read=True,
                )
            return known
        self._remembered[name] = new = _Remembered(digest, [_ABSENT] * readings, asyncio.Lock())
        self._answers += readings
        while self._answers > _ANSWERS and len(self._remembered) > 1:
            _, oldest = self._remembered.popitem(last=False)
            self._answers -= len(oldest.fates)
        return new

    async def _offer(self, request: BaseRequest, key: Key, pieces: Sequence[_Piece], fates: list[Settled]) -> None:
        """Offer what is not settled, in order, up to the first that is refused; into `fates` what becomes of it.

        What is settled later than `answer_s` stands in `fates` then, for who asks again.
        """
        assert self._intake is not None
        done, waiting, refused = asyncio.Event(), 0, None

        def settled(at: int, told: Settled) -> None:
            nonlocal waiting, refused
            fates[at], waiting = told, waiting - 1
            if told.fate is Fate.REFUSED:
                refused = replace(told, session=None, seq=None)
            if waiting == 0:
                done.set()

        trace = trace_context(request.headers.get("traceparent", ""))
        due = [at for at, told in enumerate(fates) if told.fate is Fate.REFUSED]
        for count, at in enumerate(due, 1):
            fates[at] = refused or _ABSENT
            if refused is not None:
                continue
            piece, waiting = pieces[at], waiting + 1
            done.clear()
            source = f"http:{key.id}:{piece.equipment or ''}"
            if piece.equipment is None:
                self._intake.dead_letter(source, "", piece.raw, piece.reason, partial(settled, at))
            else:
                message = Message(source, piece.equipment, piece.raw, self._now_us(), trace)
                self._intake.offer(message, partial(settled, at))
            self._counts["readings"] += 1
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.answer_s):
                    await done.wait()

    def _answer(self, key: Key, fates: Sequence[Settled], body: bytes) -> Response:
        refused = [settled for settled in fates if settled.fate is Fate.REFUSED]
        if not refused:
            return Response(body=orjson.dumps([_fate(settled) for settled in fates]), content_type=JSON)
        reason = refused[0].reason or reasons.BUSY
        wait_s = max(settled.retry_after_s or _AGAIN_S for settled in refused)
        status = 429 if reason == reasons.RATE_EXCEEDED else 503
        self.refuse(f"http:{key.id}", reason, body)
        next_step = "Send what is refused again after a while; what is not is settled."
        return self.told(_Refused(status, reason, next_step, retry_after_s=wait_s, read=True), fates)


def _peer(transport: asyncio.BaseTransport | None) -> str:
    """Who sends, as long as nothing better is known than a certificate, or where from."""
    if (name := sender_of(transport)) is not None:
        return f"http:{name}"
    peer = transport.get_extra_info("peername") if transport is not None else None
    return f"http:{peer[0]}" if peer else "http:unknown"


def _head(request: BaseRequest) -> bytes:
    """What came of a request whose body was not read."""
    lines = (f"{request.method} {request.raw_path}".encode(), *(b": ".join(pair) for pair in request.raw_headers))
    return b"\r\n".join(lines)


def _equipment(request: BaseRequest) -> str | None:
    """The machine that a path names."""
    path = request.raw_path.partition("?")[0]
    if path != PATH and not path.startswith(f"{PATH}/"):
        raise _Refused(404, reasons.MALFORMED_REQUEST, f"Send readings to {PATH} or {PATH}/{{equipment}}.")
    if request.method != "POST":
        raise _Refused(405, reasons.MALFORMED_REQUEST, "Use POST.")
    try:
        return unquote(path[len(PATH) + 1 :], errors="strict") or None
    except UnicodeDecodeError:
        raise _Refused(400, reasons.MALFORMED_REQUEST, "Write the name of the equipment in UTF-8.") from None


def _content_type(request: BaseRequest) -> str:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, NDJSON):
        raise _Refused(415, reasons.UNKNOWN_CONTENT_TYPE, f"Send {JSON} or {NDJSON}.")
    return kind


def _pieces(body: bytes, content: str, equipment: str | None) -> Sequence[_Piece]:
    """The readings of a body.

    Raises:
        _Refused: there are none, or too many.
    """
    lines = [line for line in (body.split(b"\n") if content == NDJSON else [body]) if line.strip()]
    if not lines:
        raise _Refused(400, reasons.MALFORMED_REQUEST, "Send at least one reading.", read=True)
    if len(lines) > MOST_READINGS:  # before they are read: a body of short lines has hundreds of thousands
        raise _Refused(
            413, reasons.TOO_LARGE, f"Send at most {MOST_READINGS} readings at a time, not {len(lines)}.", read=True
        )
    return [_piece(line, equipment) for line in lines]


def _piece(raw: bytes, equipment: str | None) -> _Piece:
    if equipment is not None and b'"equipment"' not in raw:
        return _Piece(raw, equipment)
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        found = None
    named = found.get("equipment") if isinstance(found, dict) else None
    if isinstance(named, str):
        if equipment is not None and named != equipment:
            raise _Refused(
                403,
                reasons.IDENTITY_MISMATCH,
                f"The path is about {equipment}; send others' readings elsewhere.",
                read=True,
            )
        return _Piece(raw, named)
    if equipment is not None:
        return _Piece(raw, equipment)
    why = decode(raw)
    return _Piece(raw, None, why.reason if isinstance(why, Refusal) else reasons.NOT_A_READING)


def _mismatch(key: Key, equipment: str) -> _Refused:
    return _Refused(
        403, reasons.IDENTITY_MISMATCH, f"Key {key.id} does not speak for {equipment[:64]!r}; use another.", read=True
    )


def _fate(settled: Settled) -> dict[str, Any]:
    told: dict[str, Any] = {"fate": settled.fate}
    if settled.reason is not None:
        told["reason"] = settled.reason
    if settled.seq is not None:
        told |= {"session": settled.session, "seq": settled.seq}
    return told


def _open(context: SourceContext) -> HttpSource:
    where = f"source http of gateway {context.gateway}"
    settings = settings_from(HttpSettings, context.settings, where=where)
    keys = tuple(settings_from(Key, table, where=f"{where}, key {n}") for n, table in enumerate(settings.keys, 1))
    try:
        settings.address()
        return HttpSource(context, settings, Keyring(keys, context.base), settings.tls(context.base))
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.problem}", next_step=error.next_step) from None


SPEC = GatewaySourceSpec(
    name="http",
    summary="signed POST of one reading or many, answered once the disk has them",
    cannot=(
        "keep readings from being overheard without a certificate: a signature hides nothing",
        "tell after a restart that an Idempotency-Key came with another body before; fates then say duplicate",
        "keep what its sender does not send again: nobody keeps it between the two",
        "know a nonce that was used at another door: give each door keys of its own",
    ),
    open=_open,
)
