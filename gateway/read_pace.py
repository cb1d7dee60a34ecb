"""For how long a connection is left unread, so that what comes is read, kept and answered many at once.

A turn of the event loop, a write with its `fsync` and a question to a model cost a reading alone what they cost dozens
together. Where thousands come each second, most of a processor went there, as it does in network cards that interrupt
for every packet (Mogul & Ramakrishnan, ACM TOCS 1997). What comes seldom is read at once.
"""

from __future__ import annotations

from math import inf

PAUSE_S = 0.005
"""From one read to the next, where much comes: what a reading then waits in vain is half of it, on average."""
MUCH = 3_000
"""Messages a second, fifteen for each such read."""
SPAN_S = 0.025
"""For how long they are counted: what is even for people comes in bursts. A silence as long is the end of one."""
_ALIKE, _LESS, _AGAIN_S = 3, 0.95, 1.0


class ReadPace:
    """The pace of one connection.

    A broker that has but few messages under way, and more that wait, sends less for being read late: it waits for
    acknowledgements. It shows by that, and by having as many under way at one read as at the next, `_ALIKE` times; it
    is then read at once for `_AGAIN_S`.
    """

    def __init__(self) -> None:
        self._count = 0
        self._since = self._read_at = -inf
        self._late = False
        self._rate = 0.0
        """A second, when it was last read at once."""
        self._at_once_until = -inf
        self._under_way = self._alike = 0

    def pause_s(self, count: int, under_way: int, now: float) -> float:
        """Seconds from this read to the next; 0: as soon as anything comes.

        Args:
            count: messages that this one brought.
            under_way: messages that are not acknowledged after it, these among them.
            now: when it began, seconds of any clock that is not set.
        """
        if now - self._read_at >= SPAN_S:
            self._late, self._count, self._since = False, 0, now
        self._alike = self._alike + 1 if under_way == self._under_way else 0
        self._under_way, self._read_at = under_way, now
        elapsed = now - self._since
        self._count += count
        if elapsed >= SPAN_S:
            self._judge(self._count / elapsed, now)
            self._count, self._since = 0, now
        return PAUSE_S if self._late else 0.0

    def _judge(self, rate: float, now: float) -> None:
        if self._late and self._alike >= _ALIKE and rate < _LESS * self._rate:
            self._late, self._at_once_until = False, now + _AGAIN_S
        elif rate < MUCH:
            self._late = False
        elif not self._late and now >= self._at_once_until:
            self._late, self._rate = True, rate
