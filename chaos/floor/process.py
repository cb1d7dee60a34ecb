"""The gateway and its porter as a rehearsal starts them: the real ones, on a disk and by a clock that may fail.

    python -m chaos.floor.process gateway|porter --site S --orders FOLDER

What a plant runs knows nothing of this: the composition is the rehearsal's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from chaos.floor.strikes import Struck, strike_at_the_disk

CLOCK = "clock.json"
UPKEEP_S, SNAPSHOT_S = 0.1, 0.5
"""How often a gateway writes down where it stands: a rehearsal is short, and these are durable steps as well."""


class ToldClock:
    """A clock that a file sets: off by so much, and so much quicker from a moment on. See `backbone.clock.Clock`.

    `{"offset_s": 3600, "speed": 1, "since_s": 0}`; `since_s`: in seconds since 1970, from when on it is quicker.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / CLOCK
        self._seen: int | None = None
        self._offset_s, self._speed, self._since_s = 0.0, 1.0, 0.0

    def now_us(self) -> int:
        """Microseconds since 1970."""
        try:
            written = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return time.time_ns() // 1000
        if written != self._seen:
            told = json.loads(self._file.read_text())
            self._offset_s, self._speed, self._since_s = told["offset_s"], told["speed"], told["since_s"]
            self._seen = written
        now = time.time()
        return round(1e6 * (now + self._offset_s + (self._speed - 1.0) * max(0.0, now - self._since_s)))

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_us() / 1e6, UTC)

    @staticmethod
    def monotonic() -> float:
        return time.monotonic()

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds)


def tell_clock(folder: Path, *, offset_s: float = 0.0, speed: float = 1.0, since_s: float = 0.0) -> None:
    """Set the clock of a rehearsal's processes."""
    written = folder / f".{CLOCK}"
    written.write_text(json.dumps({"offset_s": offset_s, "speed": speed, "since_s": since_s}))
    written.rename(folder / CLOCK)


def run_gateway(site: str, orders: Path, *, porter: bool) -> None:
    """See `gateway.main.run_gateway`."""
    from gateway import main, process, retention

    def porter_command(site: str, home: str) -> tuple[str, ...]:  # noqa: ARG001 - it has it from its environment
        return (sys.executable, "-m", "chaos.floor.process", "porter", "--orders", str(orders), "--site", site)

    process.porter_command = porter_command
    process.now_us = ToldClock(orders).now_us
    process.LOOK_S = UPKEEP_S
    retention.SNAPSHOT_S = retention.HELD_S = SNAPSHOT_S
    strike_at_the_disk(Struck(orders, "gateway"))
    main.run_gateway(site, porter=porter)


def run_porter(site: str, orders: Path) -> None:
    """See `gateway.porter.service`."""
    from gateway.porter import service

    struck = Struck(orders, "porter")
    service.open_porter = partial(service.open_porter, reached=struck.reached)
    service.Plant = partial(service.Plant, clock=ToldClock(orders))  # type: ignore[misc, assignment]
    strike_at_the_disk(struck)
    sys.argv = ["gateway.porter", "--site", site]
    service.main()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chaos.floor.process", description=__doc__)
    parser.add_argument("role", choices=("gateway", "porter"))
    parser.add_argument("--site", required=True)
    parser.add_argument("--orders", type=Path, required=True, help="Folder of what is to befall it.")
    parser.add_argument("--no-porter", action="store_true")
    given = parser.parse_args()
    if given.role == "porter":
        run_porter(given.site, given.orders)
        return
    from backbone.errors import HybridError

    try:
        run_gateway(given.site, given.orders, porter=not given.no_porter)
    except HybridError as error:
        print(f"{error.problem} {error.next_step}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
