"""Which readings of a sender are kept, told in few words: ranges of sequence numbers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AcknowledgedRange:
    """All readings of one session of an equipment from `first` up to and with `last` are kept."""

    equipment: str
    session: str
    first: int
    last: int


class AcknowledgedRanges:
    """Gathers what was settled until it is told.

    A session's range goes on growing after it was told, so that the next word makes up for one that was lost. It says
    where it begins: what came before this process, or in a gap, is not known here and must not be taken for kept.

    Args:
        sessions: how many are remembered; one that was forgotten begins anew.
    """

    def __init__(self, sessions: int = 10_000) -> None:
        self._most = sessions
        self._ranges: OrderedDict[tuple[str, str], list[int]] = OrderedDict()
        self._untold: set[tuple[str, str]] = set()
        self._before: list[AcknowledgedRange] = []
        """Untold ranges that their sessions grow no further."""

    def add(self, equipment: str, session: str, seq: int) -> None:
        """Another reading is settled, in any order, any number of times."""
        key = (equipment, session)
        if (known := self._ranges.get(key)) is None:
            self._ranges[key] = [seq, seq]
            if len(self._ranges) > self._most:
                self._let_go(next(iter(self._ranges)))
        else:
            self._ranges.move_to_end(key)
            first, last = known
            if seq == last + 1:
                known[1] = seq
            elif seq == first - 1:
                known[0] = seq
            elif not first <= seq <= last:
                self._let_go(key)
                self._ranges[key] = [seq, seq]
        self._untold.add(key)

    def take(self) -> list[AcknowledgedRange]:
        """What has not been told."""
        told = self._before + [AcknowledgedRange(*key, *self._ranges[key]) for key in self._untold]
        self._before = []
        self._untold.clear()
        return told

    def _let_go(self, key: tuple[str, str]) -> None:
        first, last = self._ranges.pop(key)
        if key in self._untold:
            self._untold.discard(key)
            self._before.append(AcknowledgedRange(*key, first, last))
