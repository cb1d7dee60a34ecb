"""How long to wait before another try."""

from __future__ import annotations

import random


class Backoff:
    """How long to wait before the next try: doubling, bounded, and jittered so that not all come back at once."""

    def __init__(self, first_s: float = 0.2, most_s: float = 10.0) -> None:
        self.most_s = most_s
        self._first_s, self._next_s = first_s, first_s

    def next_s(self) -> float:
        """Seconds, half of them by chance."""
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self.most_s)
        return wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def reset(self) -> None:
        self._next_s = self._first_s
