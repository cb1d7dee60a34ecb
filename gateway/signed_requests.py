"""Requests that prove who sent them: HMAC-SHA256 over what is asked, when, once, and with which body.

A sender adds four headers:

    X-Key-Id      names the key
    X-Timestamp   seconds since 1970, UTC, whole
    X-Nonce       16 to 64 letters, digits, `-` or `_`, never used before with this key
    X-Signature   `signature(...)`, hexadecimal

A timestamp may be `WINDOW_S` off the gateway's clock, and a nonce is remembered for as long as its timestamp would do,
over restarts, too (`gateway.used_nonces`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from backbone.errors import ConfigurationError
from gateway import reasons

WINDOW_S = 300
SHORTEST_SECRET = 16
"""Bytes."""
NONCES = 200_000
"""Remembered at a time, about 20 MB. Beyond them, a request of a key that has its share of them or more waits until the
oldest may be forgotten; no key can use up what is due to the others."""
KEY_ID, TIMESTAMP, NONCE, SIGNATURE = "X-Key-Id", "X-Timestamp", "X-Nonce", "X-Signature"

_TIMESTAMP, _NONCE = re.compile(r"[0-9]{1,12}"), re.compile(r"[A-Za-z0-9_-]{16,64}")
_LINE = re.compile(rb"([0-9]{1,13}) ([A-Za-z0-9_.-]{1,64}) ([A-Za-z0-9_-]{16,64})")


def signature(secret: bytes, method: str, path: str, timestamp: str, nonce: str, body: bytes) -> str:
    """What a sender puts into `X-Signature`.

    Args:
        path: as it stands in the request line, with the query if there is one.
        body: as it is sent, compressed if it is.
    """
    signed = "\n".join((method, path, timestamp, nonce, hashlib.sha256(body).hexdigest()))
    return hmac.new(secret, signed.encode(), hashlib.sha256).hexdigest()


class NotAuthentic(Exception):
    """A request is not, or not any more, what it claims to be.

    Args:
        reason: of `gateway.reasons`.
        next_step: what its sender does now.
        retry_after_s: when the same request would do.
    """

    def __init__(self, reason: str, next_step: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.next_step, self.retry_after_s = reason, next_step, retry_after_s


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the machines that who has it speaks for.

    Attributes:
        secret_file: its first line is the secret, so that it stands in no settings. Read anew when it changes; a key
            whose file is gone is known no more.
        equipment: names or patterns (`*`, `?`).
        certificate: the common name of the certificate with which it comes, at a door that asks for one; None: its id.
    """

    id: str
    secret_file: str
    equipment: tuple[str, ...]
    certificate: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", self.id):
            raise ConfigurationError(
                f"id {self.id!r} fits no header.", next_step="Use up to 64 letters, digits, '.', '-' and '_'."
            )
        if not self.equipment:
            raise ConfigurationError("equipment is empty.", next_step='Name the machines, such as equipment = ["P-*"].')

    def speaks_for(self, equipment: str) -> bool:
        return any(fnmatchcase(equipment, pattern) for pattern in self.equipment)

    def comes_with(self, certificate: str | None) -> bool:
        """Whether it is used by whom a certificate names."""
        return certificate == (self.certificate or self.id)


@dataclass(frozen=True, slots=True)
class Nonce:
    """One that was used.

    Attributes:
        until_s: since 1970, UTC: after it the request's timestamp is refused.
    """

    key: str
    value: str
    until_s: int

    def to_line(self) -> bytes:
        return f"{self.until_s} {self.key} {self.value}\n".encode()

    @classmethod
    def from_line(cls, line: bytes) -> Nonce | None:
        """None: it is none, or torn. Without the line's end."""
        found = _LINE.fullmatch(line)
        return None if found is None else cls(found[2].decode(), found[3].decode(), int(found[1]))


class Keyring:
    """The keys of one door, and the nonces they have used.

    Args:
        base: of relative paths of secret files.

    Raises:
        ConfigurationError: an id stands twice, or a secret cannot be read or is too short.
    """

    def __init__(self, keys: tuple[Key, ...], base: Path) -> None:
        self._keys = {key.id: key for key in keys}
        if len(self._keys) < len(keys):
            raise ConfigurationError("Two keys have the same id.", next_step="Give each an id of its own.")
        if not keys:
            raise ConfigurationError("There is no key.", next_step="Add a [[keys]] table: id, secret_file, equipment.")
        self._files = {key.id: base / key.secret_file for key in keys}
        self._read: dict[str, tuple[tuple[int, int, int], bytes]] = {}
        self._nonces: OrderedDict[tuple[str, str], int] = OrderedDict()
        """(key, nonce) → second after which it may come again; oldest first as far as clocks agree."""
        self._used: Counter[str] = Counter()
        """Nonces of each key."""
        for key in keys:
            self._secret(key.id)

    def claimed(self, headers: Mapping[str, str], now_s: float) -> Key:
        """The key that a request names, before its body is read.

        Raises:
            NotAuthentic: there is none of that name, a header is missing or malformed, or the time is off.
        """
        key = self._keys.get(headers.get(KEY_ID, ""))
        timestamp, nonce = headers.get(TIMESTAMP, ""), headers.get(NONCE, "")
        if (
            key is None
            or not headers.get(SIGNATURE)
            or not _TIMESTAMP.fullmatch(timestamp)
            or not _NONCE.fullmatch(nonce)
        ):
            raise NotAuthentic(
                reasons.BAD_SIGNATURE,
                f"Sign the request with a known key: headers {KEY_ID}, {TIMESTAMP}, {NONCE} and {SIGNATURE}.",
            )
        _in_time(timestamp, now_s)
        return key

    def remember(self, nonces: Iterable[Nonce]) -> None:
        """Of those used before, by the time until they would do."""
        self._nonces.update(((nonce.key, nonce.value), nonce.until_s) for nonce in nonces)
        self._used = Counter(key for key, _ in self._nonces)

    def check(self, key: Key, method: str, path: str, headers: Mapping[str, str], body: bytes, now_s: float) -> Nonce:
        """Whether a whole request is signed with its key, for the first time; the nonce it uses.

        Raises:
            NotAuthentic: it is not.
        """
        _in_time(headers[TIMESTAMP], now_s)  # since the head came, its nonce may have been forgotten
        try:
            secret = self._secret(key.id)
        except ConfigurationError:
            raise NotAuthentic(reasons.BAD_SIGNATURE, "Use another key: this one is withdrawn.") from None
        timestamp, nonce = headers[TIMESTAMP], headers[NONCE]
        due = signature(secret, method, path, timestamp, nonce, body)
        if not hmac.compare_digest(due.encode(), headers[SIGNATURE].lower().encode("utf-8", "replace")):
            raise NotAuthentic(
                reasons.BAD_SIGNATURE,
                "Sign method, path, timestamp, nonce and the SHA-256 of the body as sent, a line each.",
            )
        self._forget(now_s)
        if (key.id, nonce) in self._nonces:
            raise NotAuthentic(reasons.REPLAYED_NONCE, "Sign anew with a nonce that was never used.")
        if len(self._nonces) >= NONCES and self._used[key.id] >= NONCES // len(self._keys):
            wait_s = max(next(iter(self._nonces.values())) - now_s, 1.0)
            raise NotAuthentic(reasons.RATE_EXCEEDED, "Send fewer, larger requests.", retry_after_s=wait_s)
        used = Nonce(key.id, nonce, int(timestamp) + WINDOW_S)
        self._nonces[key.id, nonce] = used.until_s
        self._used[key.id] += 1
        return used

    def _forget(self, now_s: float) -> None:
        """Nonces whose timestamps would not do any more. One that lies behind a younger one waits for it."""
        while self._nonces and next(iter(self._nonces.values())) < now_s:
            (key, _), _ = self._nonces.popitem(last=False)
            self._used[key] -= 1

    def _secret(self, key: str) -> bytes:
        path = self._files[key]
        try:
            status = path.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if (known := self._read.get(key)) is not None and known[0] == version:
                return known[1]
            secret = path.read_bytes().partition(b"\n")[0].strip()
        except OSError as error:
            raise ConfigurationError(
                f"secret_file of key {key}: {path} cannot be read: {error.strerror}.",
                next_step="Write the secret into it, readable by the gateway's user only.",
            ) from error
        if len(secret) < SHORTEST_SECRET:
            raise ConfigurationError(
                f"secret_file of key {key}: the secret has {len(secret)} bytes.",
                next_step=f"Use at least {SHORTEST_SECRET}, such as those of: openssl rand -hex 32",
            )
        self._read[key] = (version, secret)
        return secret


def _in_time(timestamp: str, now_s: float) -> None:
    if abs(now_s - int(timestamp)) > WINDOW_S:
        raise NotAuthentic(
            reasons.OLD_TIMESTAMP,
            f"Set the sender's clock and sign anew: here it is {int(now_s)}, at most {WINDOW_S} s may lie between.",
        )
