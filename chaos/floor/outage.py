"""A day without the store that readings land in, in a minute; then what has gathered lands, while machines go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chaos.floor.machines import Machines, Witness
from chaos.floor.process import ToldClock, tell_clock
from chaos.floor.whereabouts import rows_of, spooled_at, whereabouts
from chaos.floor.works import SITE, Works
from gateway import reasons
from gateway.porter.landing_note import LandingNote
from gateway.reconciliation import reconcile_site
from resources.landing import IS_HISTORICAL, READING_ID

_MOST_S = 600.0
_LOOK_S = 0.2
_WAITING_S = 5.0
"""Machines take a break where readings of so many seconds are not acknowledged."""
_AFTERWARDS = 20
_HISTORICAL = 0.9
"""Of what has gathered, at least; the last of it, and dead letters, bear no mark."""


@dataclass(frozen=True, slots=True)
class OutageOutcome:
    """What an outage showed.

    Attributes:
        hours: of the plant's time that the store was gone; it took `seconds`.
        gathered: readings that waited in the spool when it was back, in `spool_mib`.
        drained_s, drained_per_s: how long they took to land, and how many that is a second; `drain_per_s` was allowed.
        answered: advisories given while the store was gone, of so many readings that were `due` one.
        answered_p99_s: from a reading's acknowledgement to its advisory, over the whole rehearsal; its bucket's bound.
        live_most_s: from a machine's sending to its being acknowledged, while what had gathered landed; the longest.
        historical, live: readings stored with and without the mark `is_historical`.
        acknowledged, stored, dead_lettered, spooled, missing, twice: as of a rehearsal of the floor.
        violations: what did not hold; empty where all is well.
    """

    hours: float
    seconds: float
    gathered: int
    spool_mib: float
    drained_s: float
    drained_per_s: float
    drain_per_s: float
    due: int
    answered: int
    answered_p99_s: float | None
    live_most_s: float
    historical: int
    live: int
    acknowledged: int
    stored: int
    dead_lettered: int
    spooled: int
    missing: int
    twice: int
    violations: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def rehearse_outage(
    folder: Path,
    *,
    hours: float = 24.0,
    machines: int = 16,
    every_s: float = 30.0,
    per_s: float = 800.0,
    drain_per_s: float = 5000.0,
    max_mib: float = 64.0,
    seed: int = 1,
    progress: Callable[[float], None] = lambda _: None,
) -> OutageOutcome:
    """Take the store away for so many hours of the plant's time, and see what becomes of the readings.

    Args:
        folder: a new one; what the plant keeps stays there.
        machines, every_s: so many send a reading every so many seconds of the plant's time.
        per_s: readings a second of real time: how quickly the plant's time passes follows from it.
        drain_per_s: readings a second that may land.
        progress: told the share of the outage that is over.
    """
    readings = round(hours * 3600 / every_s) * machines
    with Works(folder, segment_mib=1.0, drain_per_s=drain_per_s, max_mib=max_mib) as works:
        tell_clock(works.orders_folder, offset_s=-hours * 3600)
        works.start()
        works.commissioned()
        witness = Witness(works.broker.port, SITE, works.version)
        sending = Machines(
            works.broker.port,
            SITE,
            works.version,
            count=machines,
            per_s=per_s,
            seed=seed,
            now=ToldClock(works.orders_folder).now,
            waiting=round(_WAITING_S * per_s),
        )
        try:
            works.until(lambda: works.ask()["spool"]["landed"] > 0)
            outage = _Outage(works, sending, witness)
            gone = outage.store_gone(readings, speed=hours * 3600 * per_s / readings, progress=progress)
            drained = outage.drain(gone["gathered"])
            return outage.end(gone | drained, drain_per_s)
        finally:
            sending.close()
            witness.close()


class _Outage:
    def __init__(self, works: Works, sending: Machines, witness: Witness) -> None:
        self._works, self._sending, self._witness = works, sending, witness
        self._clock = ToldClock(works.orders_folder)
        self.violations: list[str] = []

    def store_gone(self, readings: int, *, speed: float, progress: Callable[[float], None]) -> dict[str, Any]:
        """The plant's time runs, and nothing lands, until so many more readings were sent."""
        works, sending, began = self._works, self._sending, time.time()
        day = self._clock.now()
        offset_s = self._offset_s()
        with works.store_gone():
            before, sent = works.ask(), sending.sent
            tell_clock(works.orders_folder, offset_s=offset_s, speed=speed, since_s=time.time())
            while (share := (sending.sent - sent) / readings) < 1.0:
                progress(share)
                if time.time() > began + _MOST_S:
                    self.violations.append(f"after {_MOST_S:g} s {share:.0%} of the readings were sent")
                    break
                works.until(lambda: True)  # it has not ended
                time.sleep(_LOOK_S)
            sending.rest()
            if not sending.drain(_MOST_S):
                self.violations.append(f"{sending.waiting} readings were not acknowledged while the store was gone")
            tell_clock(works.orders_folder, offset_s=self._offset_s())
            told = works.ask()
        return {
            "hours": round((self._clock.now() - day).total_seconds() / 3600, 1),
            "seconds": round(time.time() - began, 1),
            "gathered": told["spool"]["kept"] - told["spool"]["landed"],
            "spool_mib": round(told["spool"]["bytes"] / (1 << 20), 2),
            "due": _due(told) - _due(before),
            "answered": sum(told["served_by"].values()) - sum(before["served_by"].values()),
        }

    def drain(self, gathered: int) -> dict[str, Any]:
        """Until all that has gathered has landed; a machine goes on meanwhile."""
        works, began, live_most_s = self._works, time.monotonic(), 0.0
        end = works.ask()["spool"]["kept"]
        gathered_at = spooled_at(works.folders)
        while (landed := works.ask()["spool"]["landed"]) < end:
            at = time.monotonic()
            if at - began > _MOST_S:
                self.violations.append(f"after {_MOST_S:g} s {end - landed} have not landed")
                break
            machine, session, seq = self._sending.one_more()
            works.until(partial(self._witness.has, machine, session, seq))
            live_most_s = max(live_most_s, time.monotonic() - at)
            self._oldest_first(gathered_at)
        drained_s = time.monotonic() - began
        return {
            "drained_s": round(drained_s, 1),
            "drained_per_s": round(gathered / drained_s),
            "live_most_s": round(live_most_s, 3),
        }

    def end(self, told: Mapping[str, Any], drain_per_s: float) -> OutageOutcome:
        """Send some more that land at once, and look for everything."""
        works, sending = self._works, self._sending
        for _ in range(_AFTERWARDS):
            sending.one_more()
        if not sending.drain(_MOST_S):
            self.violations.append(f"{sending.waiting} readings were never acknowledged")
        works.until(lambda: works.ask()["spool"]["waiting"] == 0)
        answered_p99_s = works.ask()["answered_p99_s"]
        if (code := works.stop()) != 0:
            self.violations.append(f"the gateway ended with {code}")
        found = whereabouts(works.plant, works.folders)
        (by_position,) = reconcile_site(works.plant).values()
        missing = len(sending.ids() - found.everywhere) if not sending.waiting else 0
        missing, twice = max(missing, by_position.missing), max(len(found.twice), by_position.twice)
        late = Counter(
            was for _, was in rows_of(works.plant.landing("pump").path("telemetry"), READING_ID, IS_HISTORICAL)
        )
        outcome = OutageOutcome(
            **told,
            drain_per_s=drain_per_s,
            answered_p99_s=answered_p99_s,
            historical=late[True],
            live=late[False],
            acknowledged=sending.sent - sending.waiting,
            stored=len(found.stored),
            dead_lettered=len(found.dead_lettered),
            spooled=len(found.spooled - {*found.stored, *found.dead_lettered}),
            missing=missing,
            twice=twice,
            violations=self.violations,
        )
        self.violations += list(_broken(outcome))
        return outcome

    def _offset_s(self) -> float:
        return self._clock.now_us() / 1e6 - time.time()

    def _oldest_first(self, gathered_at: Mapping[str, int]) -> None:
        """What has landed is what stands first in the spool.

        Args:
            gathered_at: reading → position, of those that were there when the store came back.
        """
        folders = self._works.folders
        landed = LandingNote.read(folders.landing).landed
        found = whereabouts(self._works.plant, folders)
        after = LandingNote.read(folders.landing)
        landing = max(after.landed, after.open.last if after.open is not None else 0)
        there = {*found.stored, *found.dead_lettered}
        # Between the two it may have landed while the tables were looked at.
        sure = [(name, at) for name, at in gathered_at.items() if not landed <= at < landing]
        self.violations += [
            f"{name}, number {at} in the spool, has {'landed' if name in there else 'not landed'}, as of {landed}"
            for name, at in sure
            if (name in there) != (at < landed)
        ]


def _due(told: Mapping[str, Any]) -> int:
    """Readings that an answer is due for: one that is late changes nothing that is known of its machine."""
    kept: int = told["messages"].get("kept", 0)
    return kept - int(told["flags"].get(reasons.LATE, 0))


def _broken(outcome: OutageOutcome) -> Iterator[str]:
    if outcome.missing or outcome.twice:
        yield f"{outcome.missing} readings are missing, {outcome.twice} are there twice"
    if outcome.acknowledged != outcome.stored + outcome.dead_lettered + outcome.spooled:
        yield "what was acknowledged is not what was found"
    if outcome.answered < outcome.due:
        yield f"{outcome.due - outcome.answered} readings were answered by nobody"
    if outcome.drained_per_s > outcome.drain_per_s:
        yield f"{outcome.drained_per_s} readings a second landed where {outcome.drain_per_s:g} may"
    if outcome.historical < outcome.gathered * _HISTORICAL or not outcome.live:
        yield f"{outcome.historical} readings are marked as historical, {outcome.live} are not"
