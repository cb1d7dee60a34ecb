"""What the spool sets aside: bytes that are no records any more, kept beside it for people to look at.

- `<file>.<at>.torn`: what stood after the last record when the spool was opened, as an append leaves it that a power
  cut interrupted. Nothing of it was ever acknowledged, as far as the gateway knows. It is removed when it is old, or
  when there is much of it, the oldest first.
- `damaged/<file>.<at>`: bytes between records, or after the last one where others were given out after it. Records may
  have been among them that were acknowledged and have not landed: no machine removes these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KEPT_S = 30 * 86_400.0
MOST_BYTES = 16 << 20
DAMAGED = "damaged"
_TORN = "*.torn"


@dataclass(frozen=True, slots=True)
class SetAside:
    """How many files there are, and how large they are together."""

    torn: int = 0
    torn_bytes: int = 0
    damaged: int = 0
    damaged_bytes: int = 0

    def plus(self, other: SetAside) -> SetAside:
        """Of both together."""
        return SetAside(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def to_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        parts = [
            f"{number} {what} of {size} bytes in all"
            for number, what, size in (
                (self.torn, "torn ends", self.torn_bytes),
                (self.damaged, "damaged parts", self.damaged_bytes),
            )
            if number
        ]
        return ", ".join(parts)


def set_aside(spool: Path) -> SetAside:
    """What lies beside the records of a spool."""
    torn, damaged = _files(spool, _TORN), _files(spool / DAMAGED, "*")
    return SetAside(len(torn), sum(size for _, size, _ in torn), len(damaged), sum(size for _, size, _ in damaged))


def remove_old(spool: Path, now_s: float) -> list[str]:
    """Remove torn ends that are older than `KEPT_S`, and the oldest of those that are more than `MOST_BYTES` together;
    their names.

    Args:
        now_s: seconds since 1970.
    """
    removed, size_in_all = [], 0
    for written_s, size, path in reversed(_files(spool, _TORN)):
        size_in_all += size
        if now_s - written_s > KEPT_S or size_in_all > MOST_BYTES:
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _files(folder: Path, pattern: str) -> list[tuple[float, int, Path]]:
    """When it was written, how large it is, and where, the oldest first."""
    found = []
    for path in folder.glob(pattern):
        try:
            told = path.stat()
        except FileNotFoundError:
            continue
        if not path.name.startswith("."):
            found.append((told.st_mtime, told.st_size, path))
    return sorted(found)
