"""TLS at a door: whose certificate somebody shows, and why it is not enough to be let in.

The certificates, the authority's and the list of revoked ones are files, read anew when one of them changes; what
cannot be read leaves in force what was read before. OpenSSL judges what is shown, and who is not let in learns it by
the alert of TLS that fits, such as `certificate_revoked`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbone.errors import ConfigurationError
from gateway import reasons

if TYPE_CHECKING:
    from cryptography.x509 import Name

_log = logging.getLogger("hybrid.gateway.tls")

_LINGER_S = 0.5
"""For how long who is not let in may go on sending, so that the alert can be read."""
_READ = 1 << 16
_SHOWN_BYTES = 4096
"""Of a handshake without a certificate: as many are told of by their digest."""
_REASONS = {
    9: reasons.EXPIRED_CERTIFICATE,  # X509_V_ERR_CERT_NOT_YET_VALID
    10: reasons.EXPIRED_CERTIFICATE,  # X509_V_ERR_CERT_HAS_EXPIRED
    23: reasons.REVOKED_CERTIFICATE,  # X509_V_ERR_CERT_REVOKED
    3: reasons.UNCHECKED_CERTIFICATE,  # X509_V_ERR_UNABLE_TO_GET_CRL
    11: reasons.UNCHECKED_CERTIFICATE,  # X509_V_ERR_CRL_NOT_YET_VALID
    12: reasons.UNCHECKED_CERTIFICATE,  # X509_V_ERR_CRL_HAS_EXPIRED
}
"""By OpenSSL's code (openssl-verification-options(1)); with any other, nobody we know vouches for the certificate."""
_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_Versions = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files.

    Attributes:
        certificate, key: the door's.
        client_ca: who vouches for senders; None: nobody is asked for a certificate.
        revoked: certificates that are vouched for no more; the list must say of every authority of a sender, and must
            not be out of date: nobody is let in then.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    revoked: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.certificate, self.key, self.client_ca, self.revoked) if path is not None)


@dataclass(slots=True)
class _Handshake:
    """What is seen of one.

    Attributes:
        heard: the beginning of what came.
        shown: the certificate, DER.
        alert: what there is to say to who fails.
    """

    heard: bytes = b""
    shown: bytes = b""
    alert: bytes = b""


_HANDSHAKE: ContextVar[_Handshake] = ContextVar("handshake")
"""Of the connection that the event loop is busy with."""


class TlsDoor:
    """Lets connections in.

    Attributes:
        trouble: why the files as they are now are not in force; None: they are.

    Raises:
        ConfigurationError: the files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self.trouble: str | None = None
        try:
            self._versions, self._context = _versions(files), _context(files)
        except OSError as error:
            raise ConfigurationError(
                f"certificate, key, client_ca and revoked cannot be used: {_said(error)}.",
                next_step="Give PEM files; certificate and key belong together.",
            ) from error

    @property
    def asks(self) -> bool:
        """Whether who comes must show a certificate."""
        return self._files.client_ca is not None

    async def let_in(
        self,
        line: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        refused: Callable[[str, bytes], None],
        *,
        within_s: float,
    ) -> None:
        """Shake hands on a connection, and hand it to a protocol; the connection is closed where that fails.

        Args:
            refused: told why who comes is not let in, and of the certificate that was shown, DER, or without one of
                what came.
        """
        loop, handshake = asyncio.get_running_loop(), _Handshake()
        _HANDSHAKE.set(handshake)
        with line.dup() as held:  # the event loop closes the line without the alert that OpenSSL has for it
            held.setblocking(False)
            try:
                await loop.connect_accepted_socket(protocol, line, ssl=self._current(), ssl_handshake_timeout=within_s)
            except OSError as error:
                line.close()
                if (reason := _reason(error, handshake)) is None:
                    return
                refused(reason, handshake.shown or handshake.heard)
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_LINGER_S):
                        await loop.sock_sendall(held, handshake.alert)
                        held.shutdown(socket.SHUT_WR)
                        while await loop.sock_recv(held, _READ):
                            pass

    def outdated(self, transport: asyncio.BaseTransport, now_s: float) -> str | None:
        """Why a connection that is open is one no more: its certificate has expired, the files have changed since, or
        the list of revoked certificates is out of date, which OpenSSL does not look at when a session is resumed.

        Args:
            now_s: since 1970, UTC.
        """
        if not self.asks:
            return None
        if ssl.cert_time_to_seconds(transport.get_extra_info("peercert")["notAfter"]) < now_s:
            return reasons.EXPIRED_CERTIFICATE
        line, current = transport.get_extra_info("ssl_object"), self._current()
        if line.context is not current:
            return reasons.BUSY
        return reasons.UNCHECKED_CERTIFICATE if current.is_unchecked(line, now_s) else None

    def _current(self) -> _Context:
        try:
            if (versions := _versions(self._files)) != self._versions:
                self._context, self._versions = _context(self._files), versions
                _log.info("certificates read anew", extra={"told": {"files": [str(path) for path in self._files.all]}})
        except OSError as error:
            if self.trouble != (why := _said(error)):
                _log.error("certificates not read anew", extra={"told": {"why": why}})
            self.trouble = why
        else:
            self.trouble = None
        return self._context


def sender_of(transport: asyncio.BaseTransport | None) -> str | None:
    """The common name of the certificate with which somebody was let in; None without one."""
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    names = [value for rdn in (certificate or {}).get("subject", ()) for key, value in rdn if key == "commonName"]
    return names[0] if len(names) == 1 else None


class _Object(ssl.SSLObject):
    """One connection's TLS."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            _HANDSHAKE.get().alert = self.outgoing.read()
            raise


class _Context(ssl.SSLContext):
    """One version of the files.

    Attributes:
        listed_until_s: by authority, until when the newest of its lists of revoked certificates holds, since 1970, UTC.
    """

    sslobject_class = _Object
    listed_until_s: Mapping[Name, float] = {}

    def is_unchecked(self, line: ssl.SSLObject, now_s: float) -> bool:
        """Whether the list is out of date that says of the certificate which was shown."""
        oldest_s = min(self.listed_until_s.values(), default=now_s)
        if oldest_s >= now_s:
            return False
        from cryptography import x509

        shown = line.getpeercert(binary_form=True)
        assert shown is not None
        return self.listed_until_s.get(x509.load_der_x509_certificate(shown).issuer, oldest_s) < now_s

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *more: Any, **settings: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *more, **settings)
        assert isinstance(made, _Object)
        made.outgoing = outgoing
        return made


def _context(files: TlsFiles) -> _Context:
    """Raises `OSError`, which `ssl.SSLError` is, too."""
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.client_ca)
    if files.revoked is not None:
        context.load_verify_locations(files.revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.listed_until_s = _listed_until_s(files.revoked)
    # Not public; without it a refusal says less: Python has no other way to see a certificate that does not hold.
    context._msg_callback = _seen  # type: ignore[attr-defined]
    return context


def _listed_until_s(revoked: Path) -> dict[Name, float]:
    """See `_Context.listed_until_s`. Raises `OSError`."""
    from cryptography import x509

    until_s: dict[Name, float] = {}
    try:
        for pem in _LIST.findall(revoked.read_bytes()):
            read = x509.load_pem_x509_crl(pem)
            until = float("inf") if read.next_update_utc is None else read.next_update_utc.timestamp()
            until_s[read.issuer] = max(until, until_s.get(read.issuer, until))
    except ValueError as error:
        raise OSError(f"{revoked}: {error}") from error
    return until_s


def _seen(_: object, direction: str, __: object, ___: object, kind: object, message: bytes) -> None:
    """A message of a handshake, or the head of a record."""
    handshake = _HANDSHAKE.get(None)
    if direction == "read" and handshake is not None:
        if (more := _SHOWN_BYTES - len(handshake.heard)) > 0:
            handshake.heard += message[:more]
        if getattr(kind, "name", None) == "CERTIFICATE":
            handshake.shown = _first_certificate(message)


def _first_certificate(message: bytes) -> bytes:
    """Of a message Certificate: RFC 5246, 7.4.2 and RFC 8446, 4.4.2."""
    listed = message[4:]
    if int.from_bytes(listed[:3]) != len(listed) - 3:  # TLS 1.3 has a context before the list
        listed = listed[1 + listed[0] :] if listed else b""
    return listed[6 : 6 + int.from_bytes(listed[3:6])]


def _reason(error: OSError, handshake: _Handshake) -> str | None:
    """Why somebody is refused; None: nobody was, who came went away, or never said a word."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _REASONS.get(error.verify_code, reasons.UNKNOWN_CERTIFICATE)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        absent = error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        return reasons.NO_CERTIFICATE if absent else reasons.MALFORMED_REQUEST
    if isinstance(error, ConnectionAbortedError) and handshake.heard:  # the time is up
        return reasons.TOO_SLOW
    return None


def _versions(files: TlsFiles) -> _Versions:
    return tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in (path.stat() for path in files.all))


def _said(error: OSError) -> str:
    named = f"{error.filename}: " if error.filename else ""
    return f"{named}{error.strerror or error}"
