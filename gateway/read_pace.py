"""For how long a connection is left unread, so that what comes is read, kept and answered many at once.

A turn of the event loop, a write with its `fsync` and a question to a model cost a reading alone what they cost dozens
together. Where thousands come each second, most of a processor went there, as it does in network cards that interrupt
for every packet (Mogul & Ramakrishnan, ACM TOCS 1997). What comes seldom is read at once.
"""

from __future__ import annotations

from math import inf

PAUSE_S = 0.008
"""From one read to the next, where much comes: what a reading then waits in vain is half of it, on average."""
MUCH = 3_000
"""Messages a second, two dozen for each such read."""
SPAN_S = 0.04
"""For how long they are counted: what is even for people comes in bursts. A silence as long is the end of one."""
_ALIKE, _LESS = 3, 0.95
_AGAIN_S, _LONGEST_S = 1.0, 16.0


class ReadPace:
    """The pace of one connection.

    A broker that has but few messages under way, and more that wait, sends less for being read late: it waits for
    acknowledgements. That there are as many under way at one read as at the next, `_ALIKE` times, may be that. So for
    one span it is read at once: if more comes, it goes on to be for `_AGAIN_S`; else it is read late, and asked in
    this way ever less often.
    """

    def __init__(self) -> None:
        self._count = 0
        self._since = self._read_at = -inf
        self._late = False
        self._late_rate: float | None = None
        """A second, while the broker is being asked."""
        self._ask_at = self._at_once_until = -inf
        self._ask_after_s = _AGAIN_S
        self._under_way = self._alike = 0

    def pause_s(self, count: int, under_way: int, now: float) -> float:
        """Seconds from this read to the next; 0: as soon as anything comes.

        Args:
            count: messages that this one brought.
            under_way: messages that the broker waits for an acknowledgement of, after this read.
            now: when it began, seconds of any clock that is not set.
        """
        if now - self._read_at >= SPAN_S:
            self._late, self._late_rate, self._count, self._since = False, None, 0, now
        self._alike = self._alike + 1 if under_way == self._under_way else 0
        self._under_way, self._read_at = under_way, now
        elapsed = now - self._since
        self._count += count
        if elapsed >= SPAN_S:
            self._judge(self._count / elapsed, now)
            self._count, self._since = 0, now
        return PAUSE_S if self._late else 0.0

    def _judge(self, rate: float, now: float) -> None:
        if (late_rate := self._late_rate) is not None:
            self._late_rate = None
            if rate * _LESS > late_rate:
                self._at_once_until, self._ask_after_s = now + _AGAIN_S, _AGAIN_S
            else:
                self._ask_after_s = min(2 * self._ask_after_s, _LONGEST_S)
                self._ask_at = now + self._ask_after_s
                self._late = rate >= MUCH
        elif self._late and self._alike >= _ALIKE and self._under_way and now >= self._ask_at:
            self._late, self._late_rate = False, rate
        else:
            self._late = rate >= MUCH and now >= self._at_once_until
