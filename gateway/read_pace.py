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
SPAN_S = 0.02
"""For how long they are counted: what is even for people comes in bursts."""
_LESS, _AGAIN_S = 0.7, 1.0


class ReadPace:
    """The pace of one connection.

    A sender that waits for acknowledgements after few messages sends less for being read late. It shows, by `_LESS`,
    and is read at once for `_AGAIN_S`; so is one that sends less of itself.
    """

    def __init__(self) -> None:
        self._count = 0
        self._since = -inf
        self._late = False
        self._rate = 0.0
        """A second, when it was last read at once."""
        self._at_once_until = -inf

    def pause_s(self, count: int, now: float) -> float:
        """Seconds from this read to the next; 0: as soon as anything comes.

        Args:
            count: messages that this one brought.
            now: when it began, seconds of any clock that is not set.
        """
        self._count += count
        elapsed = now - self._since
        if elapsed >= SPAN_S:
            self._judge(self._count / elapsed, now)
            self._count, self._since = 0, now
        return PAUSE_S if self._late else 0.0

    def _judge(self, rate: float, now: float) -> None:
        if self._late and rate < _LESS * self._rate:
            self._late, self._at_once_until = False, now + _AGAIN_S
        elif rate < MUCH:
            self._late = False
        elif not self._late and now >= self._at_once_until:
            self._late, self._rate = True, rate
