"""Which dead letters were kept, so that none is kept twice: a sender that was not acknowledged sends again.

They are known by digests of who sent them and of all that was sent: whoever sends chooses names, and how long they are.
What is known is written with each snapshot of ids, and the spool has what came after it.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from zlib import crc32

from backbone.errors import IntegrityError
from gateway.decoding import DIGEST_BYTES, digest_of
from gateway.disk import Disk, RealDisk, replace_file

LETTERS_REMEMBERED = 50_000

_MAGIC = b"hylttr\x00\x01"
_KEY = 2 * DIGEST_BYTES


class KnownLetters:
    """Dead letters that the disk has, or had; beyond `most`, the one that was not sent for longest is forgotten."""

    def __init__(self, most: int = LETTERS_REMEMBERED) -> None:
        self._most = most
        self._keys: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def keep(self, source: str, digest: bytes) -> None:
        """Know a letter from now on.

        Args:
            digest: `gateway.decoding.digest_of` all that was sent.
        """
        self._keep(_key(source, digest))

    def has(self, source: str, digest: bytes) -> bool:
        """Whether it is known."""
        if (key := _key(source, digest)) not in self._keys:
            return False
        self._keys.move_to_end(key)
        return True

    def to_bytes(self) -> bytes:
        """All that is known."""
        held = _MAGIC + b"".join(self._keys)
        return held + crc32(held).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes, most: int = LETTERS_REMEMBERED) -> KnownLetters:
        """The inverse of `to_bytes`.

        Raises:
            IntegrityError: these bytes are damaged, or of another version.
        """
        held, known = data[:-4], cls(most)
        if not held.startswith(_MAGIC) or crc32(held) != int.from_bytes(data[-4:], "little"):
            raise IntegrityError("What is known of dead letters is damaged.", next_step="One may be kept twice.")
        for at in range(len(_MAGIC), len(held), _KEY):
            known._keep(held[at : at + _KEY])
        return known

    def _keep(self, key: bytes) -> None:
        self._keys[key] = None
        self._keys.move_to_end(key)
        while len(self._keys) > self._most:
            self._keys.popitem(last=False)


def write_letters(path: Path, data: bytes, disk: Disk | None = None) -> None:
    """Keep what `KnownLetters.to_bytes` gave, for good.

    Raises:
        OSError: the disk failed.
    """
    replace_file(disk or RealDisk(), path, data)


def read_letters(path: Path, disk: Disk | None = None) -> KnownLetters:
    """What was written last; nothing is known where nothing was.

    Raises:
        IntegrityError: the file is damaged.
    """
    disk = disk or RealDisk()
    try:
        return KnownLetters.from_bytes(disk.read(path, 0, disk.size(path)))
    except FileNotFoundError:
        return KnownLetters()


def _key(source: str, digest: bytes) -> bytes:
    return digest_of(source.encode("utf-8", "replace")) + digest
