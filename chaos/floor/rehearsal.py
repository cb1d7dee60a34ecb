"""A rehearsal of a plant's floor: machines send, faults befall gateway, porter, broker, line, disk and clock, and every
reading that was acknowledged is looked for by its id."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from backbone.errors import HybridError
from chaos.floor.machines import Machines, Witness
from chaos.floor.process import tell_clock
from chaos.floor.scenario import FloorFault, FloorScenario
from chaos.floor.strikes import Strike, When
from chaos.floor.whereabouts import Whereabouts, whereabouts
from chaos.floor.works import SITE, GatewayEnded, Works
from gateway.frames import FILE_HEAD, FRAME_HEAD
from gateway.reconciliation import reconcile_site
from gateway.spool import SpoolReader

PER_S = 60.0
"""Readings that machines send a second, of all together."""
_COMES_S = 5.0
"""A step that has not come by then comes at a start."""
_RECOVERS_S = 45.0
_SETTLES_S = 90.0
_CHECKS = 50
"""How often ids are looked for in the course of a rehearsal, at most."""
_FURTHER = 1 << 62
"""A position after every one."""
_MOST_STARTS = 5
_BY_CHANCE = 0.25
"""So many of the kills hit a process at any time, in place of at a step, once every step was hit."""
_TOLD_SECOND = "Another process has the spool"
_AT_START = ("new address *", "other *", "spool truncate", "new state *")
"""Steps that do not come while a process is at work; others that do not are found out."""
_DISK_STEPS = ("spool write", "spool sync", "new spool *", "spool sync_folder", "new sequences *")


@dataclass(frozen=True, slots=True)
class FloorOutcome:
    """What a rehearsal of a plant's floor showed.

    Attributes:
        acknowledged: readings whose machines were told, by the gateway, that it has them.
        stored, dead_lettered, spooled: where they were found in the end, by id, each once.
        damaged: kept, and lost with the page of the spool that a fault of the rehearsal overwrote; but for those that
            were sent again.
        missing: acknowledged, and nowhere, at any time ids were looked for.
        twice: stored or dead-lettered more than once, by id or by position.
        by_fault: kind → how many were planned (`faults`), and how many struck (`struck`).
        by_step: `<process> <step> <when>` → how often a process died there.
        never_struck: steps that a process took, at which none died.
        recovered_median_s, recovered_most_s: from the end of a fault to the acknowledgement of a reading sent then.
        violations: what did not hold; empty where all is well.
    """

    scenario: str
    seed: int
    faults: int
    acknowledged: int
    stored: int
    dead_lettered: int
    spooled: int
    damaged: int
    missing: int
    twice: int
    by_fault: dict[str, dict[str, int]]
    by_step: dict[str, int]
    never_struck: list[str]
    recovered_median_s: float | None
    recovered_most_s: float | None
    violations: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def rehearse_floor(
    folder: Path, scenario: FloorScenario, *, progress: Callable[[float], None] = lambda _: None
) -> FloorOutcome:
    """Let the faults befall a plant's floor, and see where the readings are.

    Args:
        folder: a new one; what the plant keeps stays there.
        progress: told the share of the faults that are over.
    """
    with Works(folder) as works:
        play = _Play(works, scenario)
        try:
            play.begin()
            for number, fault in enumerate(scenario.faults):
                play.befall(fault)
                if number % max(1, len(scenario.faults) // _CHECKS) == 0:
                    play.check()
                progress((number + 1) / len(scenario.faults))
            return play.end()
        finally:
            play.close()


class _Play:
    def __init__(self, works: Works, scenario: FloorScenario) -> None:
        self._works, self._scenario = works, scenario
        self._chance = random.Random(f"play:{scenario.seed}")  # noqa: S311 - faults need no secrecy
        self.violations: list[str] = []
        self._planned: Counter[str] = Counter()
        self._struck: Counter[str] = Counter()
        self._recovered_s: list[float] = []
        self._missing: set[str] = set()
        self._damaged: set[str] = set()
        self._at_start = {*_AT_START}
        self._asked: Counter[tuple[str, str, When]] = Counter()
        """Where processes were to die. Some steps come once in a plant's life, or after a death at the right place."""
        self._witness = Witness(works.broker.port, SITE, works.version)
        self._machines = Machines(works.broker.port, SITE, works.version, per_s=PER_S, seed=scenario.seed)

    def begin(self) -> None:
        self._serve()
        self._recovered()
        self._works.until(lambda: self._works.ask()["spool"]["landed"] > 0)
        self._works.commissioned()

    def close(self) -> None:
        self._machines.close()
        self._witness.close()

    def befall(self, fault: FloorFault) -> None:
        """Let it come and go, and wait until the gateway acknowledges again."""
        self._planned[fault.kind] += 1
        try:
            self._struck[fault.kind] += getattr(self, f"_{fault.kind}")(fault)
        except GatewayEnded:
            pass  # of a disk that failed at the wrong time, say: it is started again
        except (HybridError, OSError) as error:
            self.violations.append(f"{fault.kind}: {error}")
        self._recovered()

    # Processes.

    def _serve(self) -> None:
        for _ in range(_MOST_STARTS):
            if self._works.running or self._works.start():
                return
        self.violations.append(f"the gateway did not start {_MOST_STARTS} times: {self._works.log[-500:]}")

    def _recovered(self) -> None:
        began = time.monotonic()
        self._serve()
        machine, session, seq = self._machines.one_more()
        while not self._witness.has(machine, session, seq):
            if not self._works.running:
                self._serve()
            if time.monotonic() - began > _RECOVERS_S:
                self.violations.append(f"after {_RECOVERS_S:g} s nothing is acknowledged: {self._machines.trouble}")
                return
            time.sleep(0.01)
        self._recovered_s.append(time.monotonic() - began)

    def _gateway_killed(self, fault: FloorFault) -> bool:
        works, orders = self._works, self._works.orders
        strike = self._strike("gateway", fault)
        if strike is None:
            time.sleep(self._chance.random() / 2)
            works.kill()
            return True
        orders.order("gateway", strike)
        if not self._comes_at_start(strike):
            self._wait(lambda: not works.running, _COMES_S)
        if works.running:
            self._at_start.add(strike.step)
            works.kill()
            works.start()
            orders.withdraw("gateway")
        return True

    def _porter_killed(self, fault: FloorFault) -> bool:
        orders = self._works.orders
        struck = orders.look()
        strike = self._strike("porter", fault) or Strike("*", self._chance.randrange(20))
        orders.order("porter", strike)
        came = not self._comes_at_start(strike) and self._wait(lambda: orders.look() > struck, _COMES_S)
        if not came:
            self._at_start.add(strike.step)
            self._works.kill_porter()
            self._wait(lambda: orders.look() > struck, 2 * _COMES_S)
        orders.withdraw("porter")
        return True

    def _comes_at_start(self, strike: Strike) -> bool:
        return any(fnmatchcase(strike.step, name) for name in self._at_start)

    def _strike(self, who: str, fault: FloorFault) -> Strike | None:
        """At the step that was asked for least often, of those that were seen. None: at any time; sometimes, once all
        were asked for."""
        asked = self._asked
        self._works.orders.look()
        if fault.step is not None:
            moments: list[tuple[str, When]] = [(fault.step, fault.when or "before")]
        else:
            moments = [m for step in sorted(self._works.orders.steps[who]) for m in _moments(who, step)]
        fewest = min(asked[who, *moment] for moment in moments)
        if fault.step is None and fewest > 0 and self._chance.random() < _BY_CHANCE:
            return None
        step, when = self._chance.choice([m for m in moments if asked[who, *m] == fewest])
        asked[who, step, when] += 1
        return Strike(step, 0 if fewest == 0 else self._chance.randrange(3), when)

    def _died(self) -> Counter[tuple[str, str, When]]:
        notes = self._works.orders.struck
        return Counter((n.who, n.step, n.when or "before") for n in notes if n.what == "kill")  # type: ignore[misc]

    # Disks.

    def _disk_full(self, fault: FloorFault) -> bool:
        return self._disk_errs(Strike("* write", 0, "within", "ENOSPC", 1 << 30), fault.seconds)

    def _disk_error(self, fault: FloorFault) -> bool:
        step = fault.step or self._chance.choice(_DISK_STEPS)
        when: When = "within" if step.endswith("write") else self._chance.choice(("before", "after"))
        return self._disk_errs(Strike(step, 0, when, "EIO", fault.errors), _COMES_S)

    def _disk_errs(self, strike: Strike, seconds: float) -> bool:
        orders = self._works.orders
        struck = orders.look()
        orders.order("gateway", strike)
        self._wait(lambda: orders.look() >= struck + strike.times or not self._works.running, seconds)
        orders.withdraw("gateway")
        return orders.look() > struck

    def _disk_lies(self, _: FloorFault) -> bool:
        """It says that it has what it has not, and nobody can know: the report must tell that it is missing."""
        return self._disk_errs(Strike("spool write", 0, "before", "lie"), 4 * _COMES_S)

    def _torn_page(self, _: FloorFault) -> bool:
        """What a power cut leaves of an append that nobody was told of: the first half of a frame, or any bytes."""
        self._works.kill()
        newest = self._pages()[-1]
        data = newest.read_bytes()
        half = data[FILE_HEAD : FILE_HEAD + FRAME_HEAD + self._chance.randrange(100)]
        with newest.open("ab") as stream:
            stream.write(half if self._chance.random() < 0.5 and half else self._chance.randbytes(300))
        self._serve()
        if not list(self._works.folders.spool.glob("*.torn")):
            self.violations.append("a torn page was not kept beside the spool")
        return True

    def _corrupt_page(self, _: FloorFault) -> bool:
        """A byte of a record that has not landed is changed on the disk: it is lost, no other is, and it is told."""
        works = self._works
        works.kill()
        works.porter_gone()
        works.start(porter=False)
        since = works.ask()["spool"]["kept"]
        works.until(lambda: works.ask()["spool"]["kept"] > since + 40)
        works.kill()
        records = dict(SpoolReader(works.folders.spool).read(since, _FURTHER))
        before = whereabouts(works.plant, works.folders)
        page, at = self._place_of(self._chance.choice(list(records.values())))
        with page.open("r+b") as stream:
            stream.seek(at)
            byte = stream.read(1)[0]
            stream.seek(at)
            stream.write(bytes([byte ^ 0xFF]))
        works.start(porter=False)
        told = works.ask()["spool"]["gaps"]
        works.kill()
        lost = before.everywhere - whereabouts(works.plant, works.folders).everywhere
        self._damaged |= lost
        if len(lost) != 1:
            self.violations.append(f"one damaged byte cost {len(lost)} readings")
        reader = SpoolReader(works.folders.spool)
        deque(reader.read(since, _FURTHER), maxlen=0)
        if not told and not reader.gaps:
            self.violations.append("a damaged page was told by nobody")
        return True

    def _pages(self) -> list[Path]:
        return sorted(self._works.folders.spool.glob("*.spool"))

    def _place_of(self, record: bytes) -> tuple[Path, int]:
        for page in reversed(self._pages()):  # an older one may still hold what a start has carried over
            if (at := page.read_bytes().find(record)) >= 0:
                return page, at
        raise FileNotFoundError("no page holds the record")

    # Broker and line.

    def _broker_restarted(self, _: FloorFault) -> bool:
        self._works.broker.kill()
        self._works.broker.start()
        return True

    def _broker_down(self, fault: FloorFault) -> bool:
        self._works.broker.kill()
        time.sleep(fault.seconds)
        self._works.broker.start()
        return True

    def _broker_flapping(self, fault: FloorFault) -> bool:
        for _ in range(fault.flaps):
            self._broker_restarted(fault)
            time.sleep(self._chance.uniform(0, 0.3))
        return True

    def _line_reset(self, _: FloorFault) -> bool:
        self._works.line.reset()
        self._works.line.passing()
        return True

    def _line_half_open(self, fault: FloorFault) -> bool:
        """Nobody is told that the line is gone; then what was swallowed is never delivered."""
        self._chance.choice((self._works.line.blackhole, self._works.line.mute))()
        time.sleep(fault.seconds)
        return self._line_reset(fault)

    # All else.

    def _clock_step(self, fault: FloorFault) -> bool:
        tell_clock(self._works.orders_folder, offset_s=fault.by_s)
        self._recovered()
        tell_clock(self._works.orders_folder)
        return True

    def _second_gateway(self, _: FloorFault) -> bool:
        code, said = self._works.second()
        if code != 2 or _TOLD_SECOND not in said:
            self.violations.append(f"a second gateway ended with {code}: {said[-300:]}")
        if not self._works.running:
            self.violations.append("a second gateway ended the first")
        return True

    def _store_gone(self, fault: FloorFault) -> bool:
        """Nothing lands, all else goes on."""
        with self._works.store_gone():
            self._recovered()
            time.sleep(fault.seconds)
        return True

    @staticmethod
    def _wait(condition: Callable[[], bool], seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    # What must hold.

    def check(self) -> Whereabouts:
        """Look for every reading that has been acknowledged by now."""
        acknowledged = self._witness.acknowledged()
        if not self._machines.waiting:
            acknowledged |= self._machines.ids()
        found = whereabouts(self._works.plant, self._works.folders)
        self._missing |= acknowledged - found.everywhere - self._damaged
        return found

    def end(self) -> FloorOutcome:
        works = self._works
        self._machines.rest()
        if not self._machines.drain(_SETTLES_S):
            self.violations.append(f"{self._machines.waiting} readings were never acknowledged")
        try:
            works.until(lambda: works.ask()["spool"]["waiting"] == 0, _SETTLES_S)
        except HybridError:
            self.violations.append(f"after {_SETTLES_S:g} s not all has landed: {works.ask()['spool']}")
        if (code := works.stop()) != 0:
            self.violations.append(f"the gateway ended with {code}")
        found = self.check()
        (told,) = reconcile_site(works.plant).values()
        landed = {*found.stored, *found.dead_lettered}
        if self._missing:
            self.violations.append(f"acknowledged and nowhere: {', '.join(sorted(self._missing)[:10])}")
        if told.missing != len(self._damaged):
            self.violations.append(f"by position {told.missing} are missing, {len(self._damaged)} were damaged")
        twice = max(len(found.twice), told.twice)
        if twice:
            self.violations.append(f"there twice: {', '.join([*found.twice, *told.twice_ids][:10])}")
        return self._outcome(found, len(found.spooled - landed), twice)

    def _outcome(self, found: Whereabouts, spooled: int, twice: int) -> FloorOutcome:
        died, steps = self._died(), self._works.orders.steps
        taken = {(who, *moment) for who, names in steps.items() for step in names for moment in _moments(who, step)}
        median, most = (f(self._recovered_s) if self._recovered_s else None for f in (statistics.median, max))
        return FloorOutcome(
            scenario=self._scenario.name,
            seed=self._scenario.seed,
            faults=len(self._scenario.faults),
            acknowledged=self._machines.sent - self._machines.waiting,
            stored=len(found.stored),
            dead_lettered=len(found.dead_lettered),
            spooled=spooled,
            damaged=len(self._damaged - found.everywhere),
            missing=len(self._missing),
            twice=twice,
            by_fault={k: {"faults": n, "struck": self._struck[k]} for k, n in sorted(self._planned.items())},
            by_step={" ".join(moment): n for moment, n in sorted(died.items())},
            never_struck=sorted(" ".join(moment) for moment in taken - set(died)),
            recovered_median_s=None if median is None else round(median, 3),
            recovered_most_s=None if most is None else round(most, 3),
            violations=self.violations,
        )


def _moments(who: str, step: str) -> list[tuple[str, When]]:
    """When a process dies at a step. Before the next one is after this one, but for what is not a step of the disk:
    a confirmed append is told to its senders after it."""
    if who == "gateway" and step == "spool sync":
        return [(step, "before"), (step, "after")]
    return [(step, "before"), (step, "within")] if step.endswith(" write") else [(step, "before")]
