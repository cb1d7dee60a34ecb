"""The one way from a location's store to another's.

A conduit is the only permitted path between two zones (IEC 62443-3-2). Here it copies, checks the
digest of what arrived and records the crossing; policy and encryption join it without touching an asset.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StorePath:
    """A file or folder in a location's store; `path` is relative, with forward slashes."""

    location: str
    path: str

    def __str__(self) -> str:
        return f"{self.location}:{self.path}"


@dataclass(frozen=True, slots=True)
class Crossing:
    """What went from where to where, for which run. `digest` is `sha256:` of the bytes that arrived."""

    what: str
    source: StorePath
    destination: StorePath
    files: int
    size_bytes: int
    digest: str
    at: datetime
    run_id: str


class Conduit(Protocol):
    """Carries files between stores."""

    def carry(self, what: str, source: StorePath, destination: StorePath, *, run_id: str) -> Crossing:
        """Copy a file or folder, whole or not at all, replacing what was at the destination.

        Args:
            what: the data product, such as `turbofan/training_set`; it stands in the record.
            run_id: the run this crossing serves.

        Raises:
            IntegrityError: what arrived is not what was sent; nothing is left at the destination.
            StorageFull: the destination has no room; nothing is left there.
        """
        ...
