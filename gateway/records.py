"""A record of the spool: a message as it was sent, or a dead letter with its reason, and how it is written."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from backbone.errors import IntegrityError
from gateway.decoding import DIGEST_BYTES

_HEAD = struct.Struct("<BqHHHH")
_FORMAT, _CUT = 1, 2
"""Of what is kept as it came, and of a beginning, with the digest of all of it."""
_LONGEST_TEXT = (1 << 16) - 1


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of one message.

    Attributes:
        reason: None of a reading; why it is a dead letter.
        raw: the payload as it came, or with a `digest` its beginning.
        digest: `gateway.decoding.digest_of` all of it.
    """

    source: str
    equipment: str
    raw: bytes
    received_us: int
    reason: str | None = None
    traceparent: str | None = None
    digest: bytes | None = None

    def to_bytes(self) -> bytes:
        return record_bytes(
            self.source, self.equipment, self.raw, self.received_us, self.reason, self.traceparent, self.digest
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """The inverse of `to_bytes`.

        Raises:
            IntegrityError: these are no bytes of a record.
        """
        try:
            form, received_us, *lengths = _HEAD.unpack_from(data)
            at, texts, digest = _HEAD.size, [], None
            if form == _CUT:
                at, digest = at + DIGEST_BYTES, data[at : at + DIGEST_BYTES]
            for length in lengths:
                texts.append(data[at : at + length].decode())
                at += length
        except (struct.error, UnicodeDecodeError) as error:
            raise IntegrityError(
                f"This is no record of a spool: {error}.", next_step="Keep the file; report it."
            ) from error
        if form not in (_FORMAT, _CUT) or at > len(data):
            raise IntegrityError(
                f"This record is of format {form}, or cut short.", next_step="Read it with the version that wrote it."
            )
        source, equipment, reason, trace = texts
        return cls(source, equipment, data[at:], received_us, reason or None, trace or None, digest)


def record_bytes(
    source: str,
    equipment: str,
    raw: bytes,
    received_us: int,
    reason: str | None,
    traceparent: str | None,
    digest: bytes | None = None,
) -> bytes:
    """`Record.to_bytes`, of a record that is made for nothing else."""
    who, where = source.encode("utf-8", "replace"), equipment.encode("utf-8", "replace")
    if len(who) > _LONGEST_TEXT or len(where) > _LONGEST_TEXT:
        who, where = _shortened(who), _shortened(where)
    why = _shortened(reason.encode("utf-8", "replace")) if reason else b""
    trace = _shortened(traceparent.encode("utf-8", "replace")) if traceparent else b""
    lengths = len(who), len(where), len(why), len(trace)
    if digest is None:
        return b"".join((_HEAD.pack(_FORMAT, received_us, *lengths), who, where, why, trace, raw))
    return b"".join((_HEAD.pack(_CUT, received_us, *lengths), digest, who, where, why, trace, raw))


def _shortened(text: bytes) -> bytes:
    """UTF-8, as far as a length of two bytes reaches; whatever a sender calls itself, its record can be written."""
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT].decode(errors="ignore").encode()
