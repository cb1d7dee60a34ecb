"""Gateways of a plant land into the same tables, and merge their files, while the power is cut: what one was told to
have landed does not rest on what the disk has not confirmed of another."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from backbone.errors import Transient
from gateway.disk_faults import PowerCut
from gateway.porter.porter import Porter
from resources.stores import upkeep
from tests.gateway.porter.cut_tables import CutTables
from tests.gateway.porter.floor import Floor, landings, letter, reading

LIVES, BURSTS = 6, 8


class Plant:
    """Two gateways whose porters come between each other's steps."""

    def __init__(self, root: Path, seed: int) -> None:
        self.floors = [Floor(root, fleets={"pump": ("P-*",)}, name=name) for name in ("gw-1", "gw-2")]
        self._chance = random.Random(seed)  # noqa: S311 - moments, not secrets
        tables = [self.floors[0].landing("pump").path("telemetry"), self.floors[0].letters.path]
        self.tables = CutTables(root, tables, root / "disk", seed)
        self.sent = [0, 0]
        self.told: list[int] = [0, 0]
        self.cuts = 0
        self._porters: list[Porter] = []
        self._busy: set[int] = set()

    def live(self) -> None:
        """From a start until the power is cut."""
        try:
            self._start()
            self.tables.cut_after(self._chance.randrange(150))
            for _ in range(BURSTS):
                self._do(self._chance.randrange(2))
        except PowerCut:
            self.cuts += 1
        finally:
            self._stop()
        self.tables.cut()

    def end(self) -> None:
        """A start after which all is left to land."""
        self._busy = {0, 1}
        self._start()
        for porter, sent in zip(self._porters, self.sent, strict=True):
            list(landings(porter, sent))
        self._stop()

    def _start(self) -> None:
        self._porters = []
        for n in self._chance.sample(range(2), 2):
            if self._chance.random() < 0.2:
                self.floors[n].folders.landing.unlink(missing_ok=True)
            self._porters.append(self.floors[n].porter(self._between(n)))
        self._porters.sort(key=lambda porter: porter._settings.name)

    def _stop(self) -> None:
        for porter in self._porters:
            porter.close()
        self._busy.clear()

    def _between(self, n: int) -> Callable[[str], None]:
        def reached(_: str) -> None:
            if len(self._porters) == 2 and self._chance.random() < 0.4:
                self._do(1 - n)

        return reached

    def _do(self, n: int) -> None:
        """Something by one porter, if it is not within something else."""
        if n in self._busy:
            return
        self._busy.add(n)
        with suppress(Transient):
            if self._chance.random() < 0.3:
                self._porters[n].tidy()
            else:
                first = self.sent[n]
                more = [letter(k) if k % 4 == 3 else reading(k, source=f"s{n}") for k in range(first, first + 3)]
                self.sent[n] = self.floors[n].spool(more)
                self.told[n] = self._porters[n].land(self.sent[n]).position
        self._busy.remove(n)


@pytest.mark.parametrize("seed", [1, 5, 6, 19, 27])
def test_what_has_landed_is_there_and_once_whenever_the_power_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(upkeep, "MANY_FILES", 2)
    plant = Plant(tmp_path, seed)
    with plant.tables.asked(monkeypatch):
        for _ in range(LIVES):
            plant.live()
        plant.end()
    for floor, sent in zip(plant.floors, plant.sent, strict=True):
        there = Counter(position for positions in floor.positions().values() for position in positions)
        assert sorted({*range(sent)} - {*there}) == [], "missing"
        assert there.total() == sent, "twice"
    assert plant.cuts >= 2, "in the middle of something"
    plant.tables.disk.dispose()


def test_what_another_porter_takes_back_has_not_landed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk tells of an error once, to who asks first: here not to who made the file."""
    plant = Plant(tmp_path, 1)
    one, other = plant.floors
    up_to, of_other = one.spool([reading(0), letter(1)]), other.spool([reading(0, source="s"), letter(1)])
    porter_of_other = other.porter()

    def reached(step: str) -> None:
        if step == "landed pump":
            plant.tables.disk.fail("sync")
            with pytest.raises(Transient, match="does not confirm"):
                porter_of_other.land(of_other)

    with plant.tables.asked(monkeypatch):
        porter = one.porter(reached)
        with pytest.raises(Transient, match="took back"):
            porter.land(up_to)
        assert porter.position == 0
        porter.close()
        one.land(up_to)
        porter_of_other.land(of_other)
        porter_of_other.close()
        plant.tables.cut()
    assert one.positions() == other.positions() == {"pump": [0], "dead_letters": [1]}
    plant.tables.disk.dispose()
